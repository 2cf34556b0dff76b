"""A server that answers what a test wrote down: for the clients against other servers than ours, failures, and lies."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


@dataclass
class Answer:
    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Script:
    """Answers in the order in which they are given, and what was asked."""

    url: str = ""
    answers: list[Answer] = field(default_factory=list)
    asked: list[tuple[str, str, dict[str, str], Any]] = field(default_factory=list)

    def say(self, status: int, body: Any = None, **headers: str) -> None:
        told = {name.replace("_", "-"): text.replace("HERE", self.url) for name, text in headers.items()}
        self.answers.append(Answer(status, json.loads(json.dumps(body).replace("HERE", self.url)), told))

    @property
    def lines(self) -> list[str]:
        return [f"{method} {path.partition('?')[0]}" for method, path, _, _ in self.asked]


@pytest.fixture
def script() -> Iterator[Script]:
    script = Script()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            sent = self.rfile.read(size)
            body = json.loads(sent) if sent.startswith(b"{") else sent.decode()
            script.asked.append((self.command, self.path, dict(self.headers.items()), body))
            answer = script.answers.pop(0) if script.answers else Answer(410)
            text = b"" if answer.body is None else json.dumps(answer.body).encode()
            self.send_response(answer.status)
            for name, value in {**answer.headers, "Content-Length": str(len(text))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_PUT = do_PATCH = do_DELETE = do_POST = answer

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    script.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield script
    server.shutdown()
    server.server_close()
    thread.join()

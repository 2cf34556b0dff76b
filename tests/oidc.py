"""A small OpenID Connect issuer on loopback: its keys rotate, and it can hang, lie and misbehave."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
Answer = tuple[int, dict[str, str], bytes]

CONFIGURATION, KEYS = "/.well-known/openid-configuration", "/keys"
AUDIENCE = "api://carrel"
_RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)  # half a second each: most tests do with one


class LocalIssuer:
    """What it answers is `answers`, by path, and its own documents otherwise; `asked` counts requests by path."""

    def __init__(self) -> None:
        self.keys: dict[str, Key] = {"first": _RSA}
        self.answers: dict[str, Callable[[], Answer]] = {}
        self.asked: dict[str, int] = {}
        self.issuer = ""
        self.usual: dict[str, Any] = {}  # claims of every token that says nothing else

    # -- documents ---------------------------------------------------------------------------------------------------

    def configuration(self, **fields: Any) -> bytes:
        return json.dumps({"issuer": self.issuer, "jwks_uri": self.issuer + KEYS, **fields}).encode()

    def jwks(self) -> dict[str, Any]:
        return {"keys": [{**public(key), "kid": name, "use": "sig"} for name, key in self.keys.items()]}

    def answer(self, path: str) -> Answer:
        self.asked[path] = self.asked.get(path, 0) + 1
        if path in self.answers:
            return self.answers[path]()
        if path == CONFIGURATION:
            return 200, {}, self.configuration()
        return (200, {}, json.dumps(self.jwks()).encode()) if path == KEYS else (404, {}, b"")

    def says(self, path: str, body: bytes, status: int = 200, **headers: str) -> None:
        self.answers[path] = lambda: (status, {name.replace("_", "-"): value for name, value in headers.items()}, body)

    def hangs(self, seconds: float) -> None:
        def answer() -> Answer:
            time.sleep(seconds)
            return 200, {}, self.configuration()

        self.answers[CONFIGURATION] = answer

    # -- tokens ------------------------------------------------------------------------------------------------------

    def claims(self, **more: Any) -> dict[str, Any]:
        """Of somebody new; a claim that is None is left out."""
        now = int(time.time())
        base = {
            "iss": self.issuer,
            "aud": AUDIENCE,
            "iat": now,
            "nbf": now,
            "exp": now + 600,
            "oid": str(uuid.uuid4()),
            "sub": "s",
        }
        return {name: value for name, value in {**base, **self.usual, **more}.items() if value is not None}

    def token(
        self, key: str = "first", *, alg: str = "RS256", header: dict[str, Any] | None = None, **claims: Any
    ) -> str:
        return jwt.encode(self.claims(**claims), self.keys[key], algorithm=alg, headers={"kid": key, **(header or {})})

    def rotate(self, name: str, key: Key | None = None) -> None:
        self.keys[name] = key or rsa.generate_private_key(public_exponent=65537, key_size=2048)


def public(key: Key) -> dict[str, Any]:
    algorithm = RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else ECAlgorithm
    fields: dict[str, Any] = json.loads(algorithm.to_jwk(key.public_key()))  # type: ignore[arg-type]
    fields.pop("key_ops", None)
    return fields


@contextmanager
def serving() -> Iterator[LocalIssuer]:
    made = LocalIssuer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = made.answer(self.path)
            self.send_response(status)
            for name, value in {
                "content-type": "application/json",
                "content-length": str(len(body)),
                **headers,
            }.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                self.wfile.write(body)
            except OSError:  # who asked has gone
                self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    made.issuer = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


@pytest.fixture
def local_issuer() -> Iterator[LocalIssuer]:
    with serving() as made:
        yield made

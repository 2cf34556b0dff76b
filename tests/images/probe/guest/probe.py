"""A guest that is a program: docs/reference/guests.md in sixty lines. Cells are Python; names stay, the last expression is the value."""

from __future__ import annotations

import ast
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import traceback
from collections.abc import Iterator
from typing import Any

control = socket.socket(fileno=3)
control.set_inheritable(False)
names: dict[str, Any] = {"__name__": "__main__"}


def send(header: dict[str, Any], payload: bytes = b"") -> None:
    text = json.dumps(header).encode()
    control.sendall(struct.pack(">II", len(text), len(payload)) + text + payload)


def frames() -> Iterator[tuple[dict[str, Any], bytes]]:
    file = control.makefile("rb")
    while head := file.read(8):
        header, payload = struct.unpack(">II", head)
        yield json.loads(file.read(header)), file.read(payload)


def run_shell(command: dict[str, Any]) -> int:
    argv = command.get("argv") or [command.get("shell", "bash"), "-c", command["command"]]
    stdin = command.get("stdin", "").encode()
    status = subprocess.run(argv, input=stdin, check=False).returncode
    return status if status >= 0 else 128 - status


def run_code(code: str) -> object:
    tree = ast.parse(code)
    last = tree.body[-1] if tree.body else None
    if not isinstance(last, ast.Expr):
        exec(compile(tree, "cell", "exec"), names)  # noqa: S102 - what a guest is for
        return None
    del tree.body[-1]
    exec(compile(tree, "cell", "exec"), names)  # noqa: S102
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names)  # noqa: S307


def answer(number: int, kind: str, body: str) -> None:
    done: dict[str, Any] = {"done": number, "outcome": "ok"}
    value = b'{"kind":"absent"}'
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        if kind == "shell":
            done["exit"] = run_shell(json.loads(body))
            done["outcome"] = "ok" if done["exit"] == 0 else "error"
        elif (result := run_code(body)) is not None:
            kind = "container" if isinstance(result, (list, dict)) else "scalar"
            value = json.dumps({"kind": kind, "json": result, "text": repr(result)}).encode()
    except BaseException as error:
        if isinstance(error, SystemExit):
            raise
        trace = error.__traceback__  # without our own frames, of which there are two
        traceback.print_exception(type(error), error, trace and trace.tb_next and trace.tb_next.tb_next)
        done["outcome"] = "interrupted" if isinstance(error, KeyboardInterrupt) else "error"
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.stdout.flush()
    sys.stderr.flush()
    send({"value": number}, value)
    send(done)


signal.signal(signal.SIGINT, signal.SIG_IGN)
send({"ready": 1})
body = b""
for header, payload in frames():
    if "env" in header:
        os.environ.update(json.loads(payload))
    elif "variables" in header:
        names.update(json.loads(payload))
    elif "run" in header:
        body += payload
        if not header.get("more"):
            text, body = body.decode(), b""
            answer(header["run"], header.get("kind", "code"), text)

"""IPython's `run_cell` behind a Unix socket: a line of JSON each way. Run with the image's Python; standard library and IPython only.

interpreter.py SOCKET
"""

from __future__ import annotations

import contextlib
import io
import json
import socket
import sys
from typing import Any

from IPython.core.interactiveshell import InteractiveShell  # type: ignore[import-not-found]
from traitlets.config import Config  # type: ignore[import-not-found]


def answer(shell: InteractiveShell, request: dict[str, Any]) -> dict[str, Any]:
    stdout, stderr = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        result = shell.run_cell(request["code"], store_history=False)
    status = "Succeeded" if result.success else "Failed"
    return {"status": status, "result": result.result, "stdout": stdout.getvalue(), "stderr": stderr.getvalue()}


def main(path: str) -> None:
    config = Config()
    config.HistoryManager.enabled = False
    shell = InteractiveShell.instance(config=config)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(1)
        connection, _ = listener.accept()
    pending = b""
    while data := connection.recv(65_536):
        pending += data
        while b"\n" in pending:
            line, _, pending = pending.partition(b"\n")
            connection.sendall(json.dumps(answer(shell, json.loads(line))).encode() + b"\n")


if __name__ == "__main__":
    main(sys.argv[1])

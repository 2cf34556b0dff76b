"""What all calls to the host have in common, on the client's side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from carrel.guest.frames import Header
from carrel.host.line import Lines, with_body


class Caller:
    def __init__(self, path: Path) -> None:
        self._lines = Lines(path)

    async def close(self) -> None:
        """Let the idle connections go. Calls under way end on their own."""
        self._lines.close()

    async def _call(self, request: Header, payload: bytes = b"") -> tuple[Header, bytes]:
        """One call whose answer is small, or at least wanted whole."""
        async with self._lines.open() as line:
            line.write(*with_body(request, payload))
            header, data = await line.read_answer()
            if "end" in header:
                return header, data
            pieces = [data]
            while "end" not in header:
                header, data = await line.read_answer()
                pieces.append(data)
            return header, b"".join(pieces)


def request_of(op: str, pool: str, identifier: str, **args: Any) -> Header:
    return {"op": op, "pool": pool, "identifier": identifier, **args}

"""What all calls to the host have in common, on the client's side."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from carrel.guest.frames import Header
from carrel.host.line import Lines


class Caller:
    def __init__(self, path: Path) -> None:
        self._lines = Lines(path)
        self._principal = ""

    def on_behalf_of(self, principal: str) -> Self:
        """The same connections, for calls of a principal (its object id): to it is counted what they use. Cheap: one for each request."""
        other = object.__new__(type(self))
        other._lines, other._principal = self._lines, principal
        return other

    async def close(self) -> None:
        """Let the idle connections go. Calls under way end on their own."""
        self._lines.close()

    async def _call(self, request: Header, payload: bytes = b"") -> tuple[Header, bytes]:
        """One call whose answer is small, or at least wanted whole."""
        async with self._lines.call(request, payload) as line:
            header, data = await line.read_answer()
            if "end" in header:
                return header, data
            pieces = [data]
            while "end" not in header:
                header, data = await line.read_answer()
                pieces.append(data)
            return header, b"".join(pieces)

    def _request(self, op: str, pool: str, identifier: str, **args: Any) -> Header:
        return request_of(op, pool, identifier, self._principal, **args)


def request_of(op: str, pool: str, identifier: str, principal: str = "", **args: Any) -> Header:
    """`principal`: whose call it is; "" for what is nobody's."""
    if not principal:
        return {"op": op, "pool": pool, "identifier": identifier, **args}
    return {"op": op, "pool": pool, "identifier": identifier, "principal": principal, **args}

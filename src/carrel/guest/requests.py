"""What the agent asks of a guest, put together from the frames of the control socket (docs/reference/guests.md)."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from carrel.guest import frames

_loads = json.loads  # whatever user code makes of it
_READ = 64 * 1024
_KINDS = ("run", "variables", "env")


class Environment(NamedTuple):
    """Variables of the session's environment, from now on."""

    variables: Mapping[str, str]


class Run(NamedTuple):
    """Something to run, with what to set before it and what to tell of after it."""

    number: int
    kind: str  # "code" or "shell"
    body: bytes
    variables: Mapping[str, Any]
    wanted: tuple[str, ...]
    has_summary: bool  # of all variables, in place of those wanted


def requests(control: socket.socket) -> Iterator[Run | Environment]:
    """One after the other as they come; ends with the socket."""
    decoder, receive, variables = frames.Decoder(), control.recv, {}
    bodies = {name: bytearray() for name in _KINDS}
    while data := receive(_READ):
        for header, payload in decoder.feed(data):
            name = next(name for name in _KINDS if name in header)
            bodies[name] += payload
            if header.get("more"):
                continue
            body = bytes(bodies[name])
            bodies[name].clear()
            if name == "env":
                yield Environment(_loads(body))
            elif name == "variables":
                variables = _loads(body)
            else:
                wanted = tuple(header.get("get", ()))
                yield Run(header["run"], header.get("kind", "code"), body, variables, wanted, "summary" in header)
                variables = {}

"""What the agent asks of a guest, put together from the frames of the control socket (their form is in docs/decisions/0023)."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from carrel.guest import frames

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


def requests(control: socket.socket) -> Iterator[Run | Environment]:
    """One after the other as they come; ends with the socket."""
    decoder, variables = frames.Decoder(), {}
    bodies = {name: bytearray() for name in _KINDS}
    while data := control.recv(_READ):
        for header, payload in decoder.feed(data):
            name = next(name for name in _KINDS if name in header)
            bodies[name] += payload
            if header.get("more"):
                continue
            body = bytes(bodies[name])
            bodies[name].clear()
            if name == "env":
                yield Environment(json.loads(body))
            elif name == "variables":
                variables = json.loads(body)
            else:
                wanted = tuple(header.get("get", ()))
                yield Run(header["run"], header.get("kind", "code"), body, variables, wanted)
                variables = {}

"""The spawner's `egress`: start the process that connects to the outside for sandboxes (`python -m carrel.egress`).

Started here and not by the host, since as root it takes an id of its own, which only root can give it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

from carrel.host.parts import Answer, Offspring, Operation, Request

# Its command line and little else: how to find Python's modules, and what the machine's resolver heeds.
_ENVIRONMENT = ("PATH", "LANG", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "RES_OPTIONS", "LOCALDOMAIN")


class Egress:
    """`uid` is the id that the process takes; None where it stays the spawner's."""

    def __init__(self, uid: int | None, offspring: Offspring) -> None:
        self._uid, self._offspring = uid, offspring

    @property
    def operations(self) -> Mapping[str, Operation]:
        return {"egress": self._start}

    @property
    def facts(self) -> Mapping[str, Any]:
        return {}

    def _start(self, _request: Request, descriptors: list[int]) -> Answer:
        """Descriptor: its end of the socket to the host."""
        (host,) = descriptors

        def run() -> None:
            os.set_inheritable(host, True)
            os.chdir("/")
            environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
            numbers = (host, -1 if self._uid is None else self._uid)
            arguments = [sys.executable, "-P", "-m", "carrel.egress", *map(str, numbers)]
            os.execve(sys.executable, arguments, environment)  # noqa: S606 - an exec is the point

        return {"pid": self._offspring.fork(run, [host])}, []

    def close(self) -> None:
        """The offspring's owner ends it."""

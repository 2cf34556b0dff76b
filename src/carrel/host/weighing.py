"""The spawner's `weigh`: what a sandbox's processes hold in memory, where no control group counts it.

The kernel shows it only to whoever may look into the processes. It walks their page tables for it, for as long as the code has made it
take, so a child does it. Numbers from /proc are all that it reads.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from functools import partial
from typing import Any

from carrel.backends import watcher
from carrel.host.parts import Answer, Offspring, Operation, Request


class Weighing:
    def __init__(self, offspring: Offspring) -> None:
        self._offspring = offspring

    @property
    def operations(self) -> Mapping[str, Operation]:
        return {"weigh": self._weigh}

    @property
    def facts(self) -> Mapping[str, Any]:
        return {}

    def _weigh(self, request: Request, descriptors: list[int]) -> Answer:
        """Descriptors: the processes that all others of the sandbox descend from. The child names the largest, if all are too much."""
        roots = [pid for pidfd in descriptors if (pid := watcher.pid_of(pidfd)) is not None]
        return {}, [self._offspring.aside(partial(_answer, roots, int(request["limit"])))]

    def close(self) -> None:
        pass


def _answer(roots: list[int], limit: int, host: socket.socket) -> None:
    host.send(json.dumps({"victim": watcher.largest_if_over(roots, limit)}).encode())

"""The spawner's `uplink`: start the process that gives the cell block a way out (`host/uplink.py`), for pools with raw egress.

It is no offspring that is killed with the spawner: it has to take back what it made, also when the spawner was killed.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from carrel.host.parts import Answer, Operation, Request

_ENVIRONMENT = ("PATH", "LANG", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
_END_S = 10


class Uplinks:
    """`block` opens a namespace of the cell block's by its name; `carve_outs` are ranges to open although they are not public."""

    def __init__(self, block: Callable[[str], int], carve_outs: Sequence[str]) -> None:
        self._block, self._carve_outs = block, carve_outs
        self._running: list[tuple[subprocess.Popen[bytes], socket.socket]] = []  # each with our end of its lifeline

    @property
    def operations(self) -> Mapping[str, Operation]:
        return {"uplink": self._start}

    @property
    def facts(self) -> Mapping[str, Any]:
        return {}

    def _start(self, _request: Request, _descriptors: list[int]) -> Answer:
        """Answers at once; the descriptor is the host's end of a socket, by which the process says that it is ready, or why not."""
        self._running = [(process, lifeline) for process, lifeline in self._running if process.poll() is None]
        host, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        lifeline, its_end = socket.socketpair()
        namespaces = [self._block(name) for name in ("net", "user")]
        passed = (theirs.fileno(), its_end.fileno(), *namespaces)
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "carrel.host.uplink", *map(str, passed), *self._carve_outs],
                pass_fds=passed,
                cwd="/",
                env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
                start_new_session=True,  # a Ctrl-C of the terminal's is no word to clean up
                stdin=subprocess.DEVNULL,
            )
        finally:
            theirs.close()
            its_end.close()
            for namespace in namespaces:
                os.close(namespace)
        self._running.append((process, lifeline))
        return {}, [host.detach()]

    def close(self) -> None:
        """Have all taken back, and wait for it."""
        for _process, lifeline in self._running:
            lifeline.close()
        for process, _lifeline in self._running:
            with contextlib.suppress(subprocess.TimeoutExpired):  # it goes on by itself
                process.wait(_END_S)

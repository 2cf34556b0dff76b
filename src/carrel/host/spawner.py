"""The spawner: the privileged part of Carrel, and a small one. It does at the host's word what the host has no right to.

It answers requests on a SEQPACKET socket, one at a time, a JSON object with descriptors each way; what it can do is in the modules
beside it, one part each (`parts.py`). It never reads a byte that came from a sandbox and runs no command line or path that the host made
up. When the host ends it ends, and by its death so does the cell block (parent-death signal, then the kernel kills the pid namespace);
what a part made is removed on an orderly end and swept by the next start otherwise.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import time
from typing import Any

from carrel.backends import ids
from carrel.backends.spawning import Setup
from carrel.errors import CarrelError
from carrel.guest import linux
from carrel.guest.template import MAX_DESCRIPTORS, MAX_MESSAGE
from carrel.host.block import Block
from carrel.host.builds import Builds
from carrel.host.egress import Egress
from carrel.host.groups import Groups
from carrel.host.kills import Kills
from carrel.host.parts import Answer, Offspring, Operation, Part
from carrel.host.uplinks import Uplinks
from carrel.host.wardens import Wardens
from carrel.host.weighing import Weighing


def _parts(setup: Setup, offspring: Offspring) -> list[Part]:
    """A line for each module with operations. They are ended in reverse order."""
    block = Block(setup)
    return [
        Groups(),
        Builds(setup.images, setup.wheels, offspring),
        block,
        Kills(ids.sessions(setup.state)),
        Weighing(offspring),
        Egress(ids.service(setup.state, "egress"), offspring),
        Uplinks(block.open_namespace, setup.egress_allow_private),
        Wardens(setup, offspring),
    ]


class Spawner:
    def __init__(self, host: socket.socket, setup: Setup) -> None:
        self._host = host
        self._offspring = Offspring()
        self._parts = _parts(setup, self._offspring)
        self._operations: dict[str, Operation] = {}
        for part in self._parts:
            self._operations |= part.operations

    def serve(self) -> None:
        """Until the host's end closes; then everything is ended."""
        poll = self._offspring.poll
        poll.register(self._host, select.POLLIN)
        try:
            self._reply({key: value for part in self._parts for key, value in part.facts.items()}, [])
            while True:
                for fd, _events in poll.poll():
                    if fd != self._host.fileno():
                        self._offspring.reap(fd)
                    elif not self._answer_one():
                        return
        finally:
            self._close()

    def _answer_one(self) -> bool:
        """Whether there was a request."""
        data, descriptors, _flags, _address = socket.recv_fds(
            self._host, MAX_MESSAGE, MAX_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
        )
        if not data:
            return False
        request, begin = json.loads(data), time.monotonic()
        try:
            answer, attached = self._perform(request, descriptors)
        finally:
            for fd in descriptors:
                os.close(fd)
        self._reply({"id": request["id"], "us": int((time.monotonic() - begin) * 1e6), **answer}, attached)
        return True

    def _perform(self, request: dict[str, Any], descriptors: list[int]) -> Answer:
        try:
            return self._operations[request["op"]](request, descriptors)
        except OSError as error:
            return {"error": f"{request['op']}: {error.strerror} {error.filename or ''}".strip()}, []
        except CarrelError as error:
            return {"error": f"{request['op']}: {error.message}"}, []
        except (LookupError, TypeError, ValueError) as error:
            return {"error": f"{request.get('op')}: not understood: {error!r}"}, []

    def _reply(self, message: dict[str, Any], descriptors: list[int]) -> None:
        socket.send_fds(self._host, [json.dumps(message).encode()], descriptors)
        for fd in descriptors:
            os.close(fd)

    def _close(self) -> None:
        self._offspring.close()
        for part in reversed(self._parts):
            part.close()


def main(host_fd: int, setup: Setup) -> None:
    linux.die_with_parent()
    linux.keep_only(host_fd)  # what an event loop left open would come as far as the templates
    os.umask(0o022)  # the host, which is another user, reads control groups
    # A Ctrl-C goes to the whole terminal group: the supervisor decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Spawner(socket.socket(fileno=host_fd), setup).serve()


if __name__ == "__main__":
    main(int(sys.argv[1]), Setup.from_json(sys.argv[2]))

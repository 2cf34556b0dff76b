"""The egress process: `python -m carrel.egress FD UID`, started by the spawner. It connects where sandboxes may.

The only part of Carrel that reads what sandboxes send *and* has a network, so it has nothing else: no privilege, as root an id of its
own that owns no file, no file of the state folder open. It dies with the spawner, and leaves when the host closes its socket.
"""

from __future__ import annotations

import resource
import signal
import socket
import sys

import uvloop

from carrel.egress.control import Control
from carrel.guest import linux


def main() -> None:
    descriptor, uid = map(int, sys.argv[1:])
    linux.die_with_parent()
    linux.keep_only(descriptor)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the host decides when this ends
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    linux.renounce(None if uid < 0 else uid)
    uvloop.run(Control(socket.socket(fileno=descriptor)).serve())


if __name__ == "__main__":
    main()

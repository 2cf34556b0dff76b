"""The socket that gateways come in by, and who they are.

It is made while there is still a right to: the folder may be one that the host cannot enter later.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from asyncio.trsock import TransportSocket
from pathlib import Path

from carrel.errors import HostUnavailable

_CREDENTIALS = struct.Struct("iII")  # struct ucred: pid, uid, gid (unix(7), SO_PEERCRED)


def bind(path: Path, caller: int | None) -> socket.socket:
    """A socket at `path` that user `caller` may connect to, None being this process's own. One that nobody serves is replaced.

    Its folder may be passed through by the caller's group, which has nobody else in it, and by no other user; nobody may list it.

    Raises HostUnavailable where another host serves there.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
            sock.connect(str(path))
            raise HostUnavailable("Another server is running with this state folder.")
        path.unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            sock.bind(str(path))
        finally:
            os.umask(before)
        if caller is not None:
            os.chown(path, caller, caller)
            os.chown(path.parent, -1, caller)
        path.parent.chmod(0o700 if caller is None else 0o710)
    except BaseException:
        sock.close()
        raise
    return sock


def uid_of(connected: TransportSocket) -> int:
    """The user at the other end, as the kernel has noted it when it connected."""
    data = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _pid, uid, _gid = _CREDENTIALS.unpack(data)
    return int(uid)

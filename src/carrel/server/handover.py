"""What the supervisor hands to a gateway that serves already: keys and certificates that have changed (cli/changes.py)."""

from __future__ import annotations

import asyncio
import json
import logging
import socket

from carrel.signing import SigningKeys
from carrel.storage import State
from carrel.tls import LiveCertificate

_MOST = 1024 * 1024

_log = logging.getLogger("carrel.server")


class Handover:
    """The gateway's end of the socket. Messages are the supervisor's, so they are believed; a mistake in one must not end us."""

    def __init__(self, end: socket.socket, state: State, certificate: LiveCertificate) -> None:
        self._end, self._state, self._certificate = end, state, certificate
        end.setblocking(False)

    def start(self) -> None:
        asyncio.get_running_loop().add_reader(self._end, self._read)

    def _read(self) -> None:
        try:
            message = self._end.recv(_MOST)
        except BlockingIOError:
            return
        except OSError:
            message = b""
        if not message:  # the supervisor is gone, and the kernel ends us with it
            asyncio.get_running_loop().remove_reader(self._end)
            return
        try:
            fields = json.loads(message)
            self._state.adopt(SigningKeys.from_json(fields["keys"]))
            self._certificate.replace(fields["certificate"].encode())
        except (ValueError, KeyError, TypeError):
            _log.exception("keys or certificates that were handed over cannot be used")

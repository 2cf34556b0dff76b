"""Keys and certificates that change while we serve: the supervisor looks after the files, the gateway, which can open none, is handed them.

A message holds all of it, so that one which is lost is made good by the next: `{"certificate": PEM, "keys": […]}` over a socket that
keeps messages whole. The gateway's end is server/handover.py.
"""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass, field

from carrel.cli.certificates import Certificate, certificate
from carrel.cli.signs import Signs
from carrel.config import Config
from carrel.storage import State, StateError

LOOK_S = 0.4  # well within the second that a change may take

_HOUR_S = 3600.0
_BUFFER_BYTES = (
    256 * 1024
)  # a message is whole or not sent at all: the largest certificates and the most keys have 165 KiB

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Changes:
    """Making one reads everything; raises StateError."""

    config: Config
    state: State
    _certificate: Certificate = field(init=False)
    _signs: Signs = field(init=False)
    _upkeep_at: float = field(init=False, default=0)
    _faults: list[str] = field(init=False, default_factory=list)
    _ours: socket.socket | None = field(init=False, default=None)
    _is_sent: bool = field(init=False, default=True)

    def __post_init__(self) -> None:
        self._certificate = certificate(self.config, self.state)
        self._signs = Signs([self.state.signing.path])

    @property
    def pem(self) -> bytes:
        return self._certificate.pem

    def look(self, now: float) -> bool:
        """Whether anything has changed since the last look. What cannot be read leaves what there was."""
        before = (self.pem, *self.state.public_keys())
        faults = [
            fault for step in (self._keep_up, self._read_keys, self._certificate.look) if (fault := _fault(step, now))
        ]
        if faults != self._faults and faults:
            why = "; ".join(faults)
            log.error("keys and certificates cannot be renewed; those there are go on", extra={"why": why})
        self._faults = faults
        return (self.pem, *self.state.public_keys()) != before

    def _read_keys(self, _now: float) -> None:
        if self._signs.have_changed():
            try:
                self.state.adopt(self.state.signing.read())
            except BaseException:
                self._signs.forget()
                raise

    def _keep_up(self, now: float) -> None:
        """Once an hour: replace a key that is old, remove those that nobody needs any more."""
        if 0 <= now - self._upkeep_at < _HOUR_S:
            return
        self._upkeep_at = now
        days = self.config.key_days
        if days and now - self.state.signing.read().newest.made_at > days * 86_400:
            self.state.signing.rotate(now=now)
            log.info("tokens are signed with a new key")
        if count := self.state.signing.prune(now):
            log.info("removed signing keys whose last token has ended", extra={"count": count})

    def connect(self) -> socket.socket:
        """The end for a gateway that starts now; the one before it had is closed. The caller closes it once it was inherited."""
        self.close()
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.setblocking(False)
        self._ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
        return theirs

    def send(self) -> None:
        """Hand all of it over; what a gateway does not take now is sent again with the next look (`resend`)."""
        if self._ours is None:
            return
        message = {"certificate": self.pem.decode(), "keys": self.state.keys.to_json()}
        try:
            self._ours.send(json.dumps(message).encode())
            self._is_sent = True
        except ConnectionError:  # it has ended: the next one reads the files itself, and gets a message beside
            self._is_sent = True
        except OSError:  # no room in the socket, or in the kernel
            self._is_sent = False

    def resend(self) -> None:
        if not self._is_sent:
            self.send()

    def close(self) -> None:
        if self._ours is not None:
            self._ours.close()
            self._ours = None


def _fault(step: Callable[[float], object], now: float) -> str:
    """What went wrong in it, "" for nothing: a mistake here must not end the sessions."""
    try:
        step(now)
    except (OSError, StateError) as error:
        return str(error)
    except Exception as error:
        log.exception("a mistake of ours in looking after keys and certificates")
        return type(error).__name__
    return ""

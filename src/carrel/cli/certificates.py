"""What the server shows on HTTPS: a certificate of our own CA, made again in time, or the operator's files, read again when they change."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm

from carrel import tls
from carrel.backends.links import PREFIX
from carrel.cli.signs import Signs
from carrel.config import Config
from carrel.storage import State, StateError

_DAY_S = 86_400.0
_WARN_S = 7 * _DAY_S
_MOST_BYTES = 64 * 1024  # of a file; both are in one message to the gateway, with all keys (cli/changes.py)
_AGAIN_S = 3600.0  # between two looks at how long ours still lives, and at this machine's addresses

log = logging.getLogger(__name__)


class OwnCertificate:
    """Of our CA, for every name that this machine answers to."""

    def __init__(self, config: Config, state: State) -> None:
        self._config, self._state = config, state
        self._signs = Signs([state.path / "tls"])
        self._looked_at = -_AGAIN_S
        state.publish()
        self.pem = self._made(time.time())

    def look(self, now: float) -> bool:
        """Whether there is another one than before."""
        if not self._signs.have_changed() and now - self._looked_at < _AGAIN_S:
            return False
        before, self.pem = self.pem, self._made(now)
        return self.pem != before

    def _made(self, now: float) -> bytes:
        self._looked_at = now
        if self._state.renew_authority(now):
            log.warning(
                "our CA's certificate was renewed", extra={"what_to_do": f"give clients {self._state.ca} again"}
            )
        pem = self._state.server_certificate(_names(self._config), now=now).read_bytes()
        self._signs.have_changed()  # by this
        return pem


class GivenCertificate:
    """The operator's. What cannot be served, while it is being written or for good, leaves the one before in its place."""

    def __init__(self, config: Config, state: State) -> None:
        if config.tls_cert is None:
            raise StateError("--tls-key needs --tls-cert beside it")
        self._files = [config.tls_cert, *([config.tls_key] if config.tls_key else [])]
        self._state = state
        self._signs = Signs(self._files)
        self._fault = ""
        self._ends_at = self._warned_at = 0.0
        self._signs.have_changed()
        try:
            self.pem = self._read(time.time())
        except (OSError, ValueError, UnsupportedAlgorithm) as error:
            raise StateError(f"--tls-cert: {self._places()}: {_reason(error)}") from error
        state.publish(tls.roots(self.pem))
        for file in self._files:
            _warn_of_readers(file)

    def look(self, now: float) -> bool:
        """Whether there is another one than before."""
        self._warn(now)
        if not self._signs.have_changed():
            return False
        try:
            pem = self._read(now)
        except (OSError, ValueError, UnsupportedAlgorithm) as error:
            if isinstance(error, OSError):
                self._signs.forget()
            if (fault := _reason(error)) != self._fault:
                log.warning("the new certificate cannot be served", extra={"files": self._places(), "why": fault})
            self._fault = fault
            return False
        self._fault = ""
        if pem == self.pem:
            return False
        self.pem = pem
        self._state.publish(tls.roots(pem))
        log.info("a new certificate is served", extra={"files": self._places()})
        return True

    def _read(self, now: float) -> bytes:
        pem = b"\n".join(_bounded(file) for file in self._files)
        self._ends_at = tls.check(pem, now).timestamp()
        self._warn(now)
        return pem

    def _warn(self, now: float) -> None:
        """Once a day in its last week."""
        if self._ends_at - now < _WARN_S and now - self._warned_at > _DAY_S:
            self._warned_at = now
            end = f"{datetime.fromtimestamp(self._ends_at, UTC):%Y-%m-%d %H:%M} UTC"
            log.warning("the certificate ends soon", extra={"files": self._places(), "end": end})

    def _places(self) -> str:
        return ", ".join(str(file) for file in self._files)


def _warn_of_readers(file: Path) -> None:
    """A key that every user of the machine can read is nobody's secret."""
    with contextlib.suppress(OSError, ValueError):  # replaced meanwhile: the next look reads it
        if file.stat().st_mode & stat.S_IROTH and b"PRIVATE KEY-----" in _bounded(file):
            log.warning("every user of this machine can read the key: chmod o-r", extra={"file": str(file)})


Certificate = OwnCertificate | GivenCertificate


def certificate(config: Config, state: State) -> Certificate:
    """Raises StateError where none can be served."""
    return GivenCertificate(config, state) if config.tls_cert or config.tls_key else OwnCertificate(config, state)


def _bounded(file: Path) -> bytes:
    if not file.is_file() and file.exists():
        raise ValueError("it is no regular file")
    with file.open("rb") as stream:
        content = stream.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise ValueError("it has more than 64 KiB: it is to hold this server's key and chain, not every CA there is")
    return content


def _reason(error: Exception) -> str:
    return str(error.strerror if isinstance(error, OSError) and error.strerror else error)


def _names(config: Config) -> list[str]:
    """The addresses that it listens on; where those are all, all that this machine has."""
    addresses = [ipaddress.ip_address(host) for host in config.host]
    everywhere = {each.version for each in addresses if each.is_unspecified}
    given = [str(each) for each in addresses if not each.is_unspecified]
    own = [each for each in _own_addresses() if ipaddress.ip_address(each).version in everywhere] if everywhere else []
    return [*given, *own, *config.tls_name]  # State adds the host's name


def _own_addresses() -> list[str]:
    """Of the machine's interfaces. In a thread: the library brings an event loop of its own, and a thread has room for one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(_listed_addresses).result()


def _listed_addresses() -> list[str]:
    """But those of our interfaces for sessions, and what holds on one link only."""
    from pyroute2 import IPRoute  # a tenth of a second, for servers that listen everywhere

    with IPRoute() as kernel:
        names = {link["index"]: str(link.get_attr("IFLA_IFNAME")) for link in kernel.get_links()}
        listed = [(names.get(each["index"], ""), each.get_attr("IFA_ADDRESS")) for each in kernel.get_addr()]
    found = [(name, ipaddress.ip_address(text)) for name, text in listed if text]
    return [
        str(each) for name, each in found if not (name.startswith(PREFIX) or each.is_loopback or each.is_link_local)
    ]

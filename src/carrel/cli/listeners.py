"""The sockets that clients connect to. The supervisor holds them, so that a gateway can be replaced and no connection is refused."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
from collections.abc import Sequence

from carrel.config import Config

_BACKLOG = 2048  # connections that wait while a gateway restarts
_ATTEMPTS = 20  # for a free port that is free on every address


_LOOPBACK = ("127.0.0.1", "::1")


class ListenError(Exception):
    """An address cannot be listened on. The message says which and what to do."""


def http_hosts(config: Config) -> tuple[str, ...]:
    """Where HTTP is served: on loopback, and elsewhere only where that was asked for, since tokens and code are readable on the way."""
    return https_hosts(config) if config.insecure_http else loopback_of(config)


def https_hosts(config: Config) -> tuple[str, ...]:
    """Where the setting says, and on loopback too: clients on this machine call `localhost`."""
    addresses = [ipaddress.ip_address(host) for host in config.host]
    has_loopback = any(each.is_loopback or each.is_unspecified for each in addresses)
    return config.host if has_loopback else (*config.host, *_LOOPBACK)


def loopback_of(config: Config) -> tuple[str, ...]:
    """The addresses of `host` that only this machine reaches; for one that means "all", the one that it includes."""
    addresses = [ipaddress.ip_address(host) for host in config.host]
    all_of = {4: "127.0.0.1", 6: "::1"}
    found = [all_of[each.version] if each.is_unspecified else str(each) for each in addresses]
    kept = [host for host in dict.fromkeys(found) if ipaddress.ip_address(host).is_loopback]
    return tuple(kept) or _LOOPBACK


def exposed_http(config: Config) -> list[str]:
    """The addresses besides loopback where HTTP is served."""
    return [host for host in http_hosts(config) if not ipaddress.ip_address(host).is_loopback]


def listen(hosts: Sequence[str], port: int, setting: str) -> list[socket.socket]:
    """A listening socket for every address, all on the same port; 0 picks one. `setting` names the port in messages.

    An IPv6 address is skipped where the machine has no IPv6, unless it is the only one. Raises ListenError.
    """
    for _ in range(_ATTEMPTS if port == 0 else 1):
        with contextlib.ExitStack() as opened:
            try:
                sockets = _listen_all(hosts, port, opened)
            except OSError as error:
                if port == 0 and error.errno == errno.EADDRINUSE:
                    continue  # the number that was free on the first address is taken on another
                raise ListenError(_advice(error, hosts, port, setting)) from error
            opened.pop_all()
            return sockets
    raise ListenError(f"no port is free on all of {', '.join(hosts)}; choose one with --{setting}")


def _listen_all(hosts: Sequence[str], port: int, opened: contextlib.ExitStack) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    for host in hosts:
        number = sockets[0].getsockname()[1] if sockets else port
        try:
            sockets.append(opened.enter_context(_socket(host, number)))
        except OSError as error:
            has_no_ipv6 = error.errno in {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL} and ":" in host
            if not has_no_ipv6 or (len(hosts) == 1):
                raise
    return sockets


def _socket(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind((host, port))
        made.listen(_BACKLOG)
    except OSError:
        made.close()
        raise
    return made


def _advice(error: OSError, hosts: Sequence[str], port: int, setting: str) -> str:
    where = f"{', '.join(hosts)} port {port}"
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is taken: stop the program that uses it, or choose another with --{setting} N (0 picks a free one)"
    if error.errno == errno.EACCES:
        return f"not allowed to listen on {where}: choose a port above 1023 with --{setting} N"
    return f"cannot listen on {where}: {error.strerror}"


def port_of(sockets: Sequence[socket.socket]) -> int:
    return int(sockets[0].getsockname()[1])

"""What an operator lets a pool's sessions reach, as rules, and what a session asks for, as a target. Pure functions of text.

    pypi.org                    this host, on ports 443 and 80
    *.pythonhosted.org:443      every name below it, but not itself
    *                           every name
    198.51.100.0/24:8000-8100   addresses; with a colon inside they stand in brackets: [2001:db8::/32]:443,8443
    example.com:*               on every port

A name is allowed by name rules, an address that was asked for as such by address rules, and neither by the other: otherwise every
name would have to be resolved to know, and a query of the code's own choice is a way out.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

from carrel.egress.addresses import Address, Range

DEFAULT_PORTS = (range(443, 444), range(80, 81))
MAX_RULES = 256
MAX_LENGTH = 32 * 1024  # of all rules as JSON: they travel in one message
SYNTAX = 'hosts ("pypi.org", "*.example.com") or ranges ("198.51.100.0/24"), each with ":PORTS" where these are not 443 and 80'
_ALL_PORTS = (range(1, 65_536),)
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_WRITTEN = re.compile(r"(?:\[([^\[\]]*)\]|([^\[\]:]*))(?::(.*))?")  # [address] or name, then ports


@dataclass(frozen=True, slots=True)
class Target:
    """What a session asks for: a name, lower-case ASCII without its last dot, or an address."""

    host: str
    port: int
    address: Address | None = None

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of the list. `name` is a host, `*.suffix` or `*`; else `network` is a range."""

    text: str
    ports: tuple[range, ...]
    name: str = ""
    network: Range | None = None

    def covers(self, target: Target) -> bool:
        if not any(target.port in each for each in self.ports):
            return False
        if target.address is not None:
            return (
                self.network is not None
                and self.network.version == target.address.version
                and target.address in self.network
            )
        if self.name == "*":
            return True
        return target.host.endswith(self.name[1:]) if self.name.startswith("*.") else target.host == self.name


def parse(text: str) -> Rule:
    """Raises ValueError with a text for people."""
    written = text.strip()
    host, ports = _split(written)
    parsed_ports = DEFAULT_PORTS if ports is None else _ports(ports)
    if (network := _network(host)) is not None:
        return Rule(written, parsed_ports, network=network)
    if host == "*":
        return Rule(written, parsed_ports, name="*")
    prefix, rest = ("*.", host[2:]) if host.startswith("*.") else ("", host)
    return Rule(written, parsed_ports, name=prefix + _name(rest))


def parse_all(texts: Iterable[str]) -> tuple[Rule, ...]:
    """Raises as `parse`, and for a list that is too long to be looked through for every connection."""
    rules = []
    for text in texts:
        try:
            rules.append(parse(text))
        except ValueError as error:
            raise ValueError(f"'{text}' is not a rule: {error}") from None
    if len(rules) > MAX_RULES:
        raise ValueError(f"{len(rules)} rules are more than {MAX_RULES}")
    if (length := len(json.dumps([rule.text for rule in rules]))) > MAX_LENGTH:
        raise ValueError(f"the rules are {length} characters long, more than {MAX_LENGTH}")
    return tuple(rules)


def parse_target(text: str, default_port: int | None = None) -> Target:
    """`host:port`, as CONNECT and people write it. Raises ValueError with a text for people."""
    host, ports = _split(text.strip(), is_bare_address_allowed=default_port is not None)
    port = str(default_port) if ports is None and default_port else ports or ""
    if not re.fullmatch(r"\d{1,5}", port) or not 1 <= int(port) <= 65_535:
        raise ValueError("a port from 1 to 65535 is needed")
    return target_of(host, int(port))


def target_of(host: str, port: int) -> Target:
    """Raises ValueError for a host that is neither a name nor an address in its plain spelling."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return Target(_name(host), port)
    if "%" in host:
        raise ValueError("an address with a zone, which means something on one machine only")
    return Target(str(address), port, address)


def matching(rules: Iterable[Rule], target: Target) -> Rule | None:
    return next((rule for rule in rules if rule.covers(target)), None)


def _split(text: str, *, is_bare_address_allowed: bool = True) -> tuple[str, str | None]:
    """Host and ports. An IPv6 address or range without ports may stand without brackets."""
    if is_bare_address_allowed and text.count(":") > 1 and "[" not in text:
        return text, None
    match = _WRITTEN.fullmatch(text)
    if match is None:
        raise ValueError("an IPv6 address with a port stands in brackets, as in [2001:db8::1]:443")
    if match[1] is not None and ":" not in match[1]:
        raise ValueError("only IPv6 addresses stand in brackets")
    return match[1] or match[2], match[3]


def _network(host: str) -> Range | None:
    is_address = "/" in host or ":" in host or re.fullmatch(r"[\d.]+", host)
    if not is_address:
        return None
    try:
        return ipaddress.ip_network(host)
    except ValueError as error:
        raise ValueError(f"{error}") from None


def _ports(text: str) -> tuple[range, ...]:
    if text == "*":
        return _ALL_PORTS
    found = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= first <= last <= 65_535:
            raise ValueError(f"'{part}' is not a port or a range of ports such as 8000-8100")
        found.append(range(first, last + 1))
    return tuple(found)


def _name(text: str) -> str:
    """A host name in the form in which names are compared. Raises ValueError."""
    try:
        # Internationalised names are asked for in their ASCII form (RFC 5891), so that is how a rule has to hold them.
        name = (text if text.isascii() else text.encode("idna").decode()).lower().removesuffix(".")
    except UnicodeError:
        name = ""
    labels = name.split(".")
    if not name or len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError("not a host name")
    if re.fullmatch(r"\d+|0x[0-9a-f]*", labels[-1]):
        # Resolvers take these for IPv4 addresses in old spellings: 2130706433, 127.1, 0x7f.1 (WHATWG URL, "ends in a number").
        raise ValueError("not a host name, nor an address in its plain spelling")
    return name

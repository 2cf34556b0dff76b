"""Whether a pool's sessions may reach a target, and by which addresses: the one decision, for connections and for `egress test`.

A name is resolved here, once, and only when a rule allows it; every address that it has is then checked by itself, and the connection
goes to one that passed. So a name that answers differently the second time, or that points into the private network, gains nothing.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from carrel.egress.addresses import Address, Range, is_own_address, parse_ranges, refusal
from carrel.egress.rules import Rule, Target, matching, parse_all

RESOLVE_S = 10.0
_LOOKUPS = 32  # at once, for all sandboxes together
_MAX_ADDRESSES = 16  # of one name: whoever owns it could give it thousands, each to be checked, told and tried


class Unresolved(Exception):
    """An allowed name that has no address, or whose resolver does not answer."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An address that a target has. `refusal` says why nobody may reach it, None where it may be reached."""

    address: Address
    refusal: str | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """`reason` says why it is refused, "" where it is not."""

    target: Target
    rule: Rule | None
    candidates: tuple[Candidate, ...] = ()

    @property
    def addresses(self) -> list[Address]:
        return [each.address for each in self.candidates if each.refusal is None]

    @property
    def reason(self) -> str:
        if self.rule is None:
            return "it is not on the pool's egress list"
        if self.addresses:
            return ""
        return "; ".join(f"{each.address} is {each.refusal}" for each in self.candidates)


def look_up(host: str, port: int) -> list[str]:
    """The addresses of a name, as this machine resolves names; blocks. Raises OSError."""
    # As bytes: for text, Python would load a codec, from files that this process may no longer read.
    found = socket.getaddrinfo(host.encode(), port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(each[4][0]) for each in found))


class Gate:
    def __init__(self, look_up: Callable[[str, int], list[str]] = look_up) -> None:
        self._look_up = look_up
        self._carve_outs: tuple[Range, ...] = ()
        self._rules: dict[str, tuple[Rule, ...]] = {}
        self._threads = ThreadPoolExecutor(_LOOKUPS, "resolve")

    def configure(self, carve_outs: Iterable[str]) -> None:
        self._carve_outs = parse_ranges(carve_outs)

    def set_rules(self, pool: str, rules: Iterable[str]) -> None:
        """From now on. Raises ValueError and changes nothing for a rule that is none."""
        self._rules[pool] = parse_all(rules)

    def forget(self, pool: str) -> None:
        """As if nobody had told of it."""
        self._rules.pop(pool, None)

    def rule(self, pool: str, target: Target) -> Rule | None:
        """The rule that lets a pool's sessions ask for `target`. A pool that nobody has told of may ask for nothing."""
        return matching(self._rules.get(pool, ()), target)

    async def check(self, pool: str, target: Target, lookups: asyncio.Semaphore) -> Verdict:
        """`lookups` is the asker's share of lookups under way. Raises Unresolved."""
        rule = self.rule(pool, target)
        if rule is None:
            return Verdict(target, None)
        addresses = [target.address] if target.address is not None else await self._resolve(target, lookups)
        return Verdict(target, rule, tuple(Candidate(each, self._refusal(each)) for each in addresses))

    def _refusal(self, address: Address) -> str | None:
        return refusal(address, self._carve_outs, is_own=is_own_address(address))

    async def _resolve(self, target: Target, lookups: asyncio.Semaphore) -> list[Address]:
        try:
            async with asyncio.timeout(RESOLVE_S):
                await lookups.acquire()
                lookup = asyncio.get_running_loop().run_in_executor(
                    self._threads, self._look_up, target.host, target.port
                )
                # Given back when the thread is free, which for a silent name server is long after whoever asked has gone.
                lookup.add_done_callback(lambda done: _give_back(lookups, done))
                found = await asyncio.shield(lookup)
        except TimeoutError as error:
            raise Unresolved(f"{target.host} was not resolved within {RESOLVE_S:.0f} s") from error
        except OSError as error:
            raise Unresolved(f"{target.host} could not be resolved: {error.strerror or error}") from error
        return [ipaddress.ip_address(each) for each in found[:_MAX_ADDRESSES]]


def _give_back(lookups: asyncio.Semaphore, done: asyncio.Future[list[str]]) -> None:
    lookups.release()
    if not done.cancelled():
        done.exception()  # seen: whoever asked may have gone

"""Guessing made slow, and grants that two gateways take at once: what in the authority has clocks and races, without a server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

from carrel.server.authority import devices, refreshing, throttle
from carrel.server.authority.devices import Devices
from carrel.server.authority.hashing import Hasher, digest_of
from carrel.server.authority.refreshing import Refreshing
from carrel.server.authority.throttle import NAME, PAIR, PEER, Throttle
from carrel.store import PrincipalRecord, Store
from carrel.wire.oauth import OAuthError

KEY = Fernet.generate_key()
USER = PrincipalRecord("00000000-0000-0000-0000-00000000aaaa", "User", user_name="alice")

pytestmark = pytest.mark.anyio


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Guard:
    """A throttle, and attempts at it."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.throttle = Throttle(self.clock)

    async def attempt(self, peer: str, name: str = "alice", *, is_right: bool = False) -> int:
        """0 where it was let through, else the seconds that `Retry-After` says."""
        try:
            async with self.throttle.attempt(peer, name) as attempt:
                attempt.judge(has_passed=is_right)
        except OAuthError as error:
            assert (error.status, error.error) == (429, "temporarily_unavailable")
            return int(error.headers["Retry-After"])
        return 0


@pytest.fixture
def guard() -> Guard:
    return Guard()


# ---- throttle ------------------------------------------------------------------------------------------------------------------


async def test_waiting_as_long_as_told_is_enough_and_needed(guard: Guard) -> None:
    for _ in range(PAIR.burst):
        assert await guard.attempt("eve") == 0
    told = await guard.attempt("eve")

    assert 0 < told <= PAIR.every_s
    guard.clock.now += told - 1.5
    assert await guard.attempt("eve") > 0
    guard.clock.now += 1.5
    assert await guard.attempt("eve") == 0


async def test_a_day_of_guesses_is_a_few_thousand(guard: Guard) -> None:
    """From one peer, at one name, as fast as it is let."""
    count, end = 0, guard.clock.now + 86_400
    while guard.clock.now < end:
        wait = await guard.attempt("eve")
        count, guard.clock.now = count + (wait == 0), guard.clock.now + wait

    assert count <= PAIR.burst + 86_400 / PAIR.every_s + 1


async def test_many_names_from_one_peer_are_slow_together(guard: Guard) -> None:
    """One password tried on every user."""
    tried = [await guard.attempt("eve", f"user {number}") for number in range(PEER.burst + 20)]

    assert tried.count(0) == PEER.burst
    assert await guard.attempt("bob", "user 1") == 0


async def test_a_crowd_locks_out_nobody_who_was_there_before(guard: Guard) -> None:
    """Hundreds of addresses guess at alice: a new address has to wait, hers does not; and when they stop, all is as before."""
    assert await guard.attempt("home", is_right=True) == 0
    tried = [await guard.attempt(f"bot {number}") for number in range(NAME.burst + 200)]

    assert tried.count(0) == NAME.burst
    assert await guard.attempt("elsewhere", is_right=True) > 0
    assert await guard.attempt("home", is_right=True) == 0
    assert await guard.attempt("elsewhere", "bob", is_right=True) == 0
    guard.clock.now += NAME.every_s * NAME.burst
    assert await guard.attempt("elsewhere", is_right=True) == 0


async def test_right_answers_count_for_nothing(guard: Guard) -> None:
    """A service that signs in for each call, also many at a time."""
    several = await asyncio.gather(*(guard.attempt("service", is_right=True) for _ in range(50)))
    later = [await guard.attempt("service", is_right=True) for _ in range(1000)]

    assert not any([*several, *later])


async def test_guesses_at_once_are_counted_one_by_one(guard: Guard) -> None:
    several = await asyncio.gather(*(guard.attempt("eve") for _ in range(50)))

    assert several.count(0) == PAIR.burst


async def test_what_never_came_to_an_answer_is_no_failure(guard: Guard) -> None:
    """The caller hung up, or the store was away."""
    for _ in range(100):
        with pytest.raises(RuntimeError):
            async with guard.throttle.attempt("service", "alice"):
                raise RuntimeError("gone")

    assert await guard.attempt("service") == 0


async def test_no_crowd_fills_the_memory(guard: Guard, monkeypatch: pytest.MonkeyPatch) -> None:
    """The longest untouched are forgotten first."""
    monkeypatch.setattr(throttle, "_MOST", 100)
    for number in range(1000):
        await guard.attempt(f"bot {number}", f"user {number}")

    books: list[Any] = [guard.throttle._pairs, guard.throttle._peers, guard.throttle._names]
    assert [len(book._levels) for book in books] == [100, 100, 100]
    assert guard.throttle._turns == {}


# ---- secrets at rest -----------------------------------------------------------------------------------------------------------


async def test_a_secret_is_known_by_its_digest_alone() -> None:
    """Two digests of one secret differ; both ways of writing é are one; what is no digest matches nothing."""
    hasher = Hasher()
    one, other = digest_of("caf\u00e9 au lait"), digest_of("caf\u00e9 au lait")

    assert one != other
    assert await hasher.matches("cafe\u0301 au lait", [other, one]) == other
    assert await hasher.matches("cafe au lait", [one, other]) is None
    assert await hasher.matches("x" * 5000, [digest_of("x" * 5000)]) is None
    assert await hasher.matches("x", ["", "scrypt$14$8$1$$", "scrypt$99$8$1$AA==$AA==", "md5$1", "a$b$c$d$e$f"]) is None
    assert await hasher.matches("", []) is None


@given(st.text(max_size=40))
def test_no_text_is_a_digest_by_chance(text: str) -> None:
    from carrel.server.authority.hashing import _matches

    assert not _matches("secret", text)


# ---- grants --------------------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["sqlite", "postgresql"])
def gateways(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Store, Store]]:
    """Two that share a store."""
    address = f"sqlite:///{tmp_path}/store/carrel.db"
    if request.param == "postgresql":
        address = str(request.getfixturevalue("postgresql").schema())
    one, other = Store.open(address, [KEY]), Store.open(address, [KEY])
    yield one, other
    one.close()
    other.close()


async def test_a_refresh_token_has_one_successor_however_many_gateways(gateways: tuple[Store, Store]) -> None:
    desks = [Refreshing(each) for each in gateways]
    token = await desks[0].begin("client", USER.id, "scope")

    async def use(desk: Refreshing) -> str | None:
        presented = await desk.present(token, "client")
        return await desk.rotate(presented, token) if presented and presented.is_newest else None

    successors = [each for each in await asyncio.gather(*(use(desk) for desk in desks * 5)) if each]

    assert len(successors) == 1
    presented = await desks[1].present(successors[0], "client")
    assert presented and presented.is_newest


async def test_a_device_code_is_redeemed_once(gateways: tuple[Store, Store]) -> None:
    desks = [Devices(each) for each in gateways]
    begun = await desks[0].begin("client", "scope", "peer")
    answers = await asyncio.gather(*(desk.settle(begun.user_code, USER, is_approved=True) for desk in desks * 4))
    records = [await desk.poll(begun.device_code, "client") for desk in desks]
    assert [each.state for each in records if each] == ["authorized", "authorized"]

    redeemed = await asyncio.gather(*(desk.redeem(each) for desk in desks for each in records * 3 if each))

    assert (answers.count(True), redeemed.count(True)) == (1, 1)


async def test_whoever_was_signed_in_when_all_tokens_were_ended_is_so_no_more(tmp_path: Path) -> None:
    """`carrel identity rotate-keys --revoke`: a refresh token would bring new ones, a device code too. Who signs in after it is."""
    store, ended = Store.open(f"sqlite:///{tmp_path}/store/carrel.db", [KEY]), [0.0]
    desk, codes = Refreshing(store, revoked_at=lambda: ended[0]), Devices(store, revoked_at=lambda: ended[0])
    before = await desk.begin("client", USER.id, "scope")
    approved, waiting = [await codes.begin("client", "scope", "peer") for _ in range(2)]
    assert await codes.settle(approved.user_code, USER, is_approved=True)
    assert await desk.present(before, "client")
    ended[0] = time.time()
    await asyncio.sleep(0.01)

    for each in (approved, waiting):
        found = await codes.poll(each.device_code, "client")
        assert found and found.state == "expired_token"
    assert not await codes.settle(waiting.user_code, USER, is_approved=True)

    assert await desk.present(before, "client") is None
    assert await desk.present(await desk.begin("client", USER.id, "scope"), "client")
    store.close()


async def test_grants_end_with_their_time(tmp_path: Path) -> None:
    """A device code after fifteen minutes, a refresh token ninety days after its last use, a copied one after a minute."""
    store, clock = Store.open(f"sqlite:///{tmp_path}/store/carrel.db", [KEY]), Clock()
    desk, tokens = Devices(store, clock), Refreshing(store, clock)
    begun, token = await desk.begin("client", "scope", "peer"), await tokens.begin("client", USER.id, "scope")

    clock.now += devices.LIFE_S - 1
    assert await desk.asked(begun.user_code)
    clock.now += 1
    expired = await desk.poll(begun.device_code, "client")
    assert await desk.asked(begun.user_code) is None
    assert not await desk.settle(begun.user_code, USER, is_approved=True)
    assert expired and expired.state == "expired_token"
    for _ in range(3):
        clock.now += refreshing.LIFE_S - 1000
        presented = await tokens.present(token, "client")
        assert presented
        before, token = token, str(await tokens.rotate(presented, token))
    clock.now += 59
    late = await tokens.present(before, "client")
    assert late and not late.is_newest
    assert await tokens.present(token, "another") is None
    clock.now += refreshing.LIFE_S
    assert await tokens.present(token, "client") is None
    store.close()


async def test_user_codes_are_for_people(tmp_path: Path) -> None:
    """Eight letters that nobody takes for others; as they are typed; no peer has them by the hundred."""
    store, clock = Store.open(f"sqlite:///{tmp_path}/store/carrel.db", [KEY]), Clock()
    desk = Devices(store, clock)
    codes = [(await desk.begin("client", "scope", "peer")).user_code for _ in range(30)]

    assert len(set(codes)) == 30
    assert all(set(code[:4] + code[5:]) <= set("BCDFGHJKLMNPQRSTVWXZ") and code[4] == "-" for code in codes)
    for typed in (codes[0], codes[0].lower(), codes[0].replace("-", ""), f" {codes[0]} ".replace("-", " ")):
        assert await desk.asked(typed)
    with pytest.raises(OAuthError) as refused:
        await desk.begin("client", "scope", "peer")
    assert refused.value.status == 429
    assert await desk.begin("client", "scope", "another")
    store.close()

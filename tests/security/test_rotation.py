"""What all children of one template share (memory layout, seed of string hashes) is not shared for ever."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from carrel.client import Client
from conftest import Server, SlimServer, fresh_identifier
from fortress import Attacker
from processes import children, command, descendants, eventually

FORKS = 6  # more than one burst makes, so that a test may look at two children of the same template

# What a child cannot change about itself: where exec put the stack and the libraries, and how strings hash.
INHERITED = """
import ctypes
maps = open('/proc/self/maps').read().splitlines()
libc = next(line.split('-')[0] for line in maps if 'libc.so' in line or 'libc-' in line)
stack = next(line.split('-')[0] for line in maps if line.endswith('[stack]'))
[hash('carrel'), libc, stack]
"""


def templates(server: Server, kind: str) -> list[int]:
    """Those that the cell block's init started; what they forked has their command line too."""
    ours = descendants(server.process.pid)
    init = next(pid for pid in ours if "carrel.guest.init" in command(pid))
    return sorted(pid for pid in children(init) if f"main('{kind}'" in command(pid))


@pytest.fixture(scope="module")
def rotating(slim_server: SlimServer) -> Iterator[Server]:
    with slim_server("--rotate-forks", str(FORKS)) as server:
        yield server


def visit(server: Server, stack: ExitStack) -> Client:
    """A new session that lives until the stack ends."""
    client = stack.enter_context(server.client(fresh_identifier()))
    stack.callback(client.end)
    return client


def template_of(server: Server, client: Client) -> int:
    """The parent of the session's interpreter, seen from outside."""
    marked = Attacker(server, client).host_pid()
    return next(pid for pid in templates(server, "image") if children_have(pid, marked))


def children_have(template: int, process: int) -> bool:
    return any(process in children(interpreter) for interpreter in children(template))


@pytest.mark.thorough
def test_layout_and_hash_seed_change_when_a_template_has_forked_enough(rotating: Server) -> None:
    """New sessions have others as soon as the next template is ready, again and again."""
    seen: set[tuple[str, ...]] = set()

    def look() -> bool:
        with ExitStack() as stack:
            seen.add(tuple(map(str, visit(rotating, stack).execute(INHERITED).result)))
        return len(seen) >= 3

    assert eventually(look, 30), seen
    for kind in zip(*seen, strict=True):
        assert len(set(kind)) == len(seen), "the hash seed, the libraries' place and the stack's, each of them anew"


def test_a_session_outlives_its_template(rotating: Server) -> None:
    """Variables stay, how its interpreter ended is still told, a restart comes from the new template; then the old one ends."""
    with ExitStack() as stack:
        client = visit(rotating, stack)
        client.execute("kept = 1")
        old = template_of(rotating, client)

        def is_replaced() -> bool:
            with ExitStack() as inner:
                return template_of(rotating, visit(rotating, inner)) != old

        assert eventually(is_replaced, 30)
        assert client.execute("kept").result == 1
        assert old in templates(rotating, "image"), "it lives as long as its child"
        assert "SIGKILL" in client.execute("import os; os.kill(os.getpid(), 9)").stderr, "only its parent can know that"
        client.execute("1")
        assert template_of(rotating, client) != old
        assert eventually(lambda: old not in templates(rotating, "image"), 15)


def test_no_call_fails_while_templates_are_replaced(rotating: Server) -> None:
    """Several sessions at a time, made and ended over and over across rotations of both kinds."""
    seen: dict[str, set[int]] = {"image": set(), "bare": set()}

    def several() -> bool:
        with ExitStack() as stack:
            clients = [visit(rotating, stack) for _ in range(4)]
            assert [client.execute("6 * 7").result for client in clients] == [42] * 4
            for kind, found in seen.items():
                found.update(templates(rotating, kind))
        return all(len(found) >= 4 for found in seen.values())

    assert eventually(several, 30), seen


@pytest.mark.thorough
def test_a_template_is_replaced_after_its_time(slim_server: SlimServer) -> None:
    """The clock begins with its first child; one that nobody uses stays as it is."""
    with slim_server("--rotate-minutes", "0.05") as server:
        first = templates(server, "image")
        assert eventually(lambda: templates(server, "image") != first, 10)
        time.sleep(4)  # the warm child keeps the old one; the new one has no child, and so no clock
        assert len(templates(server, "image")) == 2


@pytest.mark.thorough
def test_nothing_rotates_where_it_is_turned_off(slim_server: SlimServer) -> None:
    with slim_server("--rotate-forks", "0", "--rotate-minutes", "0") as server:
        first = templates(server, "image")
        seeds = set()
        for _ in range(8):
            with ExitStack() as stack:
                seeds.add(visit(server, stack).execute("hash('carrel')").result)

        assert (len(seeds), templates(server, "image")) == (1, first)

"""Which boundary each pool gets: chosen by trial, never below its minimum, never silently, and shown wherever a pool is."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

import jail
from carrel.backends import canary
from carrel.backends.process import ProcessBackend
from carrel.backends.select import Choice, Trial, candidates, decide, next_level
from carrel.config import load
from carrel.models import Level, PoolSpec
from conftest import SlimServer, fresh_identifier
from fake_sandboxes import FakeBackend
from jail import Jail
from processes import eventually
from test_cli import carrel

IN_JAIL = pytest.mark.skipif(jail.why_not() is not None, reason=str(jail.why_not()))
SMALL = 'image = "python-slim", memory = "256MiB", disk = "64MiB", tmp = "16MiB"'
MIXED = f"""
[pools.python]
carrel = {{{SMALL}}}
[pools.below]
carrel = {{isolation = "process", minimum = "namespace", {SMALL}}}
"""


# ---- the choice ----------------------------------------------------------------------------------------------------------------


def pool(asked: Level | None = None, minimum: Level = Level.RESTRICTED, name: str = "a") -> PoolSpec:
    return PoolSpec(name, asked=asked, minimum=minimum)


def chosen(pools: list[PoolSpec], *working: Level) -> tuple[Choice, list[Level]]:
    """What comes of pools on a machine where these levels work, and which were tried for it."""
    trials: dict[Level, Trial] = {}
    for each in pools:
        while (level := next_level(each, trials)) is not None:
            works = level in working
            trials[level] = Trial(level, FakeBackend(level) if works else None, "" if works else f"no {level}")
    return decide(pools, trials), list(trials)


def test_auto_is_namespace_where_it_works() -> None:
    """And nothing else is even tried."""
    choice, tried = chosen([pool()], *Level)

    assert ([each.isolation for each in choice.pools], tried) == ([Level.NAMESPACE], [Level.NAMESPACE])
    assert choice.passed_over == []


def test_auto_falls_to_restricted_and_says_so() -> None:
    choice, _ = chosen([pool(), pool(name="b")], Level.RESTRICTED, Level.PROCESS)

    assert [each.isolation for each in choice.pools] == [Level.RESTRICTED, Level.RESTRICTED]
    assert [(each.level, each.reason) for each in choice.passed_over] == [(Level.NAMESPACE, "no namespace")]


def test_auto_never_falls_to_process() -> None:
    """Not even where that is what the minimum would allow."""
    choice, tried = chosen([pool(minimum=Level.PROCESS)], Level.PROCESS)

    assert (choice.pools, Level.PROCESS in tried) == ([], False)
    assert all(f"no {level}" in choice.refused[0].reason for level in (Level.NAMESPACE, Level.RESTRICTED))


def test_auto_with_a_minimum_above_it_is_that_level() -> None:
    assert candidates(pool(minimum=Level.GVISOR)) == [Level.GVISOR]
    assert candidates(pool(minimum=Level.NAMESPACE)) == [Level.NAMESPACE]


def test_a_pool_below_its_minimum_is_refused_and_the_others_are_served() -> None:
    """Its level is not tried for it."""
    below = pool(Level.PROCESS, Level.NAMESPACE, "below")
    choice, tried = chosen([below, pool()], *Level)

    assert ([each.name for each in choice.pools], tried) == (["a"], [Level.NAMESPACE])
    assert [(each.pool.name, "below its minimum, 'namespace'" in each.reason) for each in choice.refused] == [
        ("below", True)
    ]


def test_a_named_level_that_does_not_work_is_not_replaced() -> None:
    """By a weaker one never, by a stronger one neither."""
    choice, tried = chosen([pool(Level.GVISOR)], Level.NAMESPACE, Level.RESTRICTED, Level.PROCESS)

    assert (choice.pools, tried) == ([], [Level.GVISOR])
    assert "no gvisor" in choice.refused[0].reason
    assert choice.refused[0].advice


def test_an_image_that_cannot_be_built_is_no_reason_for_a_weaker_level() -> None:
    trials = {Level.NAMESPACE: Trial(Level.NAMESPACE, None, "no network", is_image=True)}

    assert next_level(pool(), trials) is None
    refused = decide([pool()], trials).refused[0]
    assert ("no network" in refused.reason, refused.advice) == (True, "")


# ---- the canary ----------------------------------------------------------------------------------------------------------------


class Boaster(ProcessBackend):
    """The level without a boundary, which claims to have one."""

    level = Level.NAMESPACE


def test_the_canary_finds_what_a_boundary_lets_through(tmp_path: Path) -> None:
    """A canary that can find nothing proves nothing."""

    async def attacked() -> list[str]:
        backend = Boaster(tmp_path, load({}, {}).images)
        await backend.start()
        try:
            spec = replace(canary.POOL, isolation=Level.NAMESPACE)
            await backend.prepare(spec)
            return await canary.attack(backend, spec)
        finally:
            await backend.close()

    found = asyncio.run(attacked())

    assert {
        "no seccomp filter is loaded",
        "the host's files can be read",
        "the host's folders can be written to",
        "the host's sockets can be reached",
        "the host's abstract sockets can be reached",
        "the host's loopback can be reached",
        "other processes can be seen",
    } <= set(found)
    assert set(found) <= set(canary.MEANT)


# ---- what is shown -------------------------------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_a_pool_below_its_minimum_says_why_and_the_others_serve(slim_server: SlimServer) -> None:
    """In the answer to a call, in `show` and `list`; an answer from no boundary names none."""
    with slim_server("--isolation", "auto", config=MIXED) as server:
        connection = server.connection
        reason = "'process', is below its minimum, 'namespace'"
        with server.client() as client:
            assert client.execute("1 + 1").result == 2
            client.end()
        reply = httpx.post(
            f"{connection['pools']['below']['endpoint']}/executions",
            params={"api-version": "2025-10-02-preview", "identifier": fresh_identifier()},
            headers={"Authorization": f"Bearer {connection['token']}"},
            json={"code": "1"},
            trust_env=False,
        )
        listed = json.loads(carrel("sessionpool", "status", "--state", str(server.state), "-o", "json").stdout)
        shown = carrel("sessionpool", "status", "below", "--state", str(server.state)).stdout

    assert (reply.status_code, reason in reply.json()["error"]["message"]) == (503, True)
    assert "carrel-isolation" not in reply.headers
    assert {each["name"]: each["isolation"] for each in listed} == {"python": "namespace", "below": None}
    assert {each["name"]: each["status"] for each in listed} == {"python": "ready", "below": "refused"}
    assert "refused" in shown
    assert reason in shown


def test_a_server_with_nothing_to_serve_says_why(tmp_path: Path) -> None:
    """Status 1 and the reason, on stderr."""
    options = ("--state", str(tmp_path / "state"), "--port", "0", "--tls-port", "0")

    done = carrel("serve", *options, "--isolation", "process", "--minimum", "namespace")

    assert done.returncode == 1
    assert "'process', is below its minimum, 'namespace'" in done.stderr
    assert "What to do" in done.stderr


@pytest.mark.thorough
@IN_JAIL
@pytest.mark.slow
def test_a_weaker_level_is_taken_in_capitals(tmp_path: Path) -> None:
    """In a plain container a server runs at `restricted`, and says what is missing and how to get it; every answer says it too."""
    file = tmp_path / "carrel.toml"
    file.write_text(MIXED)
    serve = ("serve", "--state", str(tmp_path / "state"), "--config", str(file), "--port", "0", "--tls-port", "0")
    command = Jail().command(sys.executable, "-P", "-m", "carrel.cli", *serve)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert eventually(lambda: (tmp_path / "state/connection.json").exists(), 120)
            connection = json.loads((tmp_path / "state/connection.json").read_text())
            reply = httpx.get(
                f"{connection['pools']['python']['endpoint']}/metadata",
                params={"api-version": "2025-10-02-preview"},
                headers={"Authorization": f"Bearer {connection['token']}"},
                trust_env=False,
            )
        finally:
            process.terminate()
            said, logged = process.communicate(timeout=30)

    assert (reply.headers["carrel-isolation"], reply.json()["carrel"]["isolation"]) == ("restricted", "restricted")
    assert "ISOLATION IS WEAKER THAN USUAL: level namespace does not work on this machine." in said
    assert "new namespaces are refused" in said
    assert "--security-opt" in said
    assert "isolation     restricted (pool python)" in said
    assert "isolation is weaker than usual" in logged
    assert "'process', is below its minimum, 'namespace'" in said, "the other pool is refused in the same text"

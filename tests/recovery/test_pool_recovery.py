"""Pools that are managed while their server is used, changed and killed: what was acknowledged is there afterwards, and ends right."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

import httpx
import pytest

from carrel.client import ApiError
from carrel.models import Level
from conftest import SLIM, Server, SlimServer, skip_unless_offered
from management import Management
from managing import body_of, managing, put, session, state_of
from processes import eventually

pytestmark = [pytest.mark.slow, pytest.mark.thorough]  # half a minute and more: `make test`

OF_TWO = SLIM + SLIM.replace("python]", "second]")


@pytest.fixture(scope="module")
def changing(slim_server: SlimServer) -> Iterator[Server]:
    with slim_server() as server:
        yield server


# ---- over ends ----------------------------------------------------------------------------------------------------------------


def test_a_gateway_that_is_killed_in_the_middle_leaves_nothing_half_done(changing: Server) -> None:
    """What it had acknowledged, the next one ends: pools that were being made are made, those being deleted go."""
    with managing(changing) as managed, session(changing, "python") as client:
        client.execute("kept = 'yes'")
        for _ in range(3):
            managed.wait(put(managed, "going"))
            put(managed, "coming")
            managed.ask("DELETE", managed.pool("going"), 202)
            os.kill(changing.pids["gateway"], signal.SIGKILL)

            assert eventually(lambda: state_of(managed, "coming") == "Succeeded", 20)
            assert eventually(lambda: state_of(managed, "going") is None, 20)
            with session(changing, "coming") as other:
                assert other.execute("6 * 7").result == 42
            managed.gone(managed.ask("DELETE", managed.pool("coming"), 202))
        assert client.execute("kept").result == "yes"


def is_calm(managed: Management, name: str) -> bool:
    return state_of(managed, name) in (None, "Succeeded")


def test_many_hands_on_few_pools_leave_them_as_the_last_one_said(changing: Server) -> None:
    """Defined, deleted and used by eight at once, and a gateway is killed: every answer is one of the API's, and then all is well."""
    names = ("one-pool", "two-pool")
    seen: set[int] = set()

    def work(seed: int) -> None:
        chance = random.Random(seed)  # noqa: S311 - what it does, not a secret
        with managing(changing) as managed:
            for _ in range(25):
                name = chance.choice(names)
                with suppress(httpx.TransportError):
                    match chance.randrange(4):
                        case 0:
                            seen.add(managed.send("DELETE", managed.pool(name)).status_code)
                        case 1:
                            with session(changing, name, f"user-{seed}") as client, suppress(ApiError):
                                client.execute("6 * 7", timeout=10)
                        case _:
                            body = body_of(
                                disk=f"{chance.randint(16, 40)}MiB",
                                isolation=chance.choice(["restricted", "namespace"]),
                            )
                            seen.add(managed.send("PUT", managed.pool(name), json=body).status_code)

    with ThreadPoolExecutor(8) as hands:
        working = [hands.submit(work, seed) for seed in range(8)]
        time.sleep(1.5)
        os.kill(changing.pids["gateway"], signal.SIGKILL)
        for each in working:
            each.result(timeout=120)
    assert seen <= {200, 201, 202, 204, 409}, seen

    with managing(changing) as managed:
        for name in names:
            assert eventually(partial(is_calm, managed, name), 30), state_of(managed, name)
            managed.wait(put(managed, name, disk="31MiB"))
            assert managed.ask("GET", managed.pool(name)).json()["properties"]["carrel"]["disk"] == "31MiB"
            with session(changing, name, "the-last") as client:
                assert client.execute("6 * 7").result == 42
            managed.gone(managed.ask("DELETE", managed.pool(name), 202))


def test_gvisor_is_started_when_a_pool_first_asks_for_it(changing: Server) -> None:
    """And a session that began there stays there when its pool moves on."""
    skip_unless_offered(Level.GVISOR)
    kernel = "open('/proc/version').read()"
    with (
        managing(changing) as managed,
        session(changing, "strong", "first") as first,
        session(changing, "strong", "second") as second,
    ):
        managed.wait(put(managed, "strong", isolation="gvisor", minimum="gvisor"))
        inside = first.execute(kernel).result
        managed.wait(put(managed, "strong", isolation="namespace"))

        assert second.execute(kernel).result != inside
        assert first.execute(kernel).result == inside
        managed.gone(managed.ask("DELETE", managed.pool("strong"), 202))


@pytest.mark.parametrize("is_killed", [False, True], ids=["stopped", "killed"])
def test_the_next_server_has_the_same_pools(slim_server: SlimServer, tmp_path: Path, is_killed: bool) -> None:
    """Made, changed and deleted ones, with their keys, through the end of the whole server in the middle of more of it."""
    with slim_server(config=OF_TWO, state=tmp_path) as server, managing(server) as managed:
        managed.wait(put(managed, "made"))
        managed.wait(put(managed, "python", disk="48MiB"))
        managed.gone(managed.ask("DELETE", managed.pool("second"), 202))
        assert eventually(lambda: "made" in server.connection["pools"])
        before = server.connection["pools"]
        put(managed, "coming")
        managed.ask("DELETE", managed.pool("made"), 202)
        if is_killed:
            os.kill(server.process.pid, signal.SIGKILL)
            server.process.wait()

    with slim_server(config=OF_TWO, state=tmp_path) as server, managing(server) as managed:
        assert eventually(lambda: state_of(managed, "coming") == "Succeeded", 20)
        assert eventually(lambda: state_of(managed, "made") is None, 20)
        assert state_of(managed, "second") is None
        changed = managed.ask("GET", managed.pool("python")).json()
        assert changed["properties"]["carrel"]["disk"] == "48MiB"
        assert server.connection["pools"]["python"]["mcp_key"] == before["python"]["mcp_key"]
        with session(server, "coming") as client:
            assert client.execute("6 * 7").result == 42

    with slim_server(config=SLIM, state=tmp_path) as server, managing(server) as managed:
        assert {name for name, pool in server.connection["pools"].items() if pool} == {"python", "coming"}


def test_a_server_whose_pools_were_all_deleted_starts_and_can_be_given_others(
    slim_server: SlimServer, tmp_path: Path
) -> None:
    with slim_server(state=tmp_path) as server, managing(server) as managed:
        managed.gone(managed.ask("DELETE", managed.pool("python"), 202))
    with slim_server(state=tmp_path) as server:
        assert server.connection["pools"]["python"] is None
        with managing(server) as managed:
            managed.wait(put(managed, "python"))
            assert eventually(lambda: server.connection["pools"]["python"])
            with session(server, "python") as client:
                assert client.execute("6 * 7").result == 42


def test_an_image_and_an_egress_list_that_were_put_stay(slim_server: SlimServer, tmp_path: Path) -> None:
    egress = 'sessionNetworkConfiguration.status = "EgressEnabled"\ncarrel.egress.allow = ["example.org"]\n'
    config = f'[pools.python]\n{egress}carrel.image = "python-slim"\ncarrel.memory = "1GiB"\n'
    with slim_server(config=config, state=tmp_path) as server:
        for command in (
            ["egress", "set", "python", "example.com", "10.0.0.0/8:443"],
            ["update", "python", "--image", "python"],
        ):
            run_carrel(server, "sessionpool", *command)

    with slim_server(config=config, state=tmp_path) as server, managing(server) as managed:
        carrel = managed.ask("GET", managed.pool("python")).json()["properties"]["carrel"]
        assert (len(carrel["egress"]["allow"]), carrel["image"]) == (2, "python")
        with session(server, "python") as client:
            assert client.execute("import numpy; 6 * 7").result == 42


def run_carrel(server: Server, *arguments: str) -> None:
    command = [sys.executable, "-P", "-m", "carrel.cli", *arguments, "--state", str(server.state)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

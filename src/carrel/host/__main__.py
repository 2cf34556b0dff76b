"""The session host: `python -m carrel.host`, started by the supervisor, with its configuration as one JSON object on stdin.

It owns the sandboxes of this machine. It says on `ready_fd` when it serves, or why it cannot, and then that it is alive (pulse.py); ends
cleanly on SIGTERM, at once on a second one, and is killed by the kernel with its supervisor.

As root it is the server's user for as long as it takes to make its socket, and then a user of its own without any capability, before it
talks to anybody. What needs a right it has from spawners, which the supervisor starts for it. So nothing here may open a file of the
state folder, start a program or import a module late: all of that may lie where only the server's user can go.
"""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import uvloop

from carrel import logs
from carrel.backends import capacity, select
from carrel.backends.spawning import RemoteLauncher
from carrel.config import Config
from carrel.errors import CarrelError
from carrel.guest.linux import die_with_parent, keep_freed_memory, renounce
from carrel.host import door
from carrel.host.self_calls import Instruments
from carrel.host.service import Service
from carrel.models import PoolStatus
from carrel.pulse import Pulse
from carrel.sessions.budget import results_bytes
from carrel.sessions.journal import Journal
from carrel.sessions.keeper import Keeper
from carrel.sessions.ledger import Ledger

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Inheritance:
    """What the supervisor hands over, and what was opened while this process was still the server's user."""

    config: Config
    pulse: Pulse
    supervisor: int  # a socket to it, by which it starts spawners
    door: socket.socket
    callers: frozenset[int]  # users who may connect
    instruments: Instruments
    journal: Journal
    has_to_serve: bool  # at least one pool: it is of no use to go on where all that the operator wrote cannot be served


async def serve(given: Inheritance) -> None:
    """Until cancelled. Raises CarrelError where nothing can be served."""
    launcher = RemoteLauncher(given.supervisor).launch
    choice = await select.choose(given.config, log.info, launcher)
    levels = select.Levels(choice, given.config, log.info, launcher)
    maximum = capacity.sandboxes(given.config.maximum_sandboxes)
    results = results_bytes(capacity.memory_bytes())
    ledger = Ledger(given.journal)
    async with Keeper(levels.backends, maximum, levels.find, results, ledger) as keeper:
        await _open(keeper, choice)
        statuses = {status.spec.name: status for status in keeper.pools()}
        errors = [status.error for status in statuses.values() if status.error]
        if given.has_to_serve and statuses and len(errors) == len(statuses):
            raise CarrelError(_nothing_to_serve(choice, errors))
        async with Service(
            keeper, given.door, given.callers, dataclasses.replace(given.instruments, maximum_sandboxes=maximum)
        ):
            given.pulse.tell({"ready": True, **_boundary(choice, statuses)})
            log.info("serving", extra={"pools": ", ".join(statuses), "maximum_sandboxes": maximum})
            try:
                await given.pulse.beat()
            finally:
                await keeper.close()  # before the connections: callers under way are told


async def _open(keeper: Keeper, choice: select.Choice) -> None:
    """Every pool that has a level, and the refusals of the others; until one has a sandbox, or each a reason why it has none.

    The others go on starting, however long that takes: an image may have to be built.
    """
    for spec in choice.pools:
        await keeper.apply_pool(spec)
    for each in choice.refused:
        fields = {"pool": each.pool.name, "reason": each.reason, "what_to_do": each.advice}
        log.error("a pool is refused", extra=fields)
        keeper.refuse_pool(each.pool, each.reason)
    starting = {asyncio.ensure_future(keeper.settled(spec.name)) for spec in choice.pools}
    try:
        for settled in asyncio.as_completed(starting):
            if await settled is None:
                break
    finally:
        for task in starting:
            task.cancel()


def _nothing_to_serve(choice: select.Choice, errors: list[str]) -> str:
    hints = dict.fromkeys(each.advice for each in choice.refused if each.advice)
    return " ".join([*dict.fromkeys(errors), *(f"What to do: {hint}." for hint in hints)])


def _boundary(choice: select.Choice, statuses: Mapping[str, PoolStatus]) -> dict[str, Any]:
    """Which boundary is in force for whom, for the banner and for the gateway; what is weaker than usual is logged too."""
    for trial in choice.passed_over:
        fields = {"reason": trial.reason, "what_to_do": trial.advice}
        log.warning(f"isolation is weaker than usual: {trial.level} does not work here", extra=fields)
    hints = {each.pool.name: each.advice for each in choice.refused}
    pools = {
        name: {
            "container_type": status.spec.container_type,
            "isolation": status.isolation,
            "is_ready": bool(status.warm),
            "error": status.error,
            "advice": hints.get(name, ""),
        }
        for name, status in statuses.items()
    }
    passed = [{"level": each.level, "reason": each.reason, "advice": each.advice} for each in choice.passed_over]
    warnings = [weakness for backend in choice.backends.values() for weakness in backend.weaknesses]
    return {"pools": pools, "passed_over": passed, "warnings": warnings}


def main() -> int:
    die_with_parent()
    keep_freed_memory(8 * 1024 * 1024)
    message = json.load(sys.stdin)
    config, pulse = Config.from_json(message["config"]), Pulse(message["ready_fd"])
    uid, gateway = message["uid"], message["gateway_uid"]
    logs.configure(config.log_level, config.log_format, "host")
    instruments = Instruments()
    logging.getLogger().addHandler(instruments.troubles)
    gc.freeze()  # what start-up made stays: no collection needs to look at it again
    gc.set_threshold(10_000)
    try:
        callers = frozenset({os.geteuid(), os.geteuid() if gateway is None else gateway})
        with door.bind(config.state / "run" / "hostlink.sock", gateway) as sock:
            journal = Journal.open(config.state / "journal")
            if not select.runs_as_server(config):
                renounce(uid)
            given = Inheritance(
                config,
                pulse,
                message["supervisor_fd"],
                sock,
                callers,
                instruments,
                journal,
                message["has_to_serve"],
            )
            return uvloop.run(_until_signal(given))
    except CarrelError as error:
        log.error("cannot serve", extra={"reason": error.message})
        pulse.tell({"error": error.message})
        return 1


async def _until_signal(given: Inheritance) -> int:
    loop = asyncio.get_running_loop()
    serving = asyncio.ensure_future(serve(given))

    def stop() -> None:
        if not serving.cancel() or is_stopping.is_set():
            os._exit(1)  # told twice: the kernel ends the sandboxes with us
        is_stopping.set()

    is_stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    try:
        await serving
    except asyncio.CancelledError:
        log.info("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())

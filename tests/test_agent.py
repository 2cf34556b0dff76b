"""A real agent between the host's link and a guest that may say anything: what passes, when, in which order, and what does not."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from carrel.guest.frames import Header
from carrel.models import ExecutionSpec, ShellCommand
from carrel.sessions.executions import Order
from carrel.sessions.link import AgentLink
from carrel.sessions.streams import Caps, Run
from carrel.sessions.transcript import Transcript

pytestmark = pytest.mark.anyio

SOURCE = Path(__file__).parent.parent / "src"
AGENT = "import sys; from carrel.guest import alone; alone.main(sys.argv[1:])"
# Does what each run's code says, which has the whole protocol at hand: `send`, the run's number `n`, and what came before the run.
GUEST = """
import json, os, signal, socket, sys, time
from carrel.guest import frames
control = socket.socket(fileno=int(sys.argv[1]))
def send(_payload=b"", **header): control.sendall(frames.encode(header, _payload))
def write(text, fd=1): os.write(fd, text.encode())
signal.signal(signal.SIGINT, lambda *_: send(value=n, done=n, outcome="interrupted"))
decoder, parts, environment, variables = frames.Decoder(), b"", None, None
send(ready=1)
while data := control.recv(65536):
    for header, payload in decoder.feed(data):
        parts += payload
        if header.get("more"): continue
        body, parts = parts, b""
        if "env" in header: environment = json.loads(body)
        elif "variables" in header: variables = json.loads(body)
        else:
            n, is_done = header["run"], False
            exec(body.decode())
            if not is_done: send(value=n, done=n, outcome="ok")
"""
CAPS = Caps(1 << 20, 1 << 20, 1 << 20)


class Agent:
    """The agent, its link, and what came of the last run."""

    def __init__(self, link: AgentLink) -> None:
        self.link = link
        self.transcript = Transcript(1 << 20)
        self.lost: list[str] = []

    async def run(self, code: str | ExecutionSpec, caps: Caps = CAPS) -> Run:
        run, over = self.start(code, caps)
        await asyncio.wait_for(over.wait(), 10)
        return run

    def start(self, code: str | ExecutionSpec, caps: Caps = CAPS) -> tuple[Run, asyncio.Event]:
        self.transcript, over = Transcript(1 << 20), asyncio.Event()
        order = Order.of(ExecutionSpec(code) if isinstance(code, str) else code)
        return self.link.execute(order, caps, self.transcript, over.set), over

    def pieces(self) -> list[tuple[str, bytes]]:
        self.transcript.close()
        found, place = [], 0
        while (piece := self.transcript.read(place)) is not None:
            found.append((piece.kind, piece.data))
            place = piece.place
        return found


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[Agent]:
    guest = tmp_path / "guest.py"
    guest.write_text(GUEST)
    ours, theirs = socket.socketpair()
    command = [
        sys.executable,
        "-c",
        AGENT,
        str(theirs.fileno()),
        str(tmp_path),
        str(8 << 30),
        sys.executable,
        str(guest),
    ]
    with theirs:
        environment = {"PYTHONPATH": str(SOURCE), "PATH": os.environ["PATH"]}
        process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=environment)  # noqa: ASYNC220 - as a test may
    lost: list[str] = []
    link = AgentLink(ours, lambda: None, lost.append)
    try:
        await link.hello()
        await link.attach([], 10)
        each = Agent(link)
        each.lost = lost
        yield each
    finally:
        link.close("the test is over")
        assert process.wait(10) == 0


async def test_output_is_there_soon_and_in_one_piece(agent: Agent) -> None:
    """Long before the code ends; what is written in a row does not come byte by byte."""
    _, over = agent.start("write('a'); write('b'); time.sleep(1.5); write('c')")
    told = asyncio.Event()
    agent.transcript.watchers.add(told)
    await told.wait()

    assert not over.is_set()
    assert agent.transcript.read(0) == agent.transcript.read(0) is not None
    await asyncio.wait_for(over.wait(), 5)
    assert agent.pieces() == [("stdout", b"abc")]


async def test_a_display_comes_after_what_was_written_before_it(agent: Agent) -> None:
    """Also one of many pieces. What is written right after it may overtake it: a pipe has no marks."""
    large = {"data": {"text/plain": "x" * 400_000}}
    code = (
        "write('one'); send(b'{}', display=n); time.sleep(0.1); write('two')\n"
        f"body = json.dumps({large}).encode()\n"
        "for at in range(0, len(body), 100_000): send(body[at:at + 100_000], display=n, more=1)\n"
        "send(b'', display=n); time.sleep(0.1); write('three'); send(b'[]', display=n)"
    )
    run = await agent.run(code)

    assert run.outcome == "ok" and run.dropped == 0
    shown = [(kind, data if kind == "stdout" else json.loads(data)) for kind, data in agent.pieces()]
    texts, displays = [b"one", b"two", b"three"], [{}, large, []]
    assert shown == [
        each for pair in zip(texts, displays, strict=True) for each in (("stdout", pair[0]), ("display", pair[1]))
    ]


async def test_displays_over_a_cap_are_left_out_whole_and_counted(agent: Agent) -> None:
    """A large one in between costs those behind it nothing; past the hundredth there are no more."""
    code = (
        "send(b'1' * 400, display=n); send(b'2' * 700, display=n); send(b'3' * 600, display=n)\n"
        "send(b'4', display=n); send(b'half', display=n, more=1)"
    )
    run = await agent.run(code, Caps(100, 100, 1000))

    assert [data for _kind, data in agent.pieces()] == [b"1" * 400, b"3" * 600] and run.dropped == 2
    run = await agent.run(
        "send(b'[', display=n, more=1); send(b']', display=n)\nfor _ in range(120): send(b'5', display=n)"
    )
    assert [data for _kind, data in agent.pieces()] == [b"[]"] + [b"5"] * 99 and run.dropped == 21


async def test_what_is_given_is_there_and_what_is_wanted_comes_back(agent: Agent) -> None:
    """Environment and variables before the run, the names with it, values with its end; each of more than one frame."""
    await agent.link.environment(json.dumps({"A": "ä" * 300_000}).encode())
    given = {"x": "y" * 600_000}
    code = (
        "write(f\"{environment['A'] == 'ä' * 300_000} {variables['x'] == 'y' * 600_000} {header}\")\n"
        "send(b'{\"a\":', variables=n, more=1); send(b'1}', variables=n)"
    )
    run = await agent.run(ExecutionSpec(code, variables=given, wanted=("a", "b")))

    assert (bytes(run.variables), run.outcome) == (b'{"a":1}', "ok")
    text = agent.transcript.text("stdout").decode()
    assert text.startswith("True True ") and "'kind': 'code', 'get': ['a', 'b']" in text


@pytest.mark.parametrize(
    ("said", "status"),
    [("0", 0), ("255", 255), ("256", None), ("-1", None), ("True", None), ("'1'", None), ("1.0", None), ("[]", None)],
)
async def test_an_exit_code_is_one(agent: Agent, said: str, status: int | None) -> None:
    shell = ShellCommand("x", stdin="in")
    run, over = agent.start(f"is_done = True; send(done=n, outcome='error', exit={said})")
    await asyncio.wait_for(over.wait(), 5)

    assert (run.status, run.outcome) == (status, "error")
    assert json.loads(Order.of(ExecutionSpec("", shell=shell)).code) == {
        "command": "x",
        "shell": "bash",
        "stdin": "in",
    }


HOSTILE: dict[str, tuple[str, str]] = {
    "frames of another run": ("send(b'x', display=n + 1); send(b'x', value=n + 1); send(b'x', variables=0)", "ok"),
    "frames of no kind": ("send(b'x', what=n); send(); send(b'x', display=[n]); send(b'x', display=None)", "ok"),
    "an outcome that is none": ("is_done = True; send(done=n, outcome='splendid')", "error"),
    "an outcome that is a list": ("is_done = True; send(done=n, outcome=['ok'])", "error"),
    "no outcome": ("is_done = True; send(done=n)", "error"),
    "a frame over its bounds": ("is_done = True; control.sendall(b'\\xff' * 64); time.sleep(5)", "died"),
    "no frame": ("is_done = True; control.sendall(b'\\0\\0\\0\\1\\0\\0\\0\\0['); time.sleep(5)", "died"),
    "a closed socket": ("is_done = True; control.close(); time.sleep(5)", "died"),
    "its death": ("os.kill(os.getpid(), 9)", "died"),
    "values without end": ("for _ in range(50): send(b'v' * 100_000, value=n)", "ok"),
    "variables without end": ("for _ in range(50): send(b'v' * 100_000, variables=n)", "ok"),
    "displays without end": ("for _ in range(50): send(b'v' * 100_000, display=n, more=1)", "ok"),
}


@pytest.mark.parametrize(("code", "outcome"), HOSTILE.values(), ids=HOSTILE.keys())
async def test_what_a_guest_may_not_say_harms_nobody(agent: Agent, code: str, outcome: str) -> None:
    """It is dropped, cut at its cap, or ends the interpreter; never the link."""
    run = await agent.run(ExecutionSpec("write('before')\n" + code, wanted=("a",)))

    assert run.outcome == outcome and not agent.lost
    assert agent.pieces() == [("stdout", b"before")]
    assert len(run.value) <= 1 << 20 and len(run.variables) <= 1 << 20
    await agent.link.reset()
    await agent.link.attach([], 10)
    assert (await agent.run("write('after')")).outcome == "ok"
    assert agent.pieces() == [("stdout", b"after")]


async def test_variables_that_nobody_asked_for_are_dropped(agent: Agent) -> None:
    """The host would keep them with the execution, megabytes that nobody can read."""
    run = await agent.run("for _ in range(5): send(b'v' * 100_000, variables=n)")

    assert (bytes(run.variables), run.outcome) == (b"", "ok")


async def test_an_interrupt_reaches_the_guest(agent: Agent) -> None:
    run, over = agent.start("write('x'); is_done = True\ntime.sleep(0.3)")
    await asyncio.sleep(0.1)
    await agent.link.interrupt()
    await asyncio.wait_for(over.wait(), 5)

    assert run.outcome == "interrupted"


async def test_an_interrupt_waits_until_the_guest_has_begun(agent: Agent) -> None:
    """A guest is deaf to interrupts until it has begun with what it was sent. Sooner it would be lost, and the state with it."""
    deaf = "handler = signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(0.02); signal.signal(signal.SIGINT, handler)"
    run, over = agent.start(f"is_done = True\n{deaf}\ntime.sleep(1)")
    await agent.link.interrupt()
    await asyncio.wait_for(over.wait(), 5)

    assert run.outcome == "interrupted"


async def test_an_interrupt_of_a_run_that_is_over_does_not_reach_the_next(agent: Agent) -> None:
    _, over = agent.start("pass")
    await agent.link.interrupt()
    await asyncio.wait_for(over.wait(), 5)

    assert (await agent.run("time.sleep(0.2)")).outcome == "ok"


async def test_a_result_is_read_whole_where_it_was_the_last_word(agent: Agent) -> None:
    """A guest may end right after its answer, which may be as much as its socket takes."""
    run = await agent.run("is_done = True; send(b'x' * 150_000, value=n, done=n, outcome='ok'); os._exit(0)")

    assert (run.outcome, len(run.value)) == ("ok", 150_000)


async def test_floods_of_both_streams_cost_large_frames_only(agent: Agent) -> None:
    """Byte by byte for a while: a frame each 10 ms at most, or 64 KiB; nothing of it is lost."""
    frames = 0
    run, over = agent.start("for number in range(60_000): write('o'); write('e', 2)")
    take = run.data

    def counted(header: Header, payload: bytes) -> None:
        nonlocal frames
        frames += 1
        take(header, payload)

    run.data = counted  # type: ignore[method-assign]
    began = time.monotonic()
    await asyncio.wait_for(over.wait(), 20)

    assert len(agent.transcript.text("stdout")) == len(agent.transcript.text("stderr")) == 60_000
    assert frames < 20 + 2 * (time.monotonic() - began) / 0.01

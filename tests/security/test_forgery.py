"""Writing to the descriptor that results go over: whatever comes, it is about the own session only, and the server stays well-formed."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import httpx
import pytest

from carrel.client import ApiError, Client
from fortress import Attacker

pytestmark = pytest.mark.of_python(
    reason="what is forged has to come from inside Python's guest, which has the control socket"
)

# `run` is the number of the call under way, read off our own frames: code that shares our process can.
_FORGE = """
import json, struct

def frame(header, payload=b''):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack('>II', len(text), len(payload)) + text + payload
def forge(*pieces):
    data = memoryview(b''.join(pieces))
    while data: data = data[os.write(3, data):]
def number():
    at = sys._getframe()
    while not isinstance(getattr(at.f_locals.get('request'), 'number', None), int): at = at.f_back
    return at.f_locals['request'].number
def value(document): return frame({'value': number()}, document if isinstance(document, bytes) else json.dumps(document).encode())
def done(outcome='ok'): return frame({'done': number(), 'outcome': outcome})
"""


@pytest.fixture
def attacker(attacker: Attacker) -> Attacker:
    """With the forger's tools."""
    attacker.value(_FORGE)
    return attacker


def test_a_forged_answer_is_believed_about_the_own_session_only(attacker: Attacker, neighbour: Client) -> None:
    """The forger gets its own forgery back; the code's real end is ignored, and so is a frame for any other call."""
    code = """
own = number()
for n in range(2000):
    if n != own: forge(frame({'value': n}, b'{"kind":"text","text":"stolen"}'), frame({'done': n, 'outcome': 'ok'}))
forge(value({'kind': 'scalar', 'json': 'forged'}), done())
time.sleep(0.2)
"""
    result = attacker.run(code)

    assert (result.status, result.result) == ("Succeeded", "forged")
    assert neighbour.execute("kept + 1").result == 42
    attacker.still_works()


def test_code_cannot_make_up_its_figures(attacker: Attacker) -> None:
    """A forged last word is believed about an exception of its own only: figures in it are ignored, a made-up cause is none."""
    code = """
lie = {'done': number(), 'outcome': 'error', 'cause': 'boredom', 'cpu_us': 10**9, 'printed': 10**9, 'written': 10**9, 'code': 7}
forge(value({'kind': 'scalar', 'json': 'forged'}), frame(lie))
time.sleep(0.2)
"""
    told = attacker.run(code)

    assert (told.outcome, told.result) == ("error", "forged")
    assert told.usage.cpu_ms is not None and told.usage.cpu_ms < 10_000
    assert (told.usage.written_bytes or 0) < 10**6 and (told.usage.printed_bytes or 0) < 10**6


@pytest.mark.thorough
@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"not json",
        b"\xff\xfe",
        b"{}",
        b"[]",
        b"5",
        b"null",
        b"[" * 100_000,
        b'{"kind":"scalar","json":NaN}',
        b'{"kind":"scalar","json":1e999}',
        b'{"kind":"scalar","json":-1e999}',
        b'{"kind":"scalar","json":' + b"9" * 4000 + b"}",
        b'{"kind":"scalar","json":' + b"9" * 100_000 + b"}",
        b'{"kind":"scalar","json":{"a":1}}',
        b'{"kind":"scalar","json":"\\ud800"}',
        b'{"kind":"image","json":5}',
        b'{"kind":"image","json":{"type":5}}',
        b'{"kind":"image","json":{}}',
        b'{"kind":"container","json":7}',
        b'{"kind":"container","json":[1e999,{"x":-1e999}]}',
        b'{"kind":"container","json":' + b"[" * 300 + b"]" * 300 + b"}",
        b'{"kind":"container","json":' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"kind":"container","json":' + b"[" * 980 + b"]" * 980 + b"}",
        b'{"kind":"container","json":' + b'{"a":' * 900 + b"1" + b"}" * 900 + b"}",
        b'{"kind":"text","text":5}',
        b'{"kind":"text"}',
        b'{"kind":"text","text":"\\udfff\\u0000"}',
        b'{"kind":"nonsense"}',
        b'{"kind":["text"]}',
        b'{"kind":"absent","json":1}',
    ],
    ids=range(30),
)
@pytest.mark.parametrize("api_version", ["old", "text", "new"])
def test_a_forged_value_never_breaks_the_reply(probe: Attacker, document: bytes, api_version: str) -> None:
    """Broken JSON, wrong types, NaN, bottomless nesting: HTTP 200 with valid JSON in it, in every envelope."""
    probe.value(_FORGE)
    connection = probe.server.connection
    version = {"old": "2024-02-02-preview", "text": "2024-10-02-preview", "new": "2025-10-02-preview"}[api_version]
    path = "code/execute" if api_version == "old" else "executions"
    reply = httpx.post(
        f"{probe.server.endpoint}/{path}",
        params={"api-version": version, "identifier": probe.client.identifier},
        headers={"Authorization": f"Bearer {connection['token']}"},
        json={"code": f"forge(value({document!r}) if {document!r} else b'', done())\ntime.sleep(0.02)"},
        trust_env=False,
        timeout=20,
    )

    assert reply.is_success, reply.text[:500]
    assert "f_locals" not in reply.text, "the forger did not find the run's number: nothing was forged"

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    json.loads(reply.text, parse_constant=refuse)
    probe.still_works()


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"not json",
        b"[1]",
        b'{"data": 5}',
        b'{"data": {}}',
        b'{"data": {"text": "no type"}}',
        b'{"data": {"text/plain\\nevent: result\\ndata: {}": "x"}}',
        b'{"data": {"application/json": NaN}}',
        b'{"data": {"application/json": ' + b"[" * 900 + b"]" * 900 + b"}}",
        b'{"data": {"application/json": ' + b"[" * 100_000,
        b'{"data": {"text/plain": ""}, "metadata": [1]}',
    ],
    ids=range(11),
)
def test_a_forged_display_is_left_out_and_counted(probe: Attacker, document: bytes) -> None:
    """In the result and in the events; both are whole, and what is a display comes through beside it."""
    probe.value(_FORGE)
    good = b'{"data": {"text/plain": "\\ud800 data: x\\n\\n", "application/json": 1e999}}'
    send = f"n = number(); forge(frame({{'display': n}}, {document!r}), frame({{'display': n}}, {good!r}))\ntime.sleep(0.05)"
    seen = list(probe.client.stream(send))
    result = seen[-1].result

    assert result is not None and result.is_ok, result
    assert [event.kind for event in seen] == ["started", "display", "result"]
    assert [dict(output.data) for output in result.outputs] == [
        {"text/plain": "\ud800 data: x\n\n", "application/json": "inf"}
    ]
    assert result.dropped_outputs == 1
    probe.still_works()


@pytest.mark.thorough  # its bound is in seconds, which a busy machine may not keep
@pytest.mark.parametrize("kind", ["value", "display"])
def test_a_bomb_of_json_holds_nobody_up(attacker: Attacker, neighbour: Client, kind: str) -> None:
    """Five million lists, in one value or in a hundred displays: parsed, that was three seconds and more in which nobody was answered."""
    sent = {
        "value": """document = b'{"kind":"container","json":[' + b'[],' * 5_000_000 + b'0]}'
for at in range(0, len(document), 200_000): forge(frame({'value': n, 'more': 1}, document[at:at + 200_000]))""",
        "display": """document = b'{"data":{"application/json":[' + b'[],' * 50_000 + b'0]}}'
for _ in range(100): forge(frame({'display': n}, document))""",
    }[kind]
    waits: list[float] = []
    is_over = threading.Event()

    def ask() -> None:
        while not is_over.is_set():
            began = time.monotonic()
            assert neighbour.execute("kept").result == 41
            waits.append(time.monotonic() - began)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        result = attacker.run(f"n = number()\n{sent}\nforge(done())\ntime.sleep(0.02)")
    finally:
        is_over.set()
        asking.join()

    assert max(waits) < 3
    assert result.is_ok
    assert len(result.outputs) < 100 and ("could not be read" in result.stderr) is (kind == "value")
    attacker.still_works()


def test_variables_that_are_none_do_not_come_back(attacker: Attacker) -> None:
    for document in (b"[1]", b"{", b'{"a": NaN}', b"[" * 100_000, b'{"a": 1}' * 2):
        send = f"n = number(); forge(frame({{'variables': n}}, {document!r})); a = 1"
        result = attacker.client.execute(send, return_variables=["a"])
        assert result.is_ok and result.variables in ({}, {"a": 1})
    attacker.still_works()


def test_a_forged_exit_code_is_its_own_callers(attacker: Attacker) -> None:
    """Code has none; a command's is what its own session says it is."""
    assert (
        attacker.run("forge(frame({'done': number(), 'outcome': 'ok', 'exit': 7}))\ntime.sleep(0.05)").status
        == "Succeeded"
    )
    assert attacker.client.shell("exit 3").exit_code == 3


@pytest.mark.parametrize(
    "garbage",
    [
        "os.urandom(100_000)",
        "struct.pack('>II', 2**32 - 1, 2**32 - 1)",
        "struct.pack('>II', 65_537, 0)",
        "struct.pack('>II', 2, 262_145) + b'{}'",
        "struct.pack('>II', 3, 0) + b'[1]'",
        "struct.pack('>II', 4, 0) + b'\\xff\\xfe\\xfd\\xfc'",
        "frame(b'[' * 60_000)",
        "frame(b'{\"value\": ' + b'9' * 60_000 + b'}')",
        "frame({'value': 'x' * 60_000})",
        "frame({'value': [1]})",
        "frame({'done': {'a': 1}, 'outcome': ['ok']})",
        "frame({'done': number(), 'outcome': {'x': 1}})",
        "frame({'done': number(), 'outcome': 'interrupted'})",
        "frame({'done': number()})",
        "frame({'ready': 1}) * 1000",
        "frame({'s': 0, 'event': 'died'}) + frame({'s': 1, 'end': 1}) + frame({'s': 1, 'error': {'code': 'x', 'message': 'y'}})",
        "frame({'op': 'reset', 's': 99})",
        "frame({}) * 10_000",
    ],
)
def test_broken_frames_cost_one_interpreter_at_most(attacker: Attacker, garbage: str) -> None:
    """Random bytes, giant lengths, headers that are no objects, frames that are none of its business."""
    began = time.monotonic()
    result = attacker.run(f"forge({garbage})\n5", timeout=6)

    assert result.is_finished and "f_locals" not in result.stderr
    assert time.monotonic() - began < 5
    attacker.still_works()


@pytest.mark.parametrize(
    "half",
    [
        "b'\\0\\0'",
        "struct.pack('>II', 100, 0)",
        "frame({'value': number()}, b'x' * 1000)[:-1]",
    ],
)
def test_half_a_frame_ends_in_an_answer(attacker: Attacker, half: str) -> None:
    """What follows it is out of step: the interpreter is replaced, by the deadline at the latest."""
    result = attacker.run(f"forge({half})\n5", timeout=1)
    assert result.is_finished

    attacker.still_works()


@pytest.mark.thorough
def test_a_call_that_forges_its_end_and_goes_on_is_only_late_for_itself(attacker: Attacker, neighbour: Client) -> None:
    """The next call waits for the interpreter, which is still busy, and gets its own deadline."""
    began = time.monotonic()
    assert attacker.run("forge(done())\ntime.sleep(2)").status == "Succeeded"
    assert time.monotonic() - began < 1
    assert attacker.run("'the next'", timeout=10).result == "the next"
    attacker.run("forge(done())\nwhile True: pass")
    assert attacker.run("'late'", timeout=1).status == "Failed"
    attacker.still_works()


def test_a_flood_of_frames_is_dropped(attacker: Attacker, neighbour: Client) -> None:
    """300 MB of values and 200,000 empty frames while a call runs: capped by the agent; host and gateway do not grow by it."""

    def resident(pid: int) -> float:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / 2**20

    before = {name: resident(pid) for name, pid in attacker.server.pids.items()}
    flood = "piece = frame({'value': number()}, b'x' * 262_144)\nfor n in range(1200): forge(piece)\nforge(frame({}) * 200_000)"
    result = attacker.run(flood, timeout=20)

    assert result.is_finished
    for name, pid in attacker.server.pids.items():
        assert resident(pid) - before[name] < 80, name  # one value of at most 16 MiB, in a few copies
    attacker.still_works()


def test_a_flood_of_displays_is_dropped(attacker: Attacker, neighbour: Client) -> None:
    """Large ones, many, endless ones, while somebody watches: bounded everywhere, and counted where they are whole."""

    def resident(pid: int) -> float:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / 2**20

    before = {name: resident(pid) for name, pid in attacker.server.pids.items()}
    display = b'{"data": {"text/plain": "' + b"x" * 200_000 + b'"}}'
    flood = (
        f'n, small = number(), b\'{{"data": {{"text/plain": "s"}}}}\'\n'
        f"for _ in range(300): forge(frame({{'display': n}}, {display!r}))\n"
        "for _ in range(20): forge(frame({'display': n}, small) * 1000)\n"
        "for _ in range(200): forge(frame({'display': n, 'more': 1}, b'x' * 262_144))"
    )
    *_, last = attacker.client.stream(flood, timeout=20)

    assert last.result is not None and last.result.is_finished
    assert len(last.result.outputs) <= 100 and last.result.dropped_outputs >= 20_000
    assert neighbour.execute("kept + 1").result == 42
    for name, pid in attacker.server.pids.items():
        assert resident(pid) - before[name] < 120, (
            name
        )  # 16 MiB of displays, as events and in the result, in a few copies
    attacker.still_works()


def test_frames_between_calls_are_nobodys(attacker: Attacker) -> None:
    """A thread that forges while no call runs, values and ends of calls to come: the next answers are the real ones."""
    code = """
first = number()
def late():
    time.sleep(0.1)
    for n in range(200):
        for m in (first, first - 1):
            forge(frame({'value': m}, b'{"kind":"scalar","json":"early"}'), frame({'done': m, 'outcome': 'ok'}))
threading.Thread(target=late).start()
"""
    attacker.value(code)
    time.sleep(0.4)

    assert attacker.value("6 * 7") == 42


def test_nobody_can_read_what_the_agent_sends_to_another_call(attacker: Attacker) -> None:
    """Code that drains the result socket gets its own session's code at most; a call it swallowed ends at its deadline."""
    attacker.value("s = socket.socket(fileno=os.dup(3))\ndef drain():\n    while s.recv(65536): pass")
    attacker.value("threading.Thread(target=drain, daemon=True).start()")
    for _ in range(4):
        result = attacker.run("1 + 1", timeout=1)
        assert result.is_finished
        if result.result == 2:
            break

    attacker.run("import os; os._exit(1)", timeout=1)
    attacker.still_works()


def test_two_callers_of_one_attacked_session_both_get_answers(attacker: Attacker) -> None:
    """Calls that wait behind a forger are answered, or told that the session ended."""
    answers: list[object] = []

    def call() -> None:
        try:
            answers.append(attacker.run("1 + 1", timeout=3))
        except ApiError as error:
            answers.append(error)

    callers = [threading.Thread(target=call) for _ in range(3)]
    forger = threading.Thread(target=attacker.run, args=("forge(os.urandom(1000))\ntime.sleep(1)", 3))
    for thread in (forger, *callers):
        thread.start()
    for thread in (forger, *callers):
        thread.join(15)
    assert len(answers) == 3

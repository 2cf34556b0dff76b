"""stdout and stderr: their caps in characters, and time limits."""

from __future__ import annotations

import time

import pytest

from endpoint import V24_02, V24_10, Endpoint

TIMED_OUT = "Request timed out waiting for code execution to complete"
MIB = 1024 * 1024


@pytest.mark.parametrize("version", [V24_02, V24_10, "2025-10-02-preview"])
def test_executions_cuts_at_4096_characters(shared: Endpoint, version: str) -> None:
    """Each stream by default, without a marker."""
    body = shared.run("import sys\nprint('x' * 10_000)\nprint('e' * 10_000, file=sys.stderr)", version=version)

    assert body["status"] == "Succeeded"
    assert (body["result"]["stdout"], body["result"]["stderr"]) == ("x" * 4096, "e" * 4096)


@pytest.mark.one_level
def test_characters_are_counted_not_bytes(shared: Endpoint) -> None:
    """A cap never cuts a character in two."""
    assert shared.run("print('\U0001f600' * 5000)")["result"]["stdout"] == "\U0001f600" * 4096


@pytest.mark.parametrize(("asked", "got"), [(1, 1), (123_456, 123_456), (10**9, MIB)])
@pytest.mark.one_level
def test_the_callers_cap_is_honoured_up_to_a_megabyte(shared: Endpoint, asked: int, got: int) -> None:
    body = shared.run("print('x' * 2_000_000, end='')", outputStreamsMaxLength=asked)

    assert len(body["result"]["stdout"]) == got


@pytest.mark.one_level
def test_the_old_envelope_cuts_at_a_mebi_character(shared: Endpoint) -> None:
    assert len(shared.old("print('x' * 2_000_000)")["stdout"]) == MIB


def test_output_of_children_and_of_c_libraries_is_captured(shared: Endpoint) -> None:
    """Whatever writes to descriptors 1 and 2, in order."""
    body = shared.run("import os, sys\nprint('one')\nos.system('echo two')\nos.write(1, b'three\\n')\nprint('four')")

    assert body["result"]["stdout"] == "one\ntwo\nthree\nfour\n"


def test_bytes_that_are_no_text_are_replaced(shared: Endpoint) -> None:
    assert shared.run("import os; n = os.write(1, b'a\\xff\\x00b')")["result"]["stdout"] == "a\ufffd\x00b"


def test_time_is_up_and_the_variables_stay(endpoint: Endpoint) -> None:
    """A Python loop is interrupted at its deadline: `Failed`, Azure's words, what was printed, and the same interpreter."""
    endpoint.run("x = 41")
    began = time.monotonic()
    body = endpoint.run("print('begun')\nwhile True: pass", timeoutInSeconds=1)

    assert 0.9 < time.monotonic() - began < 4
    assert (body["status"], body["result"]["stdout"]) == ("Failed", "begun\n")
    assert body["result"]["stderr"].endswith(TIMED_OUT)
    assert endpoint.result("x + 1") == 42


@pytest.mark.one_level
def test_time_is_up_for_sleepers_and_commands(shared: Endpoint) -> None:
    """A sleep, an awaited sleep and a command all end at the deadline."""
    for code in ("import time; time.sleep(30)", "import asyncio; await asyncio.sleep(30)", "!sleep 30"):
        body = shared.run(code, timeoutInSeconds=1)
        assert body["status"] == "Failed"
        assert body["result"]["stderr"].endswith(TIMED_OUT)
    assert shared.result("1 + 1") == 2


@pytest.mark.parametrize(
    "code",
    [
        "import collections, itertools\ncollections.deque(itertools.repeat(1), maxlen=0)",
        "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 64))\nwhile True: pass",
    ],
    ids=["in C", "blocking it"],
)
def test_what_cannot_be_interrupted_is_restarted(endpoint: Endpoint, code: str) -> None:
    """The answer comes within the grace period; the interpreter is a fresh one, the files are the same."""
    endpoint.run("x = 1; n = open('kept.txt', 'w').write('kept')")
    began = time.monotonic()
    body = endpoint.run(code, timeoutInSeconds=1)

    assert time.monotonic() - began < 5
    assert body["status"] == "Failed"
    assert TIMED_OUT in body["result"]["stderr"]
    assert endpoint.result("'x' in globals(), open('kept.txt').read()", timeoutInSeconds=30) == [False, "kept"]


@pytest.mark.one_level
def test_the_old_envelope_times_out_alike(shared: Endpoint) -> None:
    properties = shared.old("while True: pass", timeoutInSeconds=1)

    assert properties["status"] == "Failure"
    assert properties["stderr"].endswith(TIMED_OUT)


@pytest.mark.parametrize(
    "code",
    ["import os; os._exit(3)", "exit()", "import os; os.kill(os.getpid(), 9)", "import ctypes; ctypes.string_at(0)"],
)
def test_a_dead_interpreter_is_a_result(endpoint: Endpoint, code: str) -> None:
    """`Failed` with `Kernel restarted`, what was printed kept; the next call has a fresh interpreter and the same files."""
    endpoint.run("x = 1; n = open('kept.txt', 'w').write('kept')")
    body = endpoint.run(f"print('before', flush=True)\n{code}")

    assert (body["status"], body["result"]["stdout"]) == ("Failed", "before\n")
    assert "Kernel restarted" in body["result"]["stderr"]
    assert endpoint.result("'x' in globals(), open('kept.txt').read()") == [False, "kept"]
    assert endpoint.old(code)["status"] == "Failure"

"""What every runtime gives, in its own dialect: streams, state, errors, deadlines, ends, files. At every level, in every pool.

What only one of them has (a value's rules, tracebacks, displays) is in that runtime's own tests.
"""

from __future__ import annotations

import threading
import time
from urllib.parse import quote

import pytest

from carrel.models import Level
from processes import eventually
from runtimes import MEMORY_MIB, PIDS, Session

STRANGE = "grüße 日本 \U0001f600 'single' \"double\" $HOME `id` \\n %s &lt; #"


# ---- streams -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["hello-world", STRANGE, "two\nlines", "x" * 3000], ids=["plain", "strange", "lines", "long"]
)
def test_what_is_printed_comes_back_on_its_stream(session: Session, text: str) -> None:
    """Byte for byte, and on no other; there is no value beside it."""
    out, err = session.do("say", text=text), session.do("warn", text=text)

    assert (out["stdout"], out["stderr"], out["executionResult"]) == (f"{text}\n", "", "")
    assert (err["stdout"], err["stderr"], err["executionResult"]) == ("", f"{text}\n", "")
    assert {out["outcome"], err["outcome"]} == {"ok"}


def test_the_old_envelope_is_every_runtimes(session: Session) -> None:
    """The published tutorial's request and reply, whatever the pool runs."""
    told = session.endpoint.old(session.dialect.filled(session.dialect.say, text="hello-world"))

    assert (told["status"], told["stdout"], told["stderr"], told["executionResult"]) == (
        "Success",
        "hello-world\n",
        "",
        "",
    )
    assert 0 <= told["executionTimeInMilliseconds"] < 10_000


def test_a_flood_is_cut_counted_and_quick(session: Session) -> None:
    """Thirty megabytes: the beginning is kept, all of it is counted, and the next call has nothing of it."""
    told = session.do("flood", count=30_000_000)

    assert (told["status"], told["stdout"]) == ("Succeeded", "x" * 4096)
    assert told["usage"]["printedBytes"] == 30_000_000
    assert session.printed("say", text="mine") == "mine"


def test_nothing_can_be_read_from_stdin(session: Session) -> None:
    """Its end comes at once."""
    assert session.printed("stdin") == "0"


@pytest.mark.parametrize("code", ["", "\n\n", "   "], ids=["empty", "lines", "spaces"])
def test_code_that_does_nothing_succeeds(session: Session, code: str) -> None:
    told = session.run(code)

    assert (told["status"], told["stdout"], told["stderr"], told["executionResult"]) == ("Succeeded", "", "", "")


def test_values_come_as_json(session: Session) -> None:
    """The last expression's, in languages that have such a thing."""
    for code, value in session.dialect.values:
        assert session.run(code)["executionResult"] == value, code


# ---- state ---------------------------------------------------------------------------------------------------------------------------


def test_state_lives_as_long_as_the_session(session: Session) -> None:
    """And may be given anew: a notebook's cell is run again and again."""
    session.do("keep", number=41)
    assert session.printed("recall") == "41"
    session.do("keep", number=42)

    assert session.printed("recall") == "42"


def test_a_session_has_nothing_of_another(session: Session) -> None:
    """Neither variables nor files, in the same pool at the same time."""
    session.do("keep", number=41)
    session.do("write", path="mine.txt", text="secret")
    other = {"identifier": f"{session.endpoint.identifier}-other"}
    code = session.dialect.filled(session.dialect.recall)
    try:
        told = session.endpoint.send("POST", "executions", query=other, json={"code": code}).json()
        listed = session.endpoint.send("GET", "files", query=other).json()["value"]
    finally:
        session.endpoint.send("DELETE", "session", query=other)

    assert told["status"] == "Failed"
    assert "41" not in told["result"]["stdout"]
    assert listed == []


def test_the_environment_is_the_sessions_own(session: Session) -> None:
    """A home and a place for temporary files; nothing of the server's."""
    assert session.printed("variable", name="HOME").startswith("/")
    assert session.printed("variable", name="TMPDIR").startswith("/")
    assert session.printed("variable", name="CARREL_STATE") == ""
    assert session.printed("variable", name="PYTEST_CURRENT_TEST") == ""


def test_calls_of_a_session_take_turns(session: Session) -> None:
    """The second waits for the first, and sees what it did."""
    first = threading.Thread(
        target=session.run,
        args=(session.dialect.filled(f"{session.dialect.sleep}\n{session.dialect.keep}", seconds=1, number=5),),
    )
    first.start()
    time.sleep(0.3)
    told = session.printed("recall")
    first.join()

    assert told == "5"


# ---- errors --------------------------------------------------------------------------------------------------------------------------


def test_an_error_is_a_result(session: Session) -> None:
    """HTTP succeeds; what was printed before is kept, the reason is on stderr, and the session goes on with its state."""
    dialect = session.dialect
    session.do("keep", number=41)
    told = session.run(dialect.filled(f"{dialect.say}\n{dialect.fail}", text="the reason"))

    assert (told["status"], told["outcome"], told["stdout"]) == ("Failed", "error", "the reason\n")
    assert "the reason" in told["stderr"]
    assert "\x1b[" not in told["stderr"]
    assert "carrel" not in told["stderr"], "a user reads of his own code, not of ours"
    assert session.printed("recall") == "41"


def test_what_is_no_program_is_a_result_too(session: Session) -> None:
    told = session.do("broken")

    assert (told["status"], told["outcome"]) == ("Failed", "error")
    assert "syntax" in told["stderr"].lower()
    assert session.printed("say", text="on") == "on"


# ---- deadlines -----------------------------------------------------------------------------------------------------------------------


def test_a_loop_ends_at_its_deadline_and_state_is_kept(session: Session) -> None:
    session.do("keep", number=41)
    began = time.monotonic()
    told = session.do("spin", timeout=1)

    assert (told["status"], told["outcome"]) == ("Failed", "timeout")
    assert "Request timed out" in told["stderr"]
    assert time.monotonic() - began < 4
    assert session.printed("recall") == "41"


def test_what_waits_ends_at_its_deadline_too(session: Session) -> None:
    session.do("keep", number=41)
    told = session.do("sleep", seconds=30, timeout=1)

    assert (told["status"], told["outcome"]) == ("Failed", "timeout")
    assert session.printed("recall") == "41"


def test_who_does_not_want_to_be_interrupted_is_killed(session: Session) -> None:
    """Soon after the deadline; files stay, and the session works on."""
    session.do("write", path="kept.txt", text="still here")
    began = time.monotonic()
    told = session.do("stubborn", timeout=1)

    assert (told["status"], told["outcome"]) == ("Failed", "timeout")
    assert time.monotonic() - began < 6
    assert session.printed("read", path="kept.txt") == "still here"


# ---- ends ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "outcome", "words"), [("leave", "exited", {"status": 3}), ("die", "killed", {})], ids=["exit", "SIGKILL"]
)
def test_the_end_of_an_interpreter_is_not_the_sessions(
    session: Session, what: str, outcome: str, words: dict[str, int]
) -> None:
    """Its variables are lost and its files are not; the next call finds another. A shell's commands are processes of their own anyway."""
    session.do("keep", number=41)
    session.do("write", path="kept.txt", text="still here")
    told = session.do(what, **words)

    assert told["status"] == "Failed"
    assert told["outcome"] == (outcome if session.dialect.dies_whole else "error")
    assert session.printed("read", path="kept.txt") == "still here"
    recalled = session.do("recall")
    assert (recalled["status"], recalled["stdout"]) == (
        ("Failed", "") if session.dialect.dies_whole else ("Succeeded", "41\n")
    )


def test_garbage_on_the_control_socket_ends_the_interpreter_only(session: Session) -> None:
    """What code may reach of our protocol breaks its own session's interpreter at the most."""
    session.do("write", path="kept.txt", text="still here")
    told = session.do("scribble", timeout=5)

    if session.dialect.dies_whole:
        assert told["outcome"] in ("killed", "ok")  # "ok" where the run was over before the garbage was read
    else:
        assert told["outcome"] == "error", "commands do not have the descriptor"
    assert eventually(lambda: session.do("say", text="on")["stdout"] == "on\n")
    assert session.printed("read", path="kept.txt") == "still here"


def test_memory_ends_what_takes_too_much(session: Session) -> None:
    """Killed by the kernel, or told first; the session works on."""
    if session.level is Level.PROCESS:
        pytest.skip("nothing but the address space is bounded there, by some gigabytes")
    told = session.do("hoard", timeout=60)

    assert told["status"] == "Failed"
    assert told["outcome"] == "memory" or (told["outcome"] == "error" and not session.dialect.dies_whole), told
    assert session.printed("say", text=f"below {MEMORY_MIB}") == f"below {MEMORY_MIB}"


@pytest.mark.thorough
def test_processes_are_bounded(session: Session) -> None:
    """Whoever starts more than may be is refused, and told so; a restart clears them away."""
    if session.level is Level.PROCESS:
        pytest.skip("nothing bounds their number there")
    told = session.do("breed", timeout=5)

    assert told["status"] == "Failed", told
    assert told["outcome"] in {"processes", "error", "timeout", "memory"}, f"{PIDS} processes are the most"
    session.endpoint.send("POST", "session/restart").raise_for_status()
    assert session.printed("say", text="on") == "on"


def test_what_is_left_running_neither_holds_the_call_nor_outlives_the_session(session: Session) -> None:
    began = time.monotonic()
    told = session.do("linger")

    assert told["status"] == "Succeeded", told
    assert time.monotonic() - began < 5
    assert session.printed("say", text="on") == "on"


# ---- files ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["plain.txt", "with space.txt", "grüße 日本.txt", "quo'te\".txt", ".hidden"])
def test_code_and_callers_share_files(session: Session, name: str) -> None:
    """Uploaded and read by code, written by code and downloaded, under the very same name."""
    session.endpoint.upload(name, STRANGE.encode())
    assert session.printed("read", path=name) == STRANGE
    session.do("write", path=f"out-{name}", text=STRANGE)

    listed = session.endpoint.send("GET", "files").json()["value"]
    assert sorted(each["name"] for each in listed) == sorted([name, f"out-{name}"])
    content = session.endpoint.send("GET", f"files/{quote('out-' + name, safe='')}/content").content
    assert content.decode() == STRANGE


def test_code_starts_in_the_data_folder(session: Session) -> None:
    """At /mnt/data where a session has a root of its own."""
    folder = session.printed("folder")

    assert folder == "/mnt/data" if session.level in (Level.NAMESPACE, Level.GVISOR) else folder.endswith("/data")


def test_files_can_be_called_for_while_code_runs(session: Session) -> None:
    runner = threading.Thread(target=session.do, args=("sleep",), kwargs={"seconds": 3})
    runner.start()
    time.sleep(0.3)
    began = time.monotonic()
    assert session.endpoint.upload("meanwhile.txt", b"x").status_code == 200
    assert time.monotonic() - began < 2.5
    runner.join()


# ---- asynchronous, and by the session ------------------------------------------------------------------------------------------------


def test_an_asynchronous_run_is_asked_for_later(session: Session) -> None:
    dialect = session.dialect
    code = dialect.filled(f"{dialect.sleep}\n{dialect.say}", seconds=1, text="done")
    begun = session.endpoint.run(code, executionType="Asynchronous")

    def asked() -> dict[str, object]:
        return dict(session.endpoint.send("GET", f"executions/{begun['id']}").json())

    assert asked()["status"] in ("NotStarted", "Running")
    assert eventually(lambda: asked()["status"] == "Succeeded", 10)
    assert asked()["result"]["stdout"] == "done\n"  # type: ignore[index]


def test_a_deleted_session_begins_anew(session: Session) -> None:
    session.do("keep", number=41)
    session.do("write", path="old.txt", text="x")
    assert session.endpoint.send("DELETE", "session").status_code == 204

    assert session.do("recall")["status"] == "Failed"
    assert session.endpoint.send("GET", "files").json()["value"] == []


# ---- shell commands, in every pool ---------------------------------------------------------------------------------------------------


def test_every_pool_takes_shell_commands(session: Session) -> None:
    """A fresh process in the data folder: streams, stdin and the exit code as status."""
    session.do("write", path="in.txt", text="from code")
    body = {"shellCommand": "cat in.txt; cat; echo told >&2; exit 3", "stdin": " and stdin", "timeoutInSeconds": 20}
    told = session.endpoint.send("POST", "executions", json=body).json()

    assert (told["status"], told["result"]["stdout"], told["result"]["stderr"]) == (
        "3",
        "from code and stdin",
        "told\n",
    )


def test_arguments_of_a_command_are_words_and_no_code(session: Session) -> None:
    body = {"execCommandAndArgs": ["printf", "%s|%s", STRANGE, "; exit 7"], "timeoutInSeconds": 20}
    told = session.endpoint.send("POST", "executions", json=body).json()

    assert (told["status"], told["result"]["stdout"]) == ("0", f"{STRANGE}|; exit 7")

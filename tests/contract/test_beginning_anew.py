"""Cancel and restart of what resists, at every level: what differs between levels is how an interpreter is ended and replaced."""

from __future__ import annotations

import time

from carrel.client import Client

STUBBORN = "import time\nprint('on', flush=True)\nwhile True:\n    try: time.sleep(9)\n    except BaseException: pass"


def begin(client: Client, code: str) -> str:
    """Run `code` until it has printed something; its id."""
    started = client.start(code)
    next(event for event in client.follow(started.id) if event.kind == "stdout")
    return started.id


def test_code_that_ignores_an_interrupt_is_canceled_all_the_same(client: Client) -> None:
    """With all it has started; the session's files stay."""
    client.execute("kept = 1; open('kept', 'w').close()")
    running = begin(client, STUBBORN)

    canceled = client.cancel(running)

    assert (canceled.status, canceled.stdout) == ("Canceled", "on\n")
    assert client.execute("import os; ['kept' in globals(), os.listdir()]").result == [False, ["kept"]]


def test_a_restart_ends_everything_that_the_session_runs(client: Client) -> None:
    """Also where no code runs: what it left behind goes with the interpreter. Twice, since the second one is made like the first."""
    client.execute("open('kept', 'w').close()")
    for _ in range(2):
        client.execute(
            "import subprocess; kept = 1; subprocess.Popen(['sleep', '600'], start_new_session=True).pid", timeout=20
        )
        session = client.restart()
        assert client.session().etag == session.etag
        found = client.execute("import os; ['kept' in globals(), os.listdir()]").result
        assert found == [False, ["kept"]]


def test_a_restart_under_running_code(client: Client) -> None:
    client.execute("kept = 1")
    running = begin(client, STUBBORN)
    began = time.monotonic()
    client.restart()

    assert time.monotonic() - began < 8
    assert client.execution(running).status == "Canceled"
    assert client.execute("'kept' in globals()").result is False


def test_a_restart_after_the_interpreter_has_died(client: Client) -> None:
    """And one of a session that has just begun."""
    client.execute("import os; os._exit(3)")
    client.restart()
    client.restart()

    assert client.execute("1 + 1").result == 2

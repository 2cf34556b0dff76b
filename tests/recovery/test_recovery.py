"""Every process of ours killed in turn: what must live on lives on, what must end ends, and nothing is left behind.

Servers of the small image, one per test that ends it. "Nothing is left" means processes, mounts, control groups, and the connection file.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from carrel.client import ApiError, Client, NotRunning
from conftest import Server, SlimServer
from fortress import real_uid
from leftovers import Before
from processes import alive, command, descendants, eventually, is_first

pytestmark = pytest.mark.slow

SLOWLY = "import time\nfor n in range(15): time.sleep(0.1)\nn"


def part(server: Server, *words: str) -> int:
    """The topmost process of the server whose command line has all of `words`: what it forks has them too, and numbers wrap around."""
    return next(pid for pid in descendants(server.process.pid) if all(word in command(pid) for word in words))


def spawner(server: Server) -> int:
    return part(server, "carrel.host.spawner")


def cell_block(server: Server) -> int:
    """The init of the cell block: everything of every sandbox is below it."""
    return part(server, "carrel.guest.init")


def template(server: Server, kind: str) -> int:
    return part(server, "carrel.guest.template", f"'{kind}'")


def sandboxes(server: Server) -> set[int]:
    return set(descendants(cell_block(server)))


def agent_of(server: Server, client: Client) -> int:
    """The agent of the client's session: first of the pid namespace of a process that its code has left behind.

    An ordinary user may not see the namespaces of a process with another id; but then each session has an id of its own.
    """
    mark = f"mark-{client.identifier}"
    client.execute(f"import subprocess; child = subprocess.Popen([{mark!r}, '600'], executable='/bin/sleep')")
    marked = next(pid for pid in sandboxes(server) if command(pid).startswith(mark))
    return next(pid for pid in sandboxes(server) if is_first(pid) and _place(pid) == _place(marked))


def _place(pid: int) -> Path | int:
    with suppress(OSError):
        return Path(f"/proc/{pid}/ns/pid").readlink()
    with suppress(OSError):
        return real_uid(pid)
    return 0  # it has ended meanwhile


def groups_of(server: Server) -> list[str]:
    """Control groups that this server's spawner has made."""
    mark = f"carrel-{spawner(server)}-"
    return [
        folder for folder, _names, _files in os.walk("/sys/fs/cgroup") if mark in folder
    ]  # lets folders vanish meanwhile


def works(client: Client) -> Callable[[], bool]:
    """Whether code runs, as a condition to wait for."""

    def check() -> bool:
        try:
            return bool(client.execute("1 + 1", timeout=10).result == 2)
        except (ApiError, httpx.HTTPError):
            return False

    return check


@pytest.fixture(scope="module")
def sturdy(slim_server: SlimServer) -> Iterator[Server]:
    """One server for the tests after which it has to go on."""
    with slim_server() as server:
        yield server


@contextmanager
def visit(server: Server) -> Iterator[Client]:
    """A session for the length of a block."""
    with server.client() as client:
        yield client
        with suppress(ApiError, httpx.HTTPError):
            client.end()


# ---- the gateway ----------------------------------------------------------------------------------------------------------------


def test_a_killed_gateway_loses_no_session_and_no_execution(sturdy: Server) -> None:
    """Under load: every session keeps its variables, every execution under way ends and is found by its id, none runs twice."""
    server = sturdy
    with ThreadPoolExecutor(4) as pool, ExitStack() as stack:
        clients = [stack.enter_context(visit(server)) for _ in range(4)]
        for number, client in enumerate(clients):
            client.execute(f"kept = {number}; runs = 0")
        code = "import time; runs += 1; time.sleep(1.5); runs"
        started = [client.start(code, operation_id="started") for client in clients[:2]]
        waiting = [pool.submit(client.execute, code, operation_id="awaited") for client in clients[2:]]
        time.sleep(0.5)
        before = server.pids["gateway"]
        os.kill(before, signal.SIGKILL)

        for call in waiting:
            assert call.result(30).result == 1, "the client asks the next gateway for it"
        assert eventually(lambda: server.pids["gateway"] != before, 10)
        for client in clients[:2]:
            assert eventually(lambda client=client: client.execution("started").is_finished)  # type: ignore[misc]
            assert client.execution("started").result == 1
        for client in clients[2:]:
            assert client.execute(code, operation_id="awaited").result == 1, "the repeat is the stored execution"
        for number, client in enumerate(clients):
            assert client.execute("[kept, runs]").result == [number, 1]
        assert [each.id for each in started] == ["started", "started"]


def test_a_stream_goes_on_over_a_killed_gateway(sturdy: Server) -> None:
    """The client follows by the execution's id from the next gateway: no event is lost or given twice, and the code ran once."""
    code = (
        "import time; n = globals().get('n', 0) + 1\nfor line in range(30): print(line, flush=True); time.sleep(0.1)\nn"
    )
    with visit(sturdy) as client:
        before, killed = sturdy.pids["gateway"], False
        seen: list[str] = []
        for event in client.stream(code):
            seen.append(event.text)
            if len(seen) > 5 and not killed:
                os.kill(before, signal.SIGKILL)
                killed = True
        assert "".join(seen) == "".join(f"{line}\n" for line in range(30))
        assert event.result is not None
        assert event.result.result == 1
        assert sturdy.pids["gateway"] != before


@pytest.mark.thorough
def test_readers_go_on_where_a_killed_gateway_left_them(sturdy: Server) -> None:
    """Whoever follows an execution: nothing is lost and nothing comes twice, though two gateways die meanwhile."""
    loop = "for n in range(60): print(n, '€', flush=True); time.sleep(0.05)"
    code = f"import time\nbegan = time.monotonic()\n{loop}\ntime.monotonic() - began"
    with visit(sturdy) as client, ThreadPoolExecutor(4) as pool:
        client.execute("0")
        running = client.start(code, operation_id="followed")
        with sturdy.client(client.identifier) as own:
            readers = [pool.submit(lambda: list(client.follow(running.id))) for _ in range(2)]
            readers.append(pool.submit(lambda: list(own.stream("print('behind it')", operation_id="behind"))))
            for _ in range(2):
                time.sleep(0.7)
                before = sturdy.pids["gateway"]
                os.kill(before, signal.SIGKILL)
                assert eventually(lambda before=before: sturdy.pids["gateway"] != before, 10)  # type: ignore[misc]
            *followed, queued = (reader.result(30) for reader in readers)

        for events in followed:
            assert "".join(event.text for event in events) == "".join(f"{n} €\n" for n in range(60))
            assert events[-1].result is not None
            assert 3 <= float(events[-1].result.result) < 6
        assert [event.text for event in queued if event.kind == "stdout"] == ["behind it\n"]


def test_a_cancel_whose_gateway_dies_has_happened(sturdy: Server) -> None:
    """Sent again, as a caller does who got no answer, it says the same."""
    with visit(sturdy) as client, ThreadPoolExecutor(1) as pool:
        client.execute("kept = 1")
        client.start(
            "while True:\n  try: import time; time.sleep(9)\n  except BaseException: pass", operation_id="stuck"
        )
        call = pool.submit(client.cancel, "stuck")
        time.sleep(0.3)  # within the second of grace
        before = sturdy.pids["gateway"]
        os.kill(before, signal.SIGKILL)
        assert call.result(30).status == "Canceled", "the client sends it again"

        with sturdy.client(client.identifier) as again:
            assert again.cancel("stuck").status == "Canceled"
            assert again.execute("'kept' in globals()").result is False
        assert eventually(lambda: sturdy.pids["gateway"] != before, 10)


@pytest.mark.thorough
def test_an_upload_that_a_killed_gateway_cut_short_leaves_nothing(sturdy: Server) -> None:
    server = sturdy
    with visit(server) as client:
        client.execute("kept = 1")
        before = server.pids["gateway"]

        def content() -> Iterator[bytes]:
            yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="cut.bin"\r\n\r\n'
            for _ in range(100):
                yield bytes(65536)
                time.sleep(0.02)

        def upload() -> None:
            with suppress(httpx.HTTPError):
                httpx.post(
                    f"{server.endpoint}/files",
                    params={"api-version": "2025-10-02-preview", "identifier": client.identifier},
                    headers={"Authorization": f"Bearer {token}", "Content-Type": "multipart/form-data; boundary=b"},
                    content=content(),
                    trust_env=False,
                    timeout=20,
                )

        token = server.connection["token"]
        caller = threading.Thread(target=upload)
        caller.start()
        time.sleep(0.5)
        os.kill(before, signal.SIGKILL)
        caller.join()
        assert eventually(lambda: server.pids["gateway"] != before, 10)
        assert client.execute("import os; os.listdir('.')").result == []


@pytest.mark.thorough
def test_callers_wait_rather_than_fail_while_a_gateway_is_replaced(sturdy: Server) -> None:
    """The listening sockets are the supervisor's: a connection made in between is answered by the next gateway, each time it dies."""
    with visit(sturdy) as client:
        client.execute("kept = 1")
        for _ in range(2):
            before = sturdy.pids["gateway"]
            os.kill(before, signal.SIGKILL)
            with sturdy.client(client.identifier) as fresh:
                assert fresh.execute("kept").result == 1
            assert eventually(lambda before=before: sturdy.pids["gateway"] != before, 10)  # type: ignore[misc]


# ---- what ends the server --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("victim", ["host", "supervisor"])
def test_a_killed_part_that_all_depend_on_leaves_nothing(slim_server: SlimServer, victim: str) -> None:
    """Within seconds no process and no mount is left, the server ends, and a new start on the same state sweeps and works."""
    before = Before()
    with slim_server() as server, server.client() as client:
        client.execute(
            "import subprocess\nfor n in range(3): subprocess.Popen(['sleep', '600'], start_new_session=True)"
        )
        client.start("while True: pass")
        family = descendants(server.process.pid)
        inside = sandboxes(server)
        os.kill(server.pids[victim], signal.SIGKILL)

        assert eventually(lambda: not any(alive(pid) for pid in inside), 5), "a sandbox outlives its host"
        assert eventually(lambda: server.process.poll() is not None, 15), "the server goes on without what it needs"
        assert eventually(lambda: not any(alive(pid) for pid in family), 5)
        with slim_server(state=server.state) as following, following.client() as next_client:
            assert next_client.execute("1 + 1").result == 2
            assert server.process.pid not in following.pids.values()
        if victim != "supervisor":
            assert server.process.returncode == 1
    assert before.left() == []


@pytest.mark.parametrize("victim", [pytest.param("spawner", marks=pytest.mark.thorough), "cell block"])
def test_a_killed_spawner_or_cell_block_ends_all_sandboxes(slim_server: SlimServer, victim: str) -> None:
    """No process of any sandbox is left. The server ends, or makes another: it never goes on as if all were well and serves nobody."""
    before = Before()
    with slim_server() as server, server.client() as client:
        client.execute(
            "import subprocess\nfor n in range(3): subprocess.Popen(['sleep', '600'], start_new_session=True)"
        )
        client.start("while True: pass")
        inside = sandboxes(server)
        os.kill(spawner(server) if victim == "spawner" else cell_block(server), signal.SIGKILL)

        assert eventually(lambda: not any(alive(pid) for pid in inside), 5), "a sandbox outlives the cell block"
        ends_or_serves = [lambda: server.process.poll() is not None, works(client)]
        assert eventually(lambda: any(condition() for condition in ends_or_serves), 15), "it serves nobody and goes on"
        if server.process.poll() is not None:
            assert server.process.returncode == 1
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(15)
        with slim_server(state=server.state) as following, following.client() as next_client:
            assert next_client.execute("1 + 1").result == 2
    assert before.left() == []


def test_a_killed_host_is_reported_to_callers_under_way(slim_server: SlimServer) -> None:
    """They get an answer or a closed connection at once, and do not wait for their time limit."""
    with slim_server() as server, server.client() as client:
        client.execute("0")
        began = time.monotonic()
        with ThreadPoolExecutor(1) as pool:
            call = pool.submit(client.execute, "import time; time.sleep(30)")
            time.sleep(0.3)
            os.kill(server.pids["host"], signal.SIGKILL)
            with pytest.raises((ApiError, httpx.HTTPError)):
                call.result(10)
        assert time.monotonic() - began < 8


@pytest.mark.thorough
def test_a_signal_stops_everything_in_order(slim_server: SlimServer) -> None:
    """Status 0 with calls under way, which are told; no process, no control group, no mount, no connection file, no socket is left."""
    before = Before()
    with slim_server() as server, server.client() as client:
        client.execute("import subprocess; subprocess.Popen(['sleep', '600'], start_new_session=True)")
        family = descendants(server.process.pid)
        groups = groups_of(server)
        with ThreadPoolExecutor(1) as pool:
            call = pool.submit(client.execute, "import time; time.sleep(30)")
            time.sleep(0.3)
            began = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            with pytest.raises((ApiError, httpx.HTTPError)):
                call.result(15)

        assert server.process.wait(15) == 0
        assert time.monotonic() - began < 12
        assert not any(alive(pid) for pid in family)
        assert not any(Path(group).exists() for group in groups)
        assert not (server.state / "run" / "hostlink.sock").exists()
        with pytest.raises(NotRunning):
            server.client()
    assert before.left() == []


@pytest.mark.thorough
def test_a_second_signal_stops_at_once(slim_server: SlimServer) -> None:
    with slim_server() as server, server.client() as client:
        client.start("while True: pass")
        family = descendants(server.process.pid)
        for _ in range(2):
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.05)

        assert eventually(lambda: server.process.poll() is not None, 3)
        assert eventually(lambda: not any(alive(pid) for pid in family))


def test_a_second_server_on_the_same_state_is_refused(sturdy: Server) -> None:
    """It says who is there, touches nothing, and the first one goes on."""
    server = sturdy
    with visit(server) as client:
        client.execute("kept = 1")
        words = ["serve", "--state", str(server.state), "--port", "0", "--tls-port", "0"]
        command_line = [sys.executable, "-P", "-m", "carrel.cli", *words]
        done = subprocess.run(command_line, capture_output=True, text=True, timeout=20, check=False)

        assert done.returncode == 1
        assert str(server.process.pid) in done.stderr
        assert "Traceback" not in done.stderr
        assert client.execute("kept").result == 1


@pytest.mark.thorough
def test_two_servers_beside_each_other_do_not_touch(sturdy: Server, slim_server: SlimServer) -> None:
    """Another state folder, the same machine: the one's death and the other's start sweep nothing that lives."""
    with visit(sturdy) as client:
        client.execute("kept = 1")
        with slim_server() as second, second.client() as other:
            assert other.execute("1 + 1").result == 2
            os.kill(second.pids["host"], signal.SIGKILL)
            second.process.wait(15)
        with slim_server() as third, third.client() as other:
            assert other.execute("1 + 1").result == 2
        assert client.execute("kept").result == 1


# ---- what is replaced ---------------------------------------------------------------------------------------------------------


def test_a_killed_agent_ends_its_session_only(sturdy: Server) -> None:
    """The caller under way is told at once; the next call gets a new session; the other session notices nothing."""
    server = sturdy
    with visit(server) as client, visit(server) as other:
        other.execute("kept = 1")
        agent = agent_of(server, client)
        with ThreadPoolExecutor(1) as pool:
            call = pool.submit(client.execute, "import time; time.sleep(30)")
            time.sleep(0.3)
            os.kill(agent, signal.SIGKILL)
            with pytest.raises(ApiError) as caught:
                call.result(5)

        assert caught.value.code == "SessionLost"
        assert eventually(works(client))
        assert client.execute("'child' in globals()").result is False
        assert other.execute("kept").result == 1


@pytest.mark.thorough
def test_a_stopped_agent_is_given_up(sturdy: Server) -> None:
    """One that does not answer is killed with its sandbox: the call past its deadline ends within seconds, the next has a new session."""
    server = sturdy
    with visit(server) as client:
        agent = agent_of(server, client)
        os.kill(agent, signal.SIGSTOP)
        began = time.monotonic()
        with suppress(ApiError):
            assert not client.execute("1", timeout=1).is_ok

        assert time.monotonic() - began < 12
        assert eventually(works(client), 15)
        assert not alive(agent)


@pytest.mark.parametrize("kind", ["image", "bare"])
def test_a_killed_template_is_replaced(sturdy: Server, kind: str) -> None:
    """Live sessions run on; new ones, and restarts, work again within seconds."""
    server = sturdy
    with visit(server) as client:
        client.execute("kept = 1")
        victim = template(server, kind)
        os.kill(victim, signal.SIGKILL)
        assert eventually(lambda: not alive(victim))

        assert client.execute("kept").result == 1, "a live session needs no template"
        for _ in range(3):  # more than were ready
            with visit(server) as fresh:
                assert eventually(works(fresh), 15), "no new session"
        client.execute("import os; os._exit(1)")
        assert eventually(works(client), 15), "no restart"


@pytest.mark.thorough
def test_killed_warm_sandboxes_are_replaced(slim_server: SlimServer) -> None:
    """All that are ready, several after a burst, die at one blow: nobody is given a dead one, and new ones come within seconds."""
    with slim_server() as server:
        for _ in range(8):
            with visit(server) as client:
                client.execute("1")
        templates = {template(server, kind) for kind in ("image", "bare")}
        assert eventually(lambda: len(sandboxes(server) - templates) >= 14), "seven of two processes each"
        for pid in sandboxes(server) - templates:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for _ in range(3):
            with visit(server) as client:
                assert eventually(works(client), 10)


def test_a_killed_interpreter_is_a_result(sturdy: Server) -> None:
    """From outside too, as the kernel's own out-of-memory killer would."""
    server = sturdy
    with visit(server) as client:
        agent = agent_of(server, client)
        namespace = _place(agent)
        with ThreadPoolExecutor(1) as pool:
            call = pool.submit(client.execute, "import time; time.sleep(30)")
            time.sleep(0.3)
            for pid in sandboxes(server):
                if pid != agent and _place(pid) == namespace:
                    os.kill(pid, signal.SIGKILL)
            assert call.result(10).stderr.startswith("Kernel restarted: the process was killed by SIGKILL")
        assert eventually(works(client))


SMALL = """
[pools.python]
scaleConfiguration = {maxConcurrentSessions = 1, readySessionInstances = 1}
carrel = {image = "python-slim", memory = "128MiB", disk = "16MiB", tmp = "4MiB"}
"""


@pytest.mark.thorough
def test_sessions_come_and_go_without_a_trace(slim_server: SlimServer) -> None:
    """After thirty sessions, some of them restarted, the server has the descriptors, processes and control groups that it had before."""
    with slim_server(
        config=SMALL
    ) as server:  # room for two sandboxes, so that a burst leaves no more ready than there were

        def held() -> tuple[int, int, int]:
            host, family = server.pids["host"], descendants(server.process.pid)
            return len(list(Path(f"/proc/{host}/fd").iterdir())), len(family), len(groups_of(server))

        def use(count: int) -> None:
            for number in range(count):
                with server.client() as client:
                    assert eventually(works(client), 10)
                    if number % 3 == 0:
                        client.execute("import os; os._exit(1)")
                        client.execute("1")
                    client.end()

        use(4)
        assert eventually(lambda: held() == held(), 5)
        time.sleep(1)
        before = held()
        use(30)

        assert eventually(lambda: all(now <= then for now, then in zip(held(), before, strict=True)), 10), (
            before,
            held(),
        )

"""In the guest: what Carrel does with control groups version 2, as root and as an ordinary user, with a delegated group and without one.

Run by `init` with the folder of built images and, to leave the others out, names of situations. A situation is a function; what it says
with `check` is one line each. All servers are real ones, of the image `python-slim` with small limits.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from carrel.backends import examination
from carrel.client import Client, Result
from carrel.config import load
from carrel.models import Level
from processes import eventually

ROOT = Path("/sys/fs/cgroup")
IMAGES = sys.argv[1]
UID = 1000
MEMORY_MIB, PIDS, CPU = 256, 48, 0.5
MIB = 1024 * 1024
POOL = f"""
[pools.python]
scaleConfiguration = {{maxConcurrentSessions = 4, readySessionInstances = 1}}
carrel = {{image = "python-slim", memory = "{MEMORY_MIB}MiB", disk = "64MiB", tmp = "16MiB", pids = {PIDS}, cpu = {CPU}}}
"""
SHELL = ("sh", "-c", '"$@"; exit $?', "sh")
CARREL = (sys.executable, "-P", "-m", "carrel.cli")
CONTROLLERS = "+memory +pids +cpu"
START_S = 120  # of a server, without a processor to speak of
CALL_S = 60
BOMB = "x = bytearray(2 * 1024**3)"
examination.DEADLINE_S = START_S
OUT_OF_MEMORY = f"Kernel restarted: out of memory (the limit is {MEMORY_MIB} MiB)"

_failures: list[str] = []


def check(sentence: str, holds: bool, seen: object = "") -> None:
    if not holds:
        _failures.append(sentence)
    print(f"  {'ok    ' if holds else 'FAILED'} {sentence}{f': {seen}' if str(seen) else ''}")


# ---- servers -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Server:
    state: Path
    process: subprocess.Popen[bytes]

    @property
    def said(self) -> str:
        return self.state.with_suffix(".log").read_text()

    @property
    def pids(self) -> dict[str, int]:
        return dict(json.loads((self.state / "connection.json").read_text())["pids"])

    def client(self, identifier: str) -> Client:
        return Client.from_connection(self.state, identifier=identifier)

    def stop(self) -> int:
        os.kill(self.pids["supervisor"], signal.SIGTERM)  # what we started may be a shell around it
        return self.process.wait(30)


@contextlib.contextmanager
def server(name: str, *, group: Path = ROOT, uid: int = 0, before: tuple[str, ...] = ()) -> Iterator[Server]:
    """`carrel serve`, the leader of a login session of its own in `group`, as user `uid`; `before` is a command that starts it."""
    state = Path(f"/tmp/{name}")
    config = state.with_suffix(".toml")
    config.write_text(POOL)
    state.mkdir(mode=0o700, exist_ok=True)
    (state / "connection.json").unlink(missing_ok=True)  # of one that was killed
    os.chown(state, uid, uid)
    options = ("--state", str(state), "--config", str(config), "--images", IMAGES, "--port", "0", "--tls-port", "0")
    as_user = ("setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups") if uid else ()
    join = 'echo $$ > "$0"/cgroup.procs && exec "$@"'
    command = ["sh", "-c", join, str(group), *before, *as_user, *CARREL, "serve", *options]
    with state.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    found = Server(state, process)
    try:
        ready = eventually(lambda: (state / "connection.json").exists() or process.poll() is not None, START_S)
        if not ready or process.poll() is not None:
            raise RuntimeError(f"the server does not serve: {found.said}")
        yield found
    finally:
        if process.poll() is None and found.stop() != 0:
            check(f"{name}: a clean stop", holds=False, seen=found.said[-2000:])


def run(client: Client, code: str) -> Result:
    return client.execute(code, timeout=CALL_S)


# ---- control groups ----------------------------------------------------------------------------------------------------------


def groups() -> list[str]:
    """Every group of Carrel's making, below ROOT."""
    return sorted(str(path.relative_to(ROOT)) for path in ROOT.rglob("carrel-*"))


def code_group(client: Client) -> Path:
    """The group of the session's interpreter, as the machine sees it, found by the name that it gives itself.

    By PR_SET_NAME: Landlock lets no session write to /proc/self/comm.
    """
    mark = f"mark-{client.identifier}"[:15]
    named = run(client, f"import ctypes; ctypes.CDLL(None).prctl(15, b'{mark}', 0, 0, 0)")
    if named.result != 0:
        raise RuntimeError(f"the session's interpreter does not take a name: {named}")
    for path in Path("/proc").glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):
            if path.read_text().strip() == mark:
                return ROOT / (path.parent / "cgroup").read_text().strip().removeprefix("0::/")
    raise RuntimeError("the session's interpreter is not to be found")


def read(path: Path) -> str:
    return path.read_text().strip()


def counter(path: Path, key: str) -> int:
    return int(dict(line.split() for line in path.read_text().splitlines())[key])


@contextlib.contextmanager
def folder(name: str, uid: int = 0) -> Iterator[Path]:
    """A group with all controllers, as systemd makes one for a unit; given `uid`, delegated to that user as by `Delegate=yes`."""
    (ROOT / "cgroup.subtree_control").write_text(CONTROLLERS)
    path = ROOT / name
    path.mkdir()
    if uid:
        for each in (path, *(path / f"cgroup.{file}" for file in ("procs", "subtree_control", "threads"))):
            os.chown(each, uid, uid)
    try:
        yield path
    finally:
        for found, _, _ in os.walk(path, topdown=False):
            Path(found).rmdir()


def limits_hold(client: Client, base: Path) -> None:
    """A session in groups of its own below `base`, and each of their limits at work."""
    code = code_group(client)
    top, agent = code.parent, code.parent / "agent"
    check("the code is in a group of the session's", code.name == "code" and top.parent.parent == base, code)
    check("the agent is in its sister", len(read(agent / "cgroup.procs").split()) == 1)
    check("memory.max", read(code / "memory.max") == str(MEMORY_MIB * MIB), read(code / "memory.max"))
    check("memory.max of both", read(top / "memory.max") == str((MEMORY_MIB + 64) * MIB), read(top / "memory.max"))
    check("memory.swap.max", read(top / "memory.swap.max") == "0", read(top / "memory.swap.max"))
    check("pids.max", read(top / "pids.max") == str(PIDS + 1), read(top / "pids.max"))
    check("cpu.max", read(top / "cpu.max") == "50000 100000", read(top / "cpu.max"))
    seen = run(client, "open('/proc/self/cgroup').read()").result
    check("the session sees nothing of it", "carrel" not in str(seen), repr(seen))
    memory_holds(client, code)
    pids_hold(client, top)
    cpu_holds(client, top)


def memory_holds(client: Client, code: Path) -> None:
    agent = read(code.parent / "agent/cgroup.procs")
    client.upload("kept.txt", b"kept")
    result = run(client, BOMB)
    check("a memory bomb is a result", result.status == "Failed" and result.stderr == OUT_OF_MEMORY, result.stderr)
    usage, limit = result.usage, MEMORY_MIB * MIB
    check("its outcome is memory", result.outcome == "memory", result.outcome)
    check("processor time is counted by the group", usage.sources.get("cpu_ms") == "cgroup v2 cpu.stat", usage)
    check("so is the peak of memory", limit * 0.9 < (usage.peak_memory_bytes or 0) <= limit, usage)
    kills = counter(code / "memory.events", "oom_kill")
    check("the kernel killed in the code's group", kills == 1, f"oom_kill {kills}")
    check("the agent lives", read(code.parent / "agent/cgroup.procs") == agent, agent)
    check("the next call works", run(client, "1 + 1").result == 2)
    check("the files are still there", client.download("kept.txt") == b"kept")
    peak = int(read(code.parent / "memory.peak"))
    check("memory.peak is about the limit", MEMORY_MIB - 8 < peak / MIB <= MEMORY_MIB + 64, f"{peak / MIB:.0f} MiB")


FORKS = """
import os, signal, time
children, stopped = [], ''
for n in range(100):
    try: pid = os.fork()
    except OSError as error: stopped = error.strerror; break
    if pid == 0: time.sleep(60); os._exit(0)
    children.append(pid)
for pid in children: os.kill(pid, signal.SIGKILL); os.waitpid(pid, 0)
[len(children), stopped]
"""


def pids_hold(client: Client, top: Path) -> None:
    """Twice: at the pool's number, which RLIMIT_NPROC guards too, and at a lower one, which only the group can hold."""
    count, stopped = run(client, FORKS).result or [None, None]
    check("a fork bomb stops at the pool's limit", count is not None and count < PIDS, f"{count} forks, {stopped}")
    whole = (top / "pids.max").read_text()
    (top / "pids.max").write_text("12")
    count, stopped = run(client, FORKS).result or [None, None]
    held = counter(top / "pids.events", "max")
    (top / "pids.max").write_text(whole)
    check(
        "pids.max alone stops one",
        count is not None and count < 12 and held > 0,
        f"{count} forks, {stopped}, {held} held",
    )
    check("the session goes on", run(client, "2 + 2").result == 4)


SPIN = "import time\nend, was = time.monotonic() + 4, time.process_time()\nwhile time.monotonic() < end: pass\ntime.process_time() - was"


def cpu_holds(client: Client, top: Path) -> None:
    before = counter(top / "cpu.stat", "nr_throttled")
    used = float(run(client, SPIN).result or 0)
    throttled = counter(top / "cpu.stat", "nr_throttled") - before
    check(
        f"cpu.max gives {CPU} of a processor",
        0 < used < 4 * CPU * 1.2 and throttled > 0,
        f"{used:.2f} of 4 s, {throttled} times",
    )


# ---- situations --------------------------------------------------------------------------------------------------------------


def as_root() -> None:
    """In the root group, as on a machine without systemd and in a root shell."""
    with server("root") as it, it.client("alice") as alice, it.client("bobby") as bob:
        print(it.said)
        check("the start-up text names no lack of groups", "no control groups" not in it.said)
        words = (
            "exec",
            "--state",
            str(it.state),
            "--session",
            "by-hand",
            "print('hello from', __import__('os').uname().release)",
        )
        hello = subprocess.run([*CARREL, *words], capture_output=True, text=True, check=False)
        check(
            "carrel exec",
            hello.returncode == 0 and hello.stdout.startswith("hello from 6."),
            hello.stdout + hello.stderr,
        )
        run(bob, "kept = 41")
        limits_hold(alice, ROOT)
        check("the neighbour noticed nothing", run(bob, "kept + 1").result == 42)
        top = code_group(alice).parent
        alice.end()
        check("a session's groups go with it", eventually(lambda: not top.exists(), 15), top)
        check("a clean stop", it.stop() == 0)
        check("and leaves no group", not groups(), groups())
    doctor_finds_the_level()


def doctor_finds_the_level() -> None:
    """What `carrel doctor` asks of a level, of this one alone: it tries all at once, which takes this guest more than their minute."""
    config = replace(load({}, os.environ), images=Path(IMAGES))
    (found,) = examination.examine(config, [Level.NAMESPACE])
    check("doctor finds the level namespace", found.works and not found.weaknesses, found)
    check("and leaves no group", not groups(), groups())


def after_kills() -> None:
    """`kill -9` of the host, then of all there is."""
    with server("killed") as it, it.client("alice") as alice:
        run(alice, "1")
        os.kill(it.pids["host"], signal.SIGKILL)
        check("a killed host ends the server", it.process.wait(30) == 1)
        check("which sweeps its groups", eventually(lambda: not groups(), 5), groups())
    with server("killed") as it, it.client("alice") as alice:
        run(alice, "1")
        os.killpg(it.process.pid, signal.SIGKILL)
        it.process.wait(30)
    left = groups()
    check("nobody is left to sweep", bool(left), left)
    with server("killed") as it, it.client("alice") as alice:
        check("the next start sweeps", not set(left) & set(groups()), groups())
        check("and serves", run(alice, "1 + 1").result == 2)


def delegated() -> None:
    """An ordinary user's service with `Delegate=yes`: the server alone in a group of its own."""
    with folder("user.service", UID) as base:
        with server("delegated", group=base, uid=UID) as it, it.client("alice") as alice:
            print(it.said)
            check("the start-up text names no lack of groups", "no control groups" not in it.said)
            limits_hold(alice, base)
            check("the server stepped aside", str(it.process.pid) in read(base / "carrel.server/cgroup.procs").split())
        check("a clean stop leaves no group", not groups(), groups())


def marked() -> None:
    """Root's service with `Delegate=yes`, which systemd says by an attribute: the unit's own group, not the root one, for its limits."""
    with folder("system.service") as base:
        os.setxattr(base, "trusted.delegate", b"1")
        with server("marked", group=base) as it, it.client("alice") as alice:
            check("the start-up text names no lack of groups", "no control groups" not in it.said)
            code = code_group(alice)
            check("the session's groups are in the unit's", code.parents[2] == base, code)
        check("a clean stop leaves no group", not groups(), groups())


def from_a_shell() -> None:
    """A user's shell in a delegated group starts one server after the other; the second is born where the first one moved the shell."""
    with folder("user.scope", UID) as base:
        for _ in (1, 2):
            group = base / "carrel.server" if (base / "carrel.server").exists() else base
            with server("shell", group=group, uid=UID, before=SHELL) as it, it.client("alice") as alice:
                check("the start-up text names no lack of groups", "no control groups" not in it.said)
                code = code_group(alice)
                check("the groups are right below the delegated one", code.parents[2] == base, code)
                os.killpg(it.process.pid, signal.SIGKILL)
                it.process.wait(30)
            left = groups()
        with server("shell", group=base / "carrel.server", uid=UID, before=SHELL):
            check("the next start sweeps", bool(left) and not set(left) & set(groups()), groups())
        check("a clean stop leaves no group", not groups(), groups())


def not_delegated() -> None:
    """An ordinary user as a login shell has it: in a group of root's. The watcher takes over."""
    with folder("session.scope") as base, server("watched", group=base, uid=UID) as it, it.client("alice") as alice:
        print(it.said)
        check("the start-up text names the lack of groups", "no control groups" in it.said)
        check("there are none", not groups(), groups())
        result = run(alice, BOMB)
        told = "out of memory" in result.stderr or "MemoryError" in result.stderr
        check("a memory bomb is a result", result.status == "Failed" and told, result.stderr)
        check("the next call works", run(alice, "1 + 1").result == 2)
        count, stopped = run(alice, FORKS).result or [None, None]
        check("a fork bomb stops at the limit", count is not None and count < PIDS, f"{count} forks, {stopped}")


def shared() -> None:
    """A delegated group that holds somebody else's process too, which is not ours to move: the watcher takes over."""
    with folder("shared.scope", UID) as base:
        other = subprocess.Popen(["sleep", "600"], start_new_session=True)
        (base / "cgroup.procs").write_text(str(other.pid))
        with server("shared", group=base, uid=UID) as it, it.client("alice") as alice:
            check("the start-up text names the lack of groups", "no control groups" in it.said)
            check("the other process stayed", str(other.pid) in read(base / "cgroup.procs").split())
            check("calls work", run(alice, "1 + 1").result == 2)
        other.kill()
        other.wait()


def in_a_container() -> None:
    """Root of a container: a group that looks like the root one from inside its namespace, and is not."""
    mount = 'umount /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && exec "$@"'
    with folder("container") as base:
        before = ("unshare", "--cgroup", "--mount", "sh", "-c", mount, "sh")
        with server("container", group=base, before=before) as it, it.client("alice") as alice:
            check("the start-up text names no lack of groups", "no control groups" not in it.said)
            code = code_group(alice)
            check("the session's groups are in the container's", code.parents[2] == base, code)
            check("a memory bomb is a result", run(alice, BOMB).stderr == OUT_OF_MEMORY)
            check("the next call works", run(alice, "1 + 1").result == 2)
        check("a clean stop leaves no group", not groups(), groups())


SITUATIONS: tuple[Callable[[], None], ...] = (
    as_root,
    after_kills,
    delegated,
    marked,
    from_a_shell,
    not_delegated,
    shared,
    in_a_container,
)


def prepare() -> None:
    """Let the ordinary user reach the checkout, its Python and the images; in the overlay, so the host's files stay as they are."""
    for path in {Path(sys.executable), Path(sys.executable).resolve(), Path(__file__), Path(IMAGES)}:
        for parent in (path, *path.parents):
            if not parent.is_symlink() and parent.is_dir():
                parent.chmod(parent.stat().st_mode | 0o055)
    os.environ["HOME"] = "/tmp/home"
    Path("/tmp/home").mkdir(mode=0o777)
    Path("/tmp/home").chmod(0o777)


def main() -> None:
    print(f"kernel {os.uname().release}, controllers: {read(ROOT / 'cgroup.controllers')}")
    prepare()
    only = set(sys.argv[2].split())
    for situation in SITUATIONS:
        if only and situation.__name__ not in only:
            continue
        began = time.monotonic()
        print(f"{situation.__name__}: {situation.__doc__}")
        try:
            situation()
        except Exception:
            _failures.append(f"{situation.__name__} ended early")
            traceback.print_exc()
        print(f"  ({time.monotonic() - began:.0f} s)")
    print("\n".join(("all checks held",) if not _failures else ("these failed:", *_failures)))
    sys.exit(1 if _failures else 0)


if __name__ == "__main__":
    main()

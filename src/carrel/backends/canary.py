"""The canary: start a sandbox as a session's would be, attack it a little, stop it. What a machine offers is found by
this, never by looking for files.

The attacks are real ones: the canary puts a file, a folder, sockets and a listener on the host, tells the code inside where they are,
and the code says what it got at. What a level is not meant to stop is no hole in it (MEANT). It speaks the agent's protocol itself,
one call at a time, so that it needs nothing above this floor. What runs inside is Python, as a command of the session's: so an image
of any runtime will do, and what is tried is what all code of a session has. Every step has a deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from carrel.backends.base import Backend
from carrel.errors import SandboxStartFailed
from carrel.guest import frames
from carrel.models import Level, PoolSpec

T = TypeVar("T")

_ANSWER_S = 15.0
_KILL_S = 15.0
_MAX_ANSWER = 65_536
_SAID = 300  # characters of a reason
# Every sandbox has our Python, and where there is no root of its own PATH leads to it.
_COMMAND = "for python in /opt/carrel/python/bin/python3 python3; do command -v $python >/dev/null && exec $python -I -S -; done"
FACTS = "canary.json"
POOL = PoolSpec("canary", image="python-slim")

_LINUX = frozenset({Level.RESTRICTED, Level.NAMESPACE})  # where the code's kernel is the machine's
_ALL = _LINUX | {Level.GVISOR}

# What the code inside may find, and the levels that are meant to stop it.
MEANT: dict[str, frozenset[Level]] = {
    "the code runs as root": _ALL,
    "capabilities are left": _ALL,
    "capabilities are in the bounding set": _ALL
    - {Level.RESTRICTED},  # an ordinary user cannot change it, and no_new_privs voids it
    "no_new_privs is not set": _LINUX,
    "no seccomp filter is loaded": _LINUX,
    "user namespaces can be made": _LINUX,
    "file systems can be mounted": _ALL,
    "system folders can be written to": _ALL,
    "the host's files can be read": _ALL,
    "the host's folders can be written to": _ALL,
    "the host's memory can be opened": _ALL,
    "the host's sockets can be reached": _ALL,
    "the host's abstract sockets can be reached": _ALL,
    "the host's processes can be signalled": frozenset(
        {Level.RESTRICTED}
    ),  # elsewhere the number is another process, or none
    "the host's loopback can be reached": _ALL,
    "the network can be reached": _ALL,
    "other processes can be seen": _ALL,
    "the host's /home can be seen": _ALL,
}

# Runs inside, with the facts as a file beside it. It prints a list of what should not have been possible.
ATTACKS = r"""
import ctypes, errno, json, os, socket
facts = json.load(open("canary.json"))
# What is in force is handed down to whatever a process starts; at level restricted the guest's folder in /proc is the only one to be read.
# Of the guest, which started this: an exec may drop what that has kept.
_status = dict(line.split(":", 1) for line in open(f"/proc/{os.getppid()}/status"))
_libc = ctypes.CDLL(None, use_errno=True)
found = []
def attack(name, attempt, *arguments):
    try: attempt(*arguments)
    except OSError: return
    found.append(name)
def reach(family, address):
    with socket.socket(family) as sock:
        sock.settimeout(0.5)
        try: sock.connect(address)
        except TimeoutError: pass  # the packets left
def reach_out(address):
    try: reach(socket.AF_INET, address)
    except ConnectionRefusedError: pass  # somebody answered
if os.getuid() == 0 or os.geteuid() == 0: found.append("the code runs as root")
if any(int(_status.get(kind, "0"), 16) for kind in ("CapEff", "CapPrm", "CapInh")): found.append("capabilities are left")
if int(_status.get("CapBnd", "0"), 16): found.append("capabilities are in the bounding set")
if _status.get("NoNewPrivs", "0").strip() != "1": found.append("no_new_privs is not set")
if _status.get("Seccomp", "0").strip() != "2": found.append("no seccomp filter is loaded")
if _libc.unshare(0x10000000) == 0: found.append("user namespaces can be made")
if _libc.mount(b"none", os.getcwd().encode(), b"tmpfs", 0, None) == 0:
    found.append("file systems can be mounted")
    _libc.umount2(os.getcwd().encode(), 2)
def plant(path):
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    os.unlink(path)
for folder in ("/usr/bin", "/etc", "/opt/carrel"): attack("system folders can be written to", plant, folder + "/.carrel-canary")
attack("the host's files can be read", open, facts["file"])
attack("the host's folders can be written to", plant, facts["folder"] + "/planted")
for path in ("/dev/mem", "/dev/kmsg", "/proc/kcore", "/proc/sysrq-trigger"): attack("the host's memory can be opened", open, path, "r+b")
attack("the host's sockets can be reached", reach, socket.AF_UNIX, facts["socket"])
attack("the host's abstract sockets can be reached", reach, socket.AF_UNIX, "\0" + facts["abstract"])
attack("the host's loopback can be reached", reach, socket.AF_INET, ("127.0.0.1", facts["port"]))
attack("the network can be reached", reach_out, ("192.0.2.1", 80))
def listed(path):
    try: return os.listdir(path)
    except OSError: return []
attack("the host's processes can be signalled", os.kill, facts["pid"], 0)
if len([name for name in listed("/proc") if name.isdigit()]) > 4: found.append("other processes can be seen")
if set(listed("/home")) - {"user"}: found.append("the host's /home can be seen")
print(json.dumps(sorted(set(found))))
"""


async def attack(backend: Backend, pool: PoolSpec) -> list[str]:
    """Make a sandbox, attack it from inside, end it: what the boundary failed to stop.

    The backend is started and the pool's image prepared. Raises SandboxStartFailed where there is no sandbox, or it does not answer.
    """
    async with visit(backend, pool) as agent:
        if backend.level is Level.PROCESS:  # it stops nothing, and what succeeds there happens to the machine
            return await agent.run("print([])")
        try:
            with _bait() as facts:
                await agent.write(FACTS, json.dumps(facts).encode())
                found = await agent.run(ATTACKS)
        except OSError as error:
            raise SandboxStartFailed(
                f"the canary cannot make its files and sockets, in TMPDIR or /tmp: {error}"
            ) from error
        return [each for each in found if backend.level in MEANT.get(each, _ALL)]


@contextlib.asynccontextmanager
async def visit(backend: Backend, pool: PoolSpec) -> AsyncIterator[Agent]:
    """A sandbox of the pool's with an interpreter, for the block. Raises SandboxStartFailed."""
    sandbox = await _in_time(backend.create(pool), backend.start_s, "no sandbox was made")
    try:
        agent = Agent(sandbox.channel)
        descriptors = await _in_time(sandbox.interpreter(), backend.start_s, "no interpreter was made")
        await agent.attach(descriptors, backend.start_s)
        yield agent
    finally:
        await _in_time(sandbox.kill(), _KILL_S, "the sandbox could not be ended")


@contextlib.contextmanager
def _bait() -> Iterator[dict[str, Any]]:
    """Things of the host's for the code inside to get at, open to every user: the boundary alone keeps them apart."""
    with tempfile.TemporaryDirectory(prefix="carrel-canary-") as name, contextlib.ExitStack() as opened:
        folder = Path(name)
        folder.chmod(0o777)
        (folder / "secret").write_text("the host's")
        (folder / "secret").chmod(0o644)
        abstract = f"carrel-canary-{os.getpid()}-{os.urandom(4).hex()}"
        sockets: dict[str, tuple[socket.AddressFamily, Any]] = {
            "socket": (socket.AF_UNIX, str(folder / "socket")),
            "abstract": (socket.AF_UNIX, f"\0{abstract}"),
            "port": (socket.AF_INET, ("127.0.0.1", 0)),
        }
        listening = {}
        for kind, (family, address) in sockets.items():
            listening[kind] = opened.enter_context(socket.socket(family))
            listening[kind].bind(address)
            listening[kind].listen()
        (folder / "socket").chmod(0o777)
        yield {
            "pid": os.getpid(),
            "file": str(folder / "secret"),
            "folder": name,
            "socket": str(folder / "socket"),
            "abstract": abstract,
            "port": listening["port"].getsockname()[1],
        }


class Agent:
    """The agent of one sandbox, asked one thing at a time. All raise SandboxStartFailed where it does not answer, or not in time."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel, self._decoder, self._stream = channel, frames.Decoder(), 0

    async def attach(self, descriptors: list[int] | None, seconds: float) -> None:
        self._stream += 1
        header = frames.encode({"s": self._stream, "op": "attach"})
        try:
            if descriptors:
                socket.send_fds(self._channel, [header], descriptors)
            else:
                await asyncio.get_running_loop().sock_sendall(self._channel, header)
        finally:
            for fd in descriptors or ():
                os.close(fd)
        await self._answer(seconds)

    async def write(self, path: str, content: bytes) -> None:
        """Put a small file into the session's folder."""
        await self._send(({"op": "upload", "path": path}, b""), ({"data": 1}, content), ({"end": 1}, b""))
        await self._answer(_ANSWER_S)

    async def run(self, code: str) -> list[str]:
        """What Python code prints, which is a list of words in JSON."""
        execute = {"op": "execute", "kind": "shell", "stream_cap": _MAX_ANSWER, "value_cap": 0}
        body = json.dumps({"command": _COMMAND, "shell": "sh", "stdin": code}).encode()
        await self._send((execute, b""), ({"data": 1}, body), ({"end": 1}, b""))
        said = await self._answer(_ANSWER_S)
        try:
            value = json.loads(said["stdout"])
        except ValueError:
            value = None
        if not isinstance(value, list):
            last = bytes(said["stderr"]).decode(errors="replace").strip().rpartition("\n")[2][:_SAID]
            raise SandboxStartFailed(f"the canary's code did not run to its end: {last or 'it said nothing'}")
        return [str(each) for each in value]

    async def _send(self, *parts: tuple[dict[str, Any], bytes]) -> None:
        self._stream += 1
        data = b"".join(frames.encode({"s": self._stream, **header}, payload) for header, payload in parts)
        await asyncio.get_running_loop().sock_sendall(self._channel, data)

    async def _answer(self, seconds: float) -> dict[str, bytearray]:
        """What the stream under way has printed, at its end."""
        return await _in_time(self._read_answer(), seconds, "the agent did not answer")

    async def _read_answer(self) -> dict[str, bytearray]:
        said = {"stdout": bytearray(), "stderr": bytearray()}
        while True:
            data = await asyncio.get_running_loop().sock_recv(self._channel, 65_536)
            if not data:
                raise SandboxStartFailed("the agent ended")
            for header, payload in self._decoder.feed(data):
                if (stream := said.get(str(header.get("data")))) is not None and len(stream) < _MAX_ANSWER:
                    stream += payload
                if "error" in header:
                    raise SandboxStartFailed(str(header["error"]))
                if "end" in header:
                    return said


async def _in_time(step: Awaitable[T], seconds: float, what: str) -> T:
    try:
        async with asyncio.timeout(seconds):
            return await step
    except TimeoutError as error:
        raise SandboxStartFailed(f"{what} within {seconds:.0f} seconds") from error

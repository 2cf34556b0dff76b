"""The canary: start a sandbox as a session's would be, attack it a little, stop it. What a machine offers is found by
this, never by looking for files.

It speaks the agent's protocol itself, one call at a time, so that it needs nothing above this floor.
"""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

from carrel.backends.base import Backend
from carrel.errors import SandboxStartFailed
from carrel.guest import frames
from carrel.models import Level, PoolSpec

_ANSWER_S = 15
POOL = PoolSpec("canary", image="python-slim")

# Runs inside. Its value is a list of what should not have been possible; empty on a sound boundary.
ATTACKS = r"""
import ctypes, errno, os, socket
_status = dict(line.split(":", 1) for line in open("/proc/self/status"))
_libc = ctypes.CDLL(None, use_errno=True)
found = []
if int(_status["CapEff"], 16) or int(_status["CapBnd"], 16): found.append("capabilities are left")
if _status["NoNewPrivs"].strip() != "1": found.append("no_new_privs is not set")
if _status["Seccomp"].strip() != "2": found.append("no seccomp filter is loaded")
if os.getuid() == 0: found.append("the code runs as root")
if _libc.unshare(0x10000000) == 0: found.append("user namespaces can be made")
if _libc.mount(b"none", b"/mnt/data", b"tmpfs", 0, None) == 0: found.append("file systems can be mounted")
if len([name for name in os.listdir("/proc") if name.isdigit()]) > 4: found.append("other processes can be seen")
if os.path.isdir("/home") and set(os.listdir("/home")) - {"user"}: found.append("the host's /home can be seen")
try: open("/usr/bin/.carrel", "w"); found.append("system folders can be written to")
except OSError: pass
try: socket.create_connection(("192.0.2.1", 80), 0.2); found.append("the network can be reached")
except OSError as error:
    if error.errno != errno.ENETUNREACH: found.append("the network can be reached")
found
"""


async def try_level(backend: Backend) -> list[str]:
    """Start, attack, stop. Returns what the boundary failed to stop. Raises SandboxStartFailed where it cannot even start."""
    try:
        await backend.start()
        await backend.prepare(POOL)
        sandbox = await backend.create(POOL)
        try:
            agent = _Agent(sandbox.channel)
            await agent.attach(await sandbox.interpreter())
            return [] if backend.level is Level.PROCESS else await agent.run(ATTACKS)
        finally:
            await sandbox.kill()
    finally:
        await backend.close()


class _Agent:
    def __init__(self, channel: socket.socket) -> None:
        self._channel, self._decoder, self._stream = channel, frames.Decoder(), 0

    async def attach(self, descriptors: list[int] | None) -> None:
        self._stream += 1
        header = frames.encode({"s": self._stream, "op": "attach"})
        if descriptors:
            socket.send_fds(self._channel, [header], descriptors)
            for fd in descriptors:
                socket.close(fd)
        else:
            await asyncio.get_running_loop().sock_sendall(self._channel, header)
        await self._answer()

    async def run(self, code: str) -> list[str]:
        self._stream += 1
        parts: list[tuple[dict[str, Any], bytes]] = [
            ({"op": "execute", "stream_cap": 4096, "value_cap": 65_536}, b""),
            ({"data": 1}, code.encode()),
            ({"end": 1}, b""),
        ]
        data = b"".join(frames.encode({"s": self._stream, **header}, payload) for header, payload in parts)
        await asyncio.get_running_loop().sock_sendall(self._channel, data)
        value = json.loads(await self._answer() or "{}").get("json")
        if not isinstance(value, list):
            raise SandboxStartFailed("The canary's code did not run to its end.")
        return [str(each) for each in value]

    async def _answer(self) -> bytes:
        """The value of the stream under way, at its end."""
        value = b""
        async with asyncio.timeout(_ANSWER_S):
            while True:
                data = await asyncio.get_running_loop().sock_recv(self._channel, 65_536)
                if not data:
                    raise SandboxStartFailed("The agent ended.")
                for header, payload in self._decoder.feed(data):
                    if header.get("data") == "value":
                        value += payload
                    if "error" in header:
                        raise SandboxStartFailed(str(header["error"]))
                    if "end" in header:
                        return value

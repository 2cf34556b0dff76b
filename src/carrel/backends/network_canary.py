"""The canary of a level's networks: a session that may reach one thing, and what it really reaches.

What it may reach is a listener of the canary's own on the host's loopback, so that nothing depends on how this machine is connected.
That takes a backend whose carve-outs (`egress_allow_private`) hold CARVE_OUT.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import replace

from carrel.backends import canary
from carrel.backends.base import Backend
from carrel.backends.policy import PROXY
from carrel.models import Network, PoolSpec

CARVE_OUT = "127.0.0.1/32"
_REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\ncarrel"

# Runs inside. It prints what is not as it should be.
LISTED = r"""
import json, socket
facts = json.load(open("canary.json"))
def ask(port):
    with socket.create_connection(tuple(facts["proxy"]), 5) as proxy:
        proxy.settimeout(5)
        address = "127.0.0.1:%d" % port
        proxy.sendall(f"GET http://{address}/ HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode())
        reply = b""
        while piece := proxy.recv(4096): reply += piece
        return reply.split(b" ", 2)[1:2], reply
wrong = []
try:
    if not ask(facts["listed"])[1].endswith(b"carrel"): wrong.append("what is listed is not let through")
    if ask(facts["other"])[0] != [b"403"]: wrong.append("what is not listed is not refused")
except OSError as error: wrong.append(f"the proxy does not answer ({error})")
for port in (facts["listed"], facts["other"]):
    try: socket.create_connection(("127.0.0.1", port), 0.5).close()
    except OSError: continue
    wrong.append("the host can be reached beside the proxy")
print(json.dumps(sorted(set(wrong))))
"""


# The same for raw egress.
OPEN = r"""
import json, socket
facts = json.load(open("canary.json"))
wrong = []
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way_out:
    try: way_out.connect(("192.0.2.1", 9))
    except OSError: wrong.append("there is no way out")
for what, address in facts["forbidden"].items():
    try: socket.create_connection(address, 1).close()
    except OSError: continue
    wrong.append(f"{what} can be reached")
print(json.dumps(sorted(wrong)))
"""


async def opened(backend: Backend, pool: PoolSpec) -> list[str]:
    """What is wrong with raw egress at this level. Raises SandboxStartFailed where the level has none here, or it does not start."""
    address = _own_address()
    async with _listener(address) as port:
        spec = replace(pool, network=Network.OPEN)
        await backend.prepare(spec)
        async with canary.visit(backend, spec) as agent:
            forbidden = {"the host": (address, port), "a metadata service": ("169.254.169.254", 80)}
            await agent.write(canary.FACTS, json.dumps({"forbidden": forbidden}).encode())
            return await agent.run(OPEN)


def _own_address() -> str:
    """An address by which this machine is reached from elsewhere; loopback's where it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


async def listed(backend: Backend, pool: PoolSpec) -> list[str]:
    """What is wrong with an allow list at this level. Raises SandboxStartFailed where the level has none, or it does not start."""
    async with _listener() as port, _listener() as other:
        spec = replace(pool, network=Network.LISTED, allow=(f"127.0.0.1:{port}",))
        await backend.prepare(spec)
        async with canary.visit(backend, spec) as agent:
            facts = {"listed": port, "other": other, "proxy": PROXY}
            await agent.write(canary.FACTS, json.dumps(facts).encode())
            return await agent.run(LISTED)


@contextlib.asynccontextmanager
async def _listener(address: str = "127.0.0.1") -> AsyncIterator[int]:
    """The port of a small HTTP server."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(_REPLY)
        writer.close()

    server = await asyncio.start_server(answer, address, 0)
    async with server:
        yield server.sockets[0].getsockname()[1]

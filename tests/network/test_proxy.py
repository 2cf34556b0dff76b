"""The proxy by itself, over real sockets: what one session's connections cost the others, and what is left of them."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import uvloop

from carrel.egress import relay, rules
from carrel.egress.control import Control
from carrel.egress.gate import Gate
from carrel.egress.proxy import Counts, Proxy

Served = tuple[Proxy, int, int]  # the proxy, its port, and the port of the one server that its list has


@contextlib.asynccontextmanager
async def served(
    gate: Gate, serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
) -> AsyncIterator[Served]:
    upstream = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = upstream.sockets[0].getsockname()[1]
    gate.configure(["127.0.0.1/32"])
    gate.set_rules("pool", [f"127.0.0.1:{port}", f"*.test:{port}"])
    listener = socket.create_server(("127.0.0.1", 0))
    proxy = Proxy(gate, "pool", Counts(), lambda *_told: None)
    proxy_port = listener.getsockname()[1]
    await proxy.serve(listener)
    try:
        yield proxy, proxy_port, port
    finally:
        await proxy.close()
        upstream.close()


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def tunnel(port: int, target: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
    return reader, writer, await reader.readuntil(b"\r\n")


def test_a_server_that_never_reads_holds_nothing_once_its_connection_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written for it is dropped: it would be a descriptor and a full buffer each time, counted for nobody, for ever."""
    monkeypatch.setattr(relay, "IDLE_S", 0.5)
    monkeypatch.setattr(relay, "CLOSE_S", 0.5)
    theirs: list[asyncio.StreamReader] = []

    async def never_read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        theirs.append(reader)
        await asyncio.sleep(60)

    async def attack() -> tuple[int, int]:
        async with served(Gate(), never_read) as (proxy, port, server):
            before = _descriptors()
            for _ in range(5):
                _reader, writer, answer = await tunnel(port, f"127.0.0.1:{server}")
                assert b"200" in answer
                writer.write(b"x" * 30_000_000)
            await asyncio.sleep(0.2)
            assert len(proxy._connections) == 5
            for _ in range(100):
                await asyncio.sleep(0.1)
                if not proxy._connections:
                    break
            await asyncio.sleep(0.2)
            # This process has the server's ends too, one for each.
            return before, _descriptors() - len(theirs)

    before, after = uvloop.run(attack())

    assert after <= before


def test_small_chunks_of_one_session_do_not_hold_up_others() -> None:
    """Thousands of chunks can be in the buffer at once; other sessions get their turn between them."""

    async def read_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1 << 20):
            pass
        writer.close()

    async def attack() -> float:
        async with served(Gate(), read_all) as (_proxy, port, server):
            _reader, writer = await asyncio.open_connection("127.0.0.1", port)
            head = f"POST http://127.0.0.1:{server}/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            writer.write(head.encode() + b"1\r\na\r\n" * 100_000)
            worst, end = 0.0, time.monotonic() + 2
            while (now := time.monotonic()) < end:
                await asyncio.sleep(0.001)
                worst = max(worst, time.monotonic() - now)
            writer.transport.abort()
            return worst

    began = time.process_time()
    worst = uvloop.run(attack())

    assert time.process_time() - began > 0.2, "nothing was parsed"
    assert worst < 1


def test_a_reset_tunnel_is_nothing_to_report(caplog: pytest.LogCaptureFixture) -> None:
    """Sessions could fill the server's log with tracebacks otherwise."""

    async def wait(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.read()

    async def attack() -> list[object]:
        told: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context))
        async with served(Gate(), wait) as (proxy, port, server):
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.sendall(f"CONNECT 127.0.0.1:{server} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                client.setblocking(False)
                assert b"200" in await asyncio.get_running_loop().sock_recv(client, 100)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            for _ in range(50):
                await asyncio.sleep(0.1)
                if not proxy._connections:
                    break
            assert not proxy._connections
        gc.collect()
        await asyncio.sleep(0)
        return told

    with caplog.at_level(logging.ERROR):
        assert uvloop.run(attack()) == []
    assert not caplog.records


def test_a_rule_that_is_taken_away_while_a_connection_is_made_holds_for_it() -> None:
    """The name takes its time to be resolved; when it is, the list is another one."""

    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")

    async def attack() -> bytes:
        def look_up(_host: str, _port: int) -> list[str]:
            gate.set_rules("pool", ["elsewhere.test"])
            return ["127.0.0.1"]

        gate = Gate(look_up)
        async with served(gate, greet) as (_proxy, port, server):
            return (await tunnel(port, f"name.test:{server}"))[2]

    assert uvloop.run(attack()).startswith(b"HTTP/1.1 403 ")


def test_a_name_with_thousands_of_addresses_is_cut_short() -> None:
    """Each is checked, told and tried, so its owner could make one request a long one."""

    async def check() -> int:
        gate = Gate(lambda _host, _port: [f"10.{n // 250}.{n % 250}.1" for n in range(4000)])
        gate.set_rules("pool", ["*.test"])
        return len((await gate.check("pool", rules.parse_target("a.test:443"), asyncio.Semaphore(1))).candidates)

    assert asyncio.run(check()) == 16


def test_sandboxes_come_and_go_while_a_test_waits_for_a_name_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name's owner may let it take seconds."""

    def slow(*_arguments: object, **_options: object) -> list[object]:
        time.sleep(1)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", slow)

    async def ask() -> list[int]:
        host, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        host.setblocking(False)
        serving = asyncio.create_task(Control(theirs).serve())
        loop = asyncio.get_running_loop()
        assert json.loads(await loop.sock_recv(host, 1000)) == {"ready": True}
        requests: list[dict[str, object]] = [
            {"op": "rules", "pool": "pool", "rules": ["*.test"]},
            {"op": "test", "pool": "pool", "target": "slow.test"},
            {"op": "detach", "name": "a"},
        ]
        for number, request in enumerate(requests):
            host.send(json.dumps({"id": number, **request}).encode())
        answered = [json.loads(await loop.sock_recv(host, 1000))["id"] for _ in range(3)]
        host.close()
        await serving
        theirs.close()
        return answered

    assert uvloop.run(ask()) == [0, 2, 1]


def test_rules_fit_into_a_message() -> None:
    """One that does not would end the process that reads it, for every pool."""
    with pytest.raises(ValueError, match="characters long"):
        rules.parse_all([f"a{number}.test:{','.join(['443'] * 100)}" for number in range(200)])
    longest = [f"{number:03}{'é' * 40}.test" for number in range(100)]
    assert len(json.dumps([rule.text for rule in rules.parse_all(longest)])) < 64 * 1024

"""`carrel mcp`: a pool's MCP over stdio, for desktop agents that start their servers themselves."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import stat
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import httpx

from carrel.cli.bridge import Bridge
from carrel.cli.launch import LaunchError, private_server
from carrel.cli.options import config_option
from carrel.cli.statefolder import is_held
from carrel.client import Connection
from carrel.client.connection import is_local
from carrel.config import DEFAULT_POOLS

_LINE = 32 * 1024 * 1024  # bytes of a message: the server takes 16 MiB
_CALL_S = 86_400.0  # a call ends when its code does; progress and pings come in between


@dataclass(frozen=True, slots=True)
class Target:
    url: str
    key: str
    ca_bundle: str | None = None


@click.command("mcp")
@click.option("--pool", metavar="NAME", default="python", show_default=True, help="Pool to serve: python, node, shell.")
@click.option(
    "--endpoint", metavar="URL", help="MCP or pool endpoint of a running server, instead of a server of its own."
)
@click.option(
    "--key", metavar="KEY", envvar="CARREL_MCP_KEY", help="The pool's key, with --endpoint.  [CARREL_MCP_KEY]"
)
@click.option(
    "--state",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="State folder: of a running server, which is used then, or for the one that is started. Without it a temporary one.",
)
@config_option
def mcp(pool: str, endpoint: str | None, key: str | None, state: Path | None, config: str | None) -> None:
    """Speak MCP on stdin and stdout. Without --endpoint a server is started, which ends with stdin and leaves nothing behind."""
    with contextlib.ExitStack() as stack:
        write = stack.enter_context(_wire())
        target = _given(endpoint, key) if endpoint else stack.enter_context(_own(pool, state, config))
        asyncio.run(_serve(target, write))


def _given(endpoint: str, key: str | None) -> Target:
    if not key:
        raise click.UsageError(
            "--endpoint needs --key, or CARREL_MCP_KEY, which does not show in the list of processes"
        )
    url = endpoint.rstrip("/")
    return Target(url if url.lower().endswith("/mcp") else f"{url}/mcp", key, os.environ.get("SSL_CERT_FILE"))


@contextlib.contextmanager
def _own(pool: str, state: Path | None, config: str | None) -> Iterator[Target]:
    """The running server of the folder, or one that lives as long as the block."""
    with contextlib.ExitStack() as stack:
        if state is None or not is_held(state):
            if config is None and pool not in DEFAULT_POOLS:
                raise click.UsageError(
                    f"--pool must be one of {', '.join(DEFAULT_POOLS)} unless --config says what {pool} is"
                )
            arguments = ["--log-level", "warning", *(["--config", config] if config else [])]
            try:
                state = stack.enter_context(private_server(arguments, state, "" if config else pool))
            except LaunchError as error:
                raise click.ClickException(f"no server could be started: {error}") from error
        found = Connection.read(state).pools.get(pool)
        if found is None or found.mcp is None or found.mcp_key is None:
            raise click.ClickException(f"the server has no pool {pool}")
        yield Target(found.mcp, found.mcp_key)


@contextlib.contextmanager
def _wire() -> Iterator[int]:
    """stdout for the protocol alone: whatever else is printed from here on goes to stderr."""
    wire = os.dup(1)
    os.dup2(2, 1)
    try:
        yield wire
    finally:
        os.dup2(wire, 1)
        os.close(wire)


async def _serve(target: Target, wire: int) -> None:
    lock = asyncio.Lock()

    async def write(line: bytes) -> None:
        async with lock:
            await asyncio.to_thread(_write, wire, line)

    timeout = httpx.Timeout(30.0, read=_CALL_S)
    headers = {"x-ms-apikey": target.key}
    verify = ssl.create_default_context(cafile=target.ca_bundle) if target.url.startswith("https:") else True
    # A proxy that the environment names has no part in a call to this machine itself.
    trust = not is_local(target.url)
    async with httpx.AsyncClient(headers=headers, timeout=timeout, verify=verify, trust_env=trust) as http:
        await Bridge(http, target.url, write).run(_lines())


def _write(descriptor: int, line: bytes) -> None:
    """All of it, as far as there is a reader."""
    with contextlib.suppress(BrokenPipeError):
        while line:
            line = line[os.write(descriptor, line) :]


async def _lines() -> AsyncIterator[bytes]:
    if stat.S_ISREG(os.fstat(0).st_mode):  # asyncio reads no files
        for line in sys.stdin.buffer:
            yield line
        return
    reader = asyncio.StreamReader(limit=_LINE)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin.buffer)
    while True:
        try:
            line = await reader.readline()
        except ValueError as error:
            raise click.ClickException(f"a message may have {_LINE} bytes at most") from error
        if not line:
            return
        yield line

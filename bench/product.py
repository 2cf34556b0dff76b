"""The server under measurement: `carrel serve` with a state folder of its own, and its pools as the HTTP client sees them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench import programs
from bench.http import Connection, Endpoint
from carrel.host.hostlink import HostLink
from carrel.models import PoolStatus

VERSION = "2025-10-02-preview"
CODE = json.dumps({"properties": {"code": "1+1"}}).encode()
CROWD = 220

# `python` is for calls: few ready, so that the machine is quiet once they are there. `crowd` makes what is asked for and nothing more.
_POOLS = f"""
[pools.python]
scaleConfiguration = {{maxConcurrentSessions = 12, readySessionInstances = 2}}
[pools.crowd]
scaleConfiguration = {{maxConcurrentSessions = {CROWD}, readySessionInstances = 0}}
"""


@dataclass(frozen=True, slots=True)
class Product:
    """A running server. `pids` are of supervisor, gateway and host."""

    state: Path
    pids: dict[str, int]
    _connection: dict[str, Any]

    def endpoint(self, pool: str) -> Endpoint:
        parts = urlsplit(self._connection["pools"][pool]["endpoint"])
        return Endpoint(parts.port or 80, parts.path, self._connection["token"])

    def pool(self, name: str) -> Pool:
        return Pool(self, name, self.endpoint(name))


@dataclass(frozen=True, slots=True)
class Pool:
    product: Product
    name: str
    endpoint: Endpoint

    def execute(self, identifier: str) -> bytes:
        """The request that runs `1+1`."""
        return self.endpoint.request("POST", f"/executions?api-version={VERSION}&identifier={identifier}", CODE)

    def end(self, connection: Connection, identifier: str) -> None:
        path = f"/session?api-version={VERSION}&identifier={identifier}"
        connection.call(self.endpoint.request("DELETE", path))

    def wait_until_quiet(self, seconds: float = 30) -> None:
        """Until as many sandboxes are warm as the pool keeps and none is starting."""
        deadline = time.monotonic() + seconds
        with asyncio.Runner() as runner:
            while not runner.run(self._is_quiet()):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"pool {self.name} did not fill within {seconds:.0f} seconds")
                time.sleep(0.005)

    async def _is_quiet(self) -> bool:
        link = HostLink(self.product.state / "run" / "hostlink.sock")
        try:
            status = next(each for each in await link.pools() if each.spec.name == self.name)
        finally:
            await link.close()
        return _is_full(status)


def _is_full(status: PoolStatus) -> bool:
    return status.starting == 0 and status.warm >= status.spec.ready


def fresh() -> str:
    return f"bench-{uuid.uuid4().hex[:12]}"


@contextlib.contextmanager
def serving(images: Path, pools: str = _POOLS) -> Iterator[Product]:
    """A server inside the block; a first run builds its image."""
    with tempfile.TemporaryDirectory(prefix="carrel-bench-") as folder:
        state = Path(folder) / "state"
        config = Path(folder) / "bench.toml"
        config.write_text(pools)
        options = ["--state", state, "--images", images, "--config", config, "--port", "0", "--tls-port", "0"]
        command = [sys.executable, "-P", "-m", "carrel.cli", "serve", *options, "--log-level", "warning"]
        with programs.program(command) as process:
            file = state / "connection.json"
            programs.wait_for(file.exists, "carrel serve", process, seconds=1800)
            fields = json.loads(file.read_text())
            yield Product(state, fields["pids"], fields)

"""Line 6: a file of the largest size up and down, speed and growth."""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bench import machine, programs
from bench.http import CHUNK, BadReply, Connection, Endpoint
from bench.lines import Line, both, holds, p50
from bench.product import VERSION, Pool, fresh

SIZE = 134_217_728  # the largest file that an upload may have
_MB = SIZE / 1_000_000
_GROWTH_MB, _SHARE = 16.0, 0.5
_BOUNDARY = "bench-boundary"
_WARM_UP = CHUNK


@contextlib.contextmanager
def sink() -> Iterator[str]:
    """The floor's storage: a file on a tmpfs behind a Unix socket, whose path is given."""
    with tempfile.TemporaryDirectory(
        prefix="carrel-bench-", dir="/dev/shm"
    ) as folder:  # the tmpfs that every Linux has
        path = Path(folder) / "sink.sock"
        command = [sys.executable, programs.floor("sink"), path, Path(folder) / "content"]
        with programs.program(command) as process:
            programs.wait_for(path.exists, "the sink", process)
            yield str(path)


class Ours:
    """The product's file routes: a multipart form up, the content down."""

    def __init__(self, pool: Pool) -> None:
        self.endpoint = pool.endpoint
        self._pool, self._identifier = pool, fresh()
        self._query = f"?api-version={VERSION}&identifier={self._identifier}"

    def put(self, connection: Connection, content: memoryview) -> None:
        begin = (
            f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="content.bin"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        ).encode()
        end = f"\r\n--{_BOUNDARY}--\r\n".encode()
        kind = f"multipart/form-data; boundary={_BOUNDARY}"
        length = len(begin) + len(content) + len(end)
        head = self.endpoint.head("POST", f"/files{self._query}", length, kind)
        body = connection.send_body(head + begin, content, end)
        if json.loads(body)["sizeInBytes"] != len(content):
            raise BadReply(body.decode())

    def get(self) -> bytes:
        return self.endpoint.request("GET", f"/files/content.bin/content{self._query}")

    def end(self, connection: Connection) -> None:
        self._pool.end(connection, self._identifier)


class Theirs:
    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint

    def put(self, connection: Connection, content: memoryview) -> None:
        connection.send_body(self.endpoint.head("POST", "/file", len(content), "application/octet-stream"), content)

    def get(self) -> bytes:
        return self.endpoint.request("GET", "/file")


class Growth:
    """The peak of what processes hold together over what they held at first, through several transfers."""

    def __init__(self, pids: list[int]) -> None:
        self._pids = pids
        self.mb: list[float] = []

    def watch(self, action: Callable[[], float]) -> float:
        before = {pid: machine.rss_mb(pid) for pid in self._pids}
        for pid in self._pids:
            machine.forget_peak(pid)
        result = action()
        self.mb.append(sum(machine.peak_rss_mb(pid) - before[pid] for pid in self._pids))
        return result


@dataclass(slots=True)
class Way:
    """One direction: seconds of each transfer."""

    name: str
    growth: Growth
    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)


def both_ways(pool: Pool, floor: Endpoint, rounds: int) -> list[Line]:
    """Up and down, product and floor in turns."""
    content, nowhere = memoryview(bytes(range(256)) * (SIZE // 256)), bytearray(CHUNK)
    product, raw = Ours(pool), Theirs(floor)
    pids = [pool.product.pids["gateway"], pool.product.pids["host"]]
    up, down = Way("upload", Growth(pids)), Way("download", Growth(pids))
    with Connection(product.endpoint) as a, Connection(raw.endpoint) as b:
        for side, connection in ((product, a), (raw, b)):
            side.put(connection, content[:_WARM_UP])
            connection.drain_body(side.get(), nowhere)
        pool.wait_until_quiet()
        for _ in range(rounds):
            up.ours.append(up.growth.watch(lambda: _timed(lambda: product.put(a, content))))
            up.theirs.append(_timed(lambda: raw.put(b, content)))
            down.ours.append(down.growth.watch(lambda: _timed(lambda: _get(a, product.get(), nowhere))))
            down.theirs.append(_timed(lambda: _get(b, raw.get(), nowhere)))
        product.end(a)
    return [_line(up), _line(down)]


def _get(connection: Connection, request: bytes, nowhere: bytearray) -> None:
    if connection.drain_body(request, nowhere) != SIZE:
        raise BadReply("the download has another size")


def _timed(action: Callable[[], None]) -> float:
    """Seconds."""
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def _line(way: Way) -> Line:
    shares = [b / a for a, b in zip(way.ours, way.theirs, strict=True)]
    grown = max(way.growth.mb)
    return Line(
        what=f"{way.name} of 128 MB",
        measured=f"{_MB / p50(way.ours):.0f} MB/s, growth {grown:.1f} MB",
        floor=f"{_MB / p50(way.theirs):.0f} MB/s",
        ratio=f"{p50(shares):.2f}",
        budget=f"ratio ≥ {_SHARE}; growth < {_GROWTH_MB:.0f} MB",
        is_met=both(holds(shares, at_least=_SHARE), grown < _GROWTH_MB),
        detail={"product_s": way.ours, "floor_s": way.theirs, "of_rounds": shares, "growth_mb": way.growth.mb},
    )

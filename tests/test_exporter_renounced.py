"""The exporter does its work in a process that can open nothing any more."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import certifi
import pytest

from collector import collecting, status

NOBODY = 54321

SCRIPT = """
import asyncio, json, sys, time
from pathlib import Path

from carrel.guest import linux
from carrel.server.telemetry.exporter import Exporter, Patience
from carrel.tracing import Outbox, Span

url, authorities, uid = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
outbox = Outbox(100)
exporter = Exporter(url, {"authorization": "x"}, authorities, outbox, "test", Patience(5.0, (0.01, 0.01, 0.01), 0.01))
linux.renounce(uid or None)
touched = []
sys.addaudithook(lambda event, args: event in ("open", "import") and touched.append(f"{event} {args[0]}"))

def span(number):
    attributes = {"text": "x", "number": number, "part": 0.5, "flag": True}
    now = time.time_ns()
    return Span("call", "1" * 32, f"{number:016x}", "2" * 16, now, now, "client", "Fault", attributes, "a=b,c=d", "host")

async def work():
    running = asyncio.ensure_future(exporter.run())
    for number in range(1, 4):
        outbox.put(span(number))
        async with asyncio.timeout(30):
            while exporter.counts.sent + exporter.counts.lost < number:
                await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.wait([running])

asyncio.run(work())
print(json.dumps({"touched": touched, "sent": exporter.counts.sent, "lost": exporter.counts.lost}))
"""


@pytest.mark.parametrize("name", ["127.0.0.1", pytest.param("localhost", marks=pytest.mark.thorough)])
def test_spans_go_out_without_a_file_or_a_module_being_opened(name: str) -> None:
    """A name is resolved by the C library in a thread, which Python's audit events do not see and which may read what all may read."""
    with collecting() as collector:
        collector.answers += [status(503), status(400)]
        url = collector.url.replace("127.0.0.1", name)
        command = [sys.executable, "-P", "-c", SCRIPT, url, certifi.where(), str(NOBODY if os.geteuid() == 0 else 0)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)

        told = json.loads(done.stdout)
        # httpcore asks for this optional package each time, and does without.
        assert set(told["touched"]) - {"import sniffio"} == set()
        assert (told["sent"], told["lost"]) == (2, 1)
        assert len(collector.taken) == 2

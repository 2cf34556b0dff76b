"""Level restricted where no pid namespace ends everything at once: what sessions left in the background ends with their server too."""

from __future__ import annotations

import os
import signal

import pytest

from carrel.backends import cgroups
from carrel.models import Level
from conftest import SlimServer
from processes import alive, descendants, eventually

pytestmark = pytest.mark.slow

_DAEMONS = """
import os, time
for _ in range(10):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0: time.sleep(600)
        os._exit(0)
"""


@pytest.mark.thorough
@pytest.mark.parametrize("victim", ["host", "supervisor"])
def test_daemons_of_sessions_end_with_a_killed_server(slim_server: SlimServer, victim: str) -> None:
    with slim_server("--isolation", "restricted", level=Level.RESTRICTED) as server:
        for _ in range(4):
            with server.client() as client:
                client.execute(_DAEMONS)
        family = descendants(server.process.pid)
        assert len(family) > 40
        os.kill(server.pids[victim], signal.SIGKILL)

        if victim == "supervisor":
            server.process.wait(10)
        assert eventually(lambda: not any(alive(pid) for pid in family), 10), [pid for pid in family if alive(pid)]
    cgroups.sweep()  # as the next server would

"""The real `az`, in an environment of its own (clients/environments.py) and with a configuration folder of its own."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clients import environments
from conftest import Server

CLOUD = "Carrel"


@dataclass(frozen=True, slots=True)
class Az:
    """`az` of somebody whose home is `home`, on a machine that is told of `server` by what `carrel env` exports and nothing else."""

    server: Server
    home: Path
    is_told: bool = True  # that there is no authority of Microsoft's to ask

    def environment(self, **more: str) -> dict[str, str]:
        connection = self.server.connection
        program = environments.python_of(environments.AZ).parent / "az"
        return {
            "PATH": f"{program.parent}:/usr/bin:/bin",
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "AZURE_CONFIG_DIR": str(self.home / ".azure"),
            "AZURE_CORE_COLLECT_TELEMETRY": "false",
            **({"AZURE_CORE_INSTANCE_DISCOVERY": "false"} if self.is_told else {}),
            "AZURE_CORE_LOGIN_EXPERIENCE_V2": "off",
            "REQUESTS_CA_BUNDLE": connection["ca_bundle"],
            "CURL_CA_BUNDLE": connection["ca_bundle"],
            **more,
        }

    def start(self, *arguments: str, **more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["az", *arguments],
            env=self.environment(**more),
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def fails(self, *arguments: str, **more: str) -> str:
        """What it says on stderr."""
        process = self.start(*arguments, **more)
        _out, err = process.communicate(timeout=120)
        assert process.returncode != 0, f"az {' '.join(arguments)} did not fail"
        return err

    def text(self, *arguments: str, **more: str) -> str:
        """What it prints."""
        process = self.start(*arguments, **more)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, f"az {' '.join(arguments[:3])} …: {err}"
        return out.strip()

    def json(self, *arguments: str, **more: str) -> Any:
        return json.loads(self.text(*arguments, "--output", "json", **more) or "null")

    def register(self, *more: str) -> None:
        """Once per home: the cloud, by its control plane's address alone."""
        arm = self.server.connection["arm"]
        self.text("cloud", "register", "--name", CLOUD, "--endpoint-resource-manager", arm, *more)
        self.text("cloud", "set", "--name", CLOUD)

    def script(self, lines: str, more: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        """A shell script whose stdin is a terminal, on which `y` has been typed: some commands ask."""
        ours, theirs = pty.openpty()
        try:
            os.write(ours, b"y\n")
            return subprocess.run(
                ["/bin/bash", "-euo", "pipefail", "-c", lines],
                env=self.environment(**more),
                cwd=self.home,
                stdin=theirs,
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
        finally:
            os.close(ours)
            os.close(theirs)


@contextmanager
def own_principal(server: Server, home: Path) -> Iterator[Az]:
    """Signed in as the server's own service principal."""
    az = Az(server, home)
    connection = server.connection
    az.register()
    who = ("-u", connection["client_id"], "-p", connection["client_secret"], "--tenant", connection["tenant"])
    az.text("login", "--service-principal", *who)
    yield az
    az.text("logout")

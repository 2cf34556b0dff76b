"""The client without the server: the wheel alone, in an environment of its own, has what is promised of it and nothing of the server's."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import uv

from carrel import registry
from carrel.cli import COMMANDS
from carrel.cli.absent import reason
from conftest import Server

ROOT = Path(__file__).parent.parent
# Of the commands, those that are the server's own. All others work where only the client is installed.
OF_THE_SERVER = {"serve", "token", "doctor", "backup", "restore"}

Run = Callable[..., subprocess.CompletedProcess[str]]


def extra() -> set[str]:
    """The distributions that the extra `server` brings, as pyproject.toml names them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {re.split(r"[\[<>=]", each)[0].lower() for each in project["optional-dependencies"]["server"]}


@pytest.fixture(scope="session")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of an environment with the wheel of this checkout and what it depends on; from the cache where that has it."""
    folder = tmp_path_factory.mktemp("apart")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    environment = registry.uv_environment()
    environment.pop("VIRTUAL_ENV", None)

    def call(*arguments: str) -> int:
        command = [uv.find_uv_bin(), "--quiet", *arguments]
        return subprocess.run(command, env=environment, check=False).returncode

    home = folder / "environment"
    assert call("venv", "--python", sys.executable, str(home)) == 0
    install = [
        "pip",
        "install",
        "--python",
        str(home / "bin/python"),
        "--constraint",
        str(ROOT / "requirements/dev.lock"),
    ]
    assert 0 in (call(*install, way, str(wheel)) for way in ("--offline", "--only-binary=:all:"))
    return home / "bin"


@pytest.fixture
def run(apart: Path, tmp_path: Path) -> Run:
    def call(*command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "LANG": "C.UTF-8", **variables}
        return subprocess.run(
            [str(apart / command[0]), *command[1:]],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return call


def test_nothing_of_the_servers_is_there(run: Run) -> None:
    """Neither what the extra names, nor the client's modules importing anything but what base brings."""
    listed = "import importlib.metadata as m, json; print(json.dumps([d.name for d in m.distributions()]))"
    modules = (
        "import importlib, pkgutil, sys, carrel.client\n"
        "for each in pkgutil.iter_modules(carrel.client.__path__): importlib.import_module(f'carrel.client.{each.name}')\n"
        "wrong = [n for n in sys.modules if n.startswith('carrel.') and not n.startswith('carrel.client')]\n"
        "import pathlib; print(wrong, (pathlib.Path(carrel.__file__).parent / 'py.typed').exists())"
    )

    names = {name.lower() for name in json.loads(run("python", "-c", listed).stdout)}
    assert names & extra() <= {"h11"}, "httpx brings that one too"
    assert run("python", "-c", modules).stdout == "[] True\n"


def test_the_clients_commands_are_there(run: Run) -> None:
    """Those of the server say what to install instead."""
    listed = (
        "import click, json\nfrom carrel.cli import COMMANDS, cli\ncontext = click.Context(cli)\n"
        "print(json.dumps({name: cli.get_command(context, name).help for name in COMMANDS}))"
    )
    found: dict[str, str] = json.loads(run("python", "-c", listed).stdout)

    assert {name for name, text in found.items() if "pip install 'carrel[server]'" in text} == OF_THE_SERVER
    assert set(found) == set(COMMANDS)


def test_the_server_says_what_to_install(run: Run) -> None:
    told = run("carrel", "serve", "--port", "0")

    assert (told.returncode, "pip install 'carrel[server]'" in told.stderr) == (1, True)
    assert "Traceback" not in told.stderr
    assert run("carrel", "--help").returncode == 0


@pytest.mark.one_level
def test_code_runs_by_the_client_alone(run: Run, server: Server) -> None:
    """By a program and by the command, of a server that somebody else runs."""
    connection = server.connection
    variables = {"CARREL_POOL_ENDPOINT": server.endpoint, "CARREL_TOKEN": connection["token"]}
    program = (
        "from carrel.client import Client\n"
        "with Client.from_env() as c, c.session('client-apart') as s: print(s.run('6 * 7').result)"
    )
    remote = {
        "CARREL_ENDPOINT": connection["arm"],
        "CARREL_TOKEN": connection["token"],
        "CARREL_ARM_TOKEN": connection["arm_token"],
        "SSL_CERT_FILE": connection["ca_bundle"],
    }

    assert run("python", "-c", program, **variables).stdout == "42\n"
    told = run("carrel", "exec", "6 * 7", "--pool", server.pool, **remote)
    assert "42" in told.stdout, told.stderr
    shown = run("carrel", "sessionpool", "list", "-o", "json", **remote)
    assert server.pool in [each["name"] for each in json.loads(shown.stdout)], shown.stderr


@pytest.mark.parametrize(
    ("module", "told"),
    [("sqlalchemy.orm", "carrel[server]"), ("fcntl", "Linux"), ("httpx", None), ("carrel.none", None), ("", None)],
)
def test_a_broken_installation_is_not_explained_away(module: str, told: str | None) -> None:
    why = reason(ModuleNotFoundError(name=module), "This")

    assert (told in why) if told and why else why is told

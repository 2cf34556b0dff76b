"""The client packages' environments: one per framework, apart from ours, built by uv from a hashed lock when first asked for.

They are kept in the checkout under `.cache/clients/<name>-<hash of what they are made from>`, so a changed lock makes a new one and
an unchanged one costs nothing. A build that was cut short has no `.complete` and is made anew; a file lock keeps two runs from
building at once.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uv

from carrel import registry

HERE = Path(__file__).parent
CACHE = HERE.parents[1] / ".cache" / "clients"


@dataclass(frozen=True, slots=True)
class Client:
    """One framework. `source_only` names those of its dependencies that the registry has no wheel of; all else must be a wheel."""

    name: str
    source_only: tuple[str, ...] = ()
    needs_shell: bool = False  # a pool of containerType Shell
    is_example: bool = False  # a framework that knows nothing of sessions, with our adapter in examples/
    place: Path = HERE

    @property
    def folder(self) -> Path:
        return self.place / self.name

    @property
    def lock(self) -> Path:
        return self.folder / "requirements.lock"

    @property
    def build_lock(self) -> Path:
        """What the source distributions are built with; there only where `source_only` is not empty."""
        return self.folder / "build.lock"

    @property
    def scenario(self) -> Path:
        return self.folder / "scenario.py"


CLIENTS = (
    Client("langchain"),
    Client("deepagents", needs_shell=True),
    Client("llamaindex"),
    Client("semantic_kernel", source_only=("pybars4", "pymeta3")),
    Client("autogen"),
    Client("mcp_1"),
    Client("mcp_2"),
    Client("azure_identity"),
    Client("azure_mgmt"),
    Client("agent_framework", is_example=True),
    Client("openai_agents", is_example=True),
    Client("smolagents", is_example=True),
    Client("pydantic_ai", is_example=True),
)
# No packages that scenarios run in, but programs that tests of their own start.
AZ = Client("az", place=HERE.parent)
FUZZ = Client("fuzz", place=HERE.parent)


def python_of(client: Client) -> Path:
    """The interpreter of the client's environment, built if need be. Raises CalledProcessError, with uv's words, if that fails."""
    home = CACHE / f"{client.name}-{_digest(client)}"
    python = home / "bin" / "python"
    CACHE.mkdir(parents=True, exist_ok=True)
    with _alone(CACHE / f"{client.name}.flock"):
        if not (home / ".complete").exists():
            _build(client, home, python)
            _drop_older(client, home)
    return python


def _digest(client: Client) -> str:
    """Names what an environment is made from: the locks and the interpreter."""
    digest = hashlib.sha256(f"{sys.version} {sys.base_prefix}".encode())
    digest.update(client.lock.read_bytes())
    if client.source_only:
        digest.update(client.build_lock.read_bytes())
    return digest.hexdigest()[:16]


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(client: Client, home: Path, python: Path) -> None:
    shutil.rmtree(home, ignore_errors=True)
    _uv("venv", "--python", sys.executable, str(home))
    _uv("pip", "sync", "--python", str(python), *_install_options(client), str(client.lock))
    (home / ".complete").touch()


def _install_options(client: Client) -> list[str]:
    options = ["--require-hashes", "--compile-bytecode", "--only-binary", ":all:"]
    for package in client.source_only:
        options += ["--no-binary", package]
    if client.source_only:
        options += ["--build-constraints", str(client.build_lock)]
    return options


def _uv(*arguments: str) -> None:
    """uv's errors go to our stderr, where pytest shows them beside the failure."""
    environment = registry.uv_environment()
    environment.pop("VIRTUAL_ENV", None)  # of the caller's shell: it must not decide where uv installs
    subprocess.run([uv.find_uv_bin(), "--quiet", *arguments], env=environment, check=True)


def _drop_older(client: Client, home: Path) -> None:
    """Environments are hundreds of megabytes: only the one in use is kept."""
    for other in CACHE.glob(f"{client.name}-*"):
        if other != home:
            shutil.rmtree(other, ignore_errors=True)

"""Running uv, which came with Carrel, to build environments from hashed locks."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from uv import find_uv_bin

import carrel
from carrel.errors import SandboxStartFailed
from carrel.guest import linux
from carrel.registry import uv_environment

DEFINITIONS = Path(carrel.__file__).parent / "images"  # locks and image.toml files, which come with Carrel
_LAST_LINES = 12


def run(arguments: list[str | Path], *, purpose: str) -> None:
    """Run uv. Raises SandboxStartFailed with what uv said at the end.

    The operator's own uv or pip settings (index, proxy, certificates) hold; what is installed is pinned by hash all the same.
    It is kept from fetching interpreters and from taking whatever environment the server itself runs in.
    """
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONPATH", "PYTHONHOME")
    }
    environment = uv_environment(environment) | {"NO_COLOR": "1"}
    command = [find_uv_bin(), *map(str, arguments)]
    try:
        done = subprocess.run(
            command,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            preexec_fn=linux.die_with_parent,
        )
    except OSError as error:
        raise SandboxStartFailed(f"{purpose}: cannot run uv: {error}") from error
    if done.returncode != 0:
        said = "\n".join(done.stderr.strip().splitlines()[-_LAST_LINES:])
        raise SandboxStartFailed(f"{purpose} failed; uv said:\n{said}")


def install(lock: Path, where: list[str | Path], *, purpose: str) -> None:
    """Install a lock, wheels only: a session image must not depend on the compilers of the machine that built it."""
    run(
        [
            "pip",
            "install",
            "--require-hashes",
            "--only-binary",
            ":all:",
            "--no-deps",
            "--link-mode",
            "copy",
            *where,
            "-r",
            lock,
        ],
        purpose=purpose,
    )


@contextmanager
def tool(name: str, beside: Path) -> Iterator[Path]:
    """The program of a package with a lock of its own in `images/`, for the length of the block."""
    with tempfile.TemporaryDirectory(dir=beside, prefix=".tool-") as folder:
        install(DEFINITIONS / f"{name}.lock", ["--target", folder], purpose=f"fetching {name}")
        yield Path(folder, "bin", name)

"""nft(8), the packet filter's own program: load a text, list and remove tables of the inet family."""

from __future__ import annotations

import json
import shutil
import subprocess

_PATH = "/usr/sbin:/sbin:/usr/bin:/bin"
_TIMEOUT_S = 20


class NftFailed(Exception):
    """nft is not there or refused; the text is for people."""


def load(text: str) -> None:
    """All of `text` or nothing of it. Raises NftFailed."""
    _run("-f", "-", text=text)


def tables(prefix: str) -> list[str]:
    """Names of the inet tables that begin with `prefix`, in this network namespace."""
    listed = json.loads(_run("-j", "list", "tables", "inet"))["nftables"]
    names = [each["table"]["name"] for each in listed if "table" in each]
    return [name for name in names if name.startswith(prefix)]


def remove(table: str) -> None:
    """Nothing where there is none: it is made first, since `destroy` is newer than many machines' nft."""
    _run("-f", "-", text=f"table inet {table} {{}}\ndelete table inet {table}\n")


def _run(*arguments: str, text: str = "") -> str:
    program = shutil.which("nft", path=_PATH)
    if program is None:
        raise NftFailed("nft is not installed (package nftables)")
    try:
        done = subprocess.run(
            [program, *arguments], input=text, capture_output=True, text=True, timeout=_TIMEOUT_S, env={"PATH": _PATH}
        )
    except subprocess.TimeoutExpired as error:
        raise NftFailed(f"nft did not end within {_TIMEOUT_S} s") from error
    if done.returncode:
        raise NftFailed(f"nft: {' '.join(done.stderr.split('^')[0].split()) or f'exit status {done.returncode}'}")
    return done.stdout

"""`connection.json`, which a running server keeps in its state folder: where it listens and a token to call it with."""

from __future__ import annotations

import ipaddress
import json
import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from carrel.client.values import Pool


class NotRunning(Exception):
    """No server has its connection file there."""


@dataclass(frozen=True, slots=True)
class Connection:
    """`fields` is the whole file; the others are what the client itself needs of it."""

    token: str
    pools: dict[str, Pool]
    ca_bundle: str | None
    fields: dict[str, Any]

    @classmethod
    def read(cls, path: Path | None = None) -> Connection:
        """From a state folder or the file itself; without a path from CARREL_STATE or the default folder. Raises NotRunning."""
        file = path or default_state()
        if file.is_dir() or file.suffix != ".json":
            file = file / "connection.json"
        try:
            fields = json.loads(file.read_text("utf-8"))
        except FileNotFoundError:
            raise NotRunning(f"no server is running with the state folder {file.parent}") from None
        pools = {
            name: Pool(name, pool["endpoint"], pool.get("mcp"), pool.get("mcp_key"))
            for name, pool in fields["pools"].items()
            if pool is not None
        }
        return cls(fields["token"], pools, fields.get("ca_bundle"), fields)


def default_state() -> Path:
    return Path(os.environ.get("CARREL_STATE") or Path.home() / ".local/share/carrel").expanduser()


def is_local(endpoint: str) -> bool:
    """Whether an endpoint is on this machine."""
    host = urlsplit(endpoint).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def trust(endpoint: str, ca_bundle: str | None) -> ssl.SSLContext | bool:
    """What httpx is to verify certificates by."""
    return ssl.create_default_context(cafile=ca_bundle) if ca_bundle and endpoint.startswith("https:") else True


def is_untrusted(error: BaseException) -> bool:
    """Whether a call failed by the server's certificate, which no second try makes better."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return True
        cause = cause.__cause__ or cause.__context__
    return False

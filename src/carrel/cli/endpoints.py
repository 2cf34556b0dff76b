"""What connection.json says: where a running server is and what to call it with."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

from carrel.cli.listeners import http_hosts, https_hosts, loopback_of
from carrel.config import Config
from carrel.storage import APPLICATION, ARM_AUDIENCE, GRAPH_AUDIENCE, State
from carrel.store import PoolRecord

_KINDS = ("python", "node", "shell")  # always named in the file; null where there is no such pool


def connection(
    config: Config, state: State, records: Iterable[PoolRecord], port: int, tls_port: int, pids: Mapping[str, int]
) -> dict[str, Any]:
    """The whole file, with a fresh token. Of the pools it has those in the server's own group."""
    http = f"http://{_authority(http_hosts(config), port)}"
    https = f"https://{_tls_authority(https_hosts(config), tls_port)}"
    home = [record for record in records if record.id.key(config) == record.id.name.lower()]
    pools = {each.id.name: _pool(http + pool_path(config, each.id.name), each.mcp_key) for each in home}
    authority = https if config.embedded_authority else None
    return {
        "http": http,
        "https": https,
        "ca": str(state.ca),
        "ca_bundle": str(state.ca_bundle),
        "arm": https,
        "authority": authority,
        "authority_adfs": authority and f"{authority}/adfs",
        "tenant": state.tenant,
        "client_id": state.client_id,
        "client_secret": authority and state.client_secret,
        "object_id": state.object_id,
        "token": state.issue_token(),
        "arm_token": _arm_token(config, state),
        # Asked for where there is an authority; where there is none nobody could get one.
        "graph_token": None if authority else state.issue_token(GRAPH_AUDIENCE, roles=("Owner",)),
        "identity_endpoint": authority and f"http://{_authority(loopback_of(config), port)}/msi/token",
        "identity_header": authority and state.identity_header,
        "subscription": config.subscription,
        "resource_group": config.resource_group,
        "location": config.location,
        "pools": dict.fromkeys(_KINDS) | pools,
        "pids": dict(pids),
    }


def _arm_token(config: Config, state: State) -> str:
    """The default identity's; where there is no authority whose tokens count, one that an operator could have made."""
    if config.embedded_authority:
        return state.issue_token(ARM_AUDIENCE, claims=APPLICATION)
    return state.issue_token(ARM_AUDIENCE, roles=("Owner",))


def _pool(endpoint: str, mcp_key: str) -> dict[str, str]:
    return {"endpoint": endpoint, "mcp": f"{endpoint}/mcp", "mcp_key": mcp_key}


def pool_path(config: Config, name: str) -> str:
    return f"/subscriptions/{config.subscription}/resourceGroups/{config.resource_group}/sessionPools/{name}"


def _authority(hosts: tuple[str, ...], port: int) -> str:
    """Host and port to reach the first address by; an address that means "all" is reached over loopback."""
    first = ipaddress.ip_address(hosts[0])
    if first.is_unspecified:
        first = ipaddress.ip_address("127.0.0.1" if first.version == 4 else "::1")
    return f"[{first}]:{port}" if first.version == 6 else f"{first}:{port}"


def _tls_authority(hosts: tuple[str, ...], port: int) -> str:
    """By name where the name leads here: some clients check a certificate's names but not its addresses."""
    addresses = [ipaddress.ip_address(host) for host in hosts]
    return (
        f"localhost:{port}"
        if any(each.is_loopback or each.is_unspecified for each in addresses)
        else _authority(hosts, port)
    )

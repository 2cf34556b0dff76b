"""What `carrel serve` tells the person who started it: the boundary in plain words, where to call, and how."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from carrel.cli.listeners import exposed_http
from carrel.config import Config
from carrel.models import ContainerType, Level

# Held to docs/concepts/isolation.md by a test: what is promised on the terminal is what the documentation says.
STOPS = {
    Level.PROCESS: "nothing but runaway memory, time and files: code runs as you. For development, with code you trust.",
    Level.RESTRICTED: "access to files, processes and networks that are not the session's: by Landlock, seccomp and, as root, user ids.",
    Level.NAMESPACE: "access to your files, network, processes and to other sessions. For code of one organisation's models and users.",
    Level.GVISOR: "the same, and keeps the code's system calls from the Linux kernel. For tenants that do not trust each other.",
}
DOES_NOT_STOP = {
    Level.PROCESS: "reading your files, using your network, ending your processes, looking into other sessions.",
    Level.RESTRICTED: "a session using up memory, processor or disk, and an attack on a bug of the Linux kernel, which all sessions share.",
    Level.NAMESPACE: "an attack on a bug of the Linux kernel, which all sessions share, and side channels of the processor.",
    Level.GVISOR: "an attack that breaks gVisor's own kernel and then what that may still call, and side channels of the processor.",
}
_RULE = "!" * 100


def banner(config: Config, connection: Mapping[str, Any], ready: Mapping[str, Any]) -> str:
    """Everything in one text. `ready` is what the host said: the level of each pool and why one cannot serve (`pools`), the levels
    that were to be taken and do not work (`passed_over`), and what the ones in force lack here (`warnings`, a sentence each)."""
    lines = [f"Carrel serves at {connection['http']} and {connection['https']}", ""]
    lines += _alarm(config, ready)
    pools: Mapping[str, Any] = ready["pools"]
    for level in Level:
        names = ", ".join(name for name, pool in pools.items() if pool["isolation"] == level)
        if names:
            lines += [
                f"  isolation     {level} (pool {names})",
                f"  it stops      {STOPS[level]}",
                f"  it does not   {DOES_NOT_STOP[level]}",
            ]
    lines += [f"  warning       {warning}" for warning in ready["warnings"]]
    for name, pool in pools.items():
        lines += [f"  warning       pool {name}: {pool['error']}"] if pool["error"] else []
        lines += [f"  what to do    {pool['advice']}"] if pool["advice"] else []
    endpoints = [(name, pool["endpoint"]) for name, pool in connection["pools"].items() if pool]
    for name, endpoint in endpoints:
        told = pools.get(
            name.lower(), {"is_ready": True}
        )  # one that is not the host's yet is being deleted, or has failed
        is_coming = not told["is_ready"] and not told["error"]
        lines.append(f"  pool          {name}  {endpoint}{'  (still starting)' if is_coming else ''}")
    lines += [
        f"  connection    {config.state / 'connection.json'}",
        "",
        *_example(config, connection, ready),
    ]
    return "\n".join(lines)


def _alarm(config: Config, ready: Mapping[str, Any]) -> list[str]:
    """What nobody may overlook: code runs behind a weaker boundary than this version would choose, or behind none."""
    levels = {pool["isolation"] for pool in ready["pools"].values()}
    lines = []
    if exposed := exposed_http(config):
        lines += [
            f"HTTP WITHOUT ENCRYPTION is served on {', '.join(exposed)}: tokens and code can be read on the way.",
            "  what to do    call HTTPS there, and leave insecure-http out",
        ]
    for each in ready["passed_over"]:
        lines += [
            f"ISOLATION IS WEAKER THAN USUAL: level {each['level']} does not work on this machine.",
            f"  why           {each['reason']}",
            f"  what to do    {each['advice'] or 'see docs/concepts/isolation.md'}",
        ]
    if Level.PROCESS in levels:
        lines.append("THERE IS NO SANDBOX around the code of pools at level process: it can do what this user can.")
    return [_RULE, *lines, _RULE, ""] if lines else []


def answering(connection: Mapping[str, Any], ready: Mapping[str, Any]) -> tuple[str, ContainerType] | None:
    """The endpoint of the first pool that answers now, and what it runs; None where there is none."""
    told = [(pool, ready["pools"].get(name.lower())) for name, pool in connection["pools"].items() if pool]
    well = [(pool, status) for pool, status in told if status and not status["error"]]
    pool, status = next((each for each in well if each[1]["is_ready"]), well[0] if well else (None, None))
    return None if pool is None or status is None else (pool["endpoint"], ContainerType(status["container_type"]))


def _example(config: Config, connection: Mapping[str, Any], ready: Mapping[str, Any]) -> list[str]:
    found = answering(connection, ready)
    if found is None:
        return ["There is no session pool yet: `carrel sessionpool create` makes one.", ""]
    endpoint, kind = found
    return ["Try it:", "", curl(config, endpoint, _SIX_TIMES_SEVEN[kind]), ""]


_SIX_TIMES_SEVEN = {
    ContainerType.PYTHON: "print(6 * 7)",
    ContainerType.NODE: "console.log(6 * 7)",
    ContainerType.SHELL: "echo $((6 * 7))",
}


def curl(config: Config, endpoint: str, code: str) -> str:
    """A command to paste into a shell. The token is taken from connection.json: a terminal's history is no place for one."""
    file = config.state / "connection.json"
    return f"""TOKEN=$(python3 -c 'import json; print(json.load(open("{file}"))["token"])')
curl "{endpoint}/executions?api-version=2025-10-02-preview&identifier=test" \\
  -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" \\
  -d '{{"code": "{code}"}}'"""

"""The options that define a session pool, each with the property that it sets: for `sessionpool create` and `update`, and for the errors
of both, which name properties where people know options.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from carrel.cli.azlike import Several, pairs

if TYPE_CHECKING:
    from carrel.client import PoolSettings

F = TypeVar("F", bound=Callable[..., Any])

TYPES = ("PythonLTS", "NodeLTS", "Shell")
_CUSTOM = "CustomContainer"
_LIFECYCLE = "dynamicPoolConfiguration.lifecycleConfiguration"


@dataclass(frozen=True, slots=True)
class PoolOption:
    """`path` is its property's in the resource; what begins with "carrel." Azure has no name for."""

    names: tuple[str, ...]
    path: str
    help: str
    kind: Any = str
    metavar: str | None = None
    is_list: bool = False

    @property
    def parameter(self) -> str:
        return "pool_" + self.path.replace(".", "_").lower()


def _words(kind: Any) -> str | None:
    """The choices in their own spelling: click shows those in any case in lower case."""
    return f"[{'|'.join(kind.choices)}]" if isinstance(kind, click.Choice) else None


def _choice(*words: str) -> click.Choice[str]:
    return click.Choice(words, case_sensitive=False)


OPTIONS = (
    PoolOption(("--max-sessions",), "scaleConfiguration.maxConcurrentSessions", "Most sessions at a time.", int, "N"),
    PoolOption(("--ready-sessions",), "scaleConfiguration.readySessionInstances", "Sandboxes kept ready.", int, "N"),
    PoolOption(
        ("--lifecycle-type",), f"{_LIFECYCLE}.lifecycleType", "When sessions end.", _choice("Timed", "OnContainerExit")
    ),
    PoolOption(
        ("--cooldown-period",), f"{_LIFECYCLE}.cooldownPeriodInSeconds", "Idle seconds until one ends.", int, "S"
    ),
    PoolOption(
        ("--max-alive-period",),
        f"{_LIFECYCLE}.maxAlivePeriodInSeconds",
        "Seconds until one ends, with lifecycle type OnContainerExit.",
        int,
        "S",
    ),
    PoolOption(
        ("--network-status",),
        "sessionNetworkConfiguration.status",
        "Whether sessions reach the network.",
        _choice("EgressEnabled", "EgressDisabled"),
    ),
    PoolOption(
        ("--egress-allow",),
        "carrel.egress.allow",
        "All that they reach; repeat for more, '' for none.",
        str,
        "RULE",
        True,
    ),
    PoolOption(("--mcp/--no-mcp",), "mcpServerSettings.isMcpServerEnabled", "Whether the pool serves MCP.", bool),
    PoolOption(("--isolation",), "carrel.isolation", "Isolation level, or auto.", str, "LEVEL"),
    PoolOption(("--minimum",), "carrel.minimum", "Level below which the pool refuses to serve.", str, "LEVEL"),
    PoolOption(("--memory",), "carrel.memory", "Memory of a session, files included: 512MiB, 1.5Gi.", str, "SIZE"),
    PoolOption(("--cpu",), "carrel.cpu", "Processors of a session.", float, "N"),
    PoolOption(("--pids",), "carrel.pids", "Processes and threads of a session.", int, "N"),
    PoolOption(("--disk",), "carrel.disk", "Size of /mnt/data.", str, "SIZE"),
    PoolOption(("--inodes",), "carrel.inodes", "Files in /mnt/data.", int, "N"),
    PoolOption(("--tmp",), "carrel.tmp", "Size of /tmp.", str, "SIZE"),
    PoolOption(("--package-index",), "carrel.packages.index", "Package index that pip uses.", str, "URL"),
    PoolOption(("--package-size",), "carrel.packages.size", "Room for what pip installs.", str, "SIZE"),
    PoolOption(("--max-execution",), "carrel.execution", "Most seconds of a call.", int, "S"),
    PoolOption(
        ("--max-asynchronous-execution",),
        "carrel.maximumAsynchronousExecutionInSeconds",
        "Most seconds of an asynchronous call.",
        int,
        "S",
    ),
    PoolOption(
        ("--log-records",), "carrel.logs.records", "What session logs keep: off, metadata, code, full.", str, "WHAT"
    ),
    PoolOption(("--log-retention",), "carrel.logs.retention", "How long they keep it: 12h, 7d.", str, "TIME"),
    PoolOption(("--expiry-notice",), "carrel.expiryNotice", "Seconds before its end that a session is told.", int, "S"),
)
IMAGE = PoolOption(("-i", "--image"), "carrel.image", "Image of new sessions; built where missing.", str, "IMAGE")

# Property → option, for errors.
BY_PROPERTY: Mapping[str, str] = {
    **{each.path: each.names[-1] for each in (*OPTIONS, IMAGE)},
    "scaleConfiguration": "--max-sessions, --ready-sessions",
    "containerType": "--container-type",
    "environmentId": "--environment",
    "secrets": "--secrets",
    "location": "--location",
    "tags": "--tags",
    "name": "--name",
}


def definition_options(command: F) -> F:
    """All of them; the command gets `settings`, a PoolSettings without container type."""

    @functools.wraps(command)
    def run(*arguments: Any, secrets: tuple[str, ...], secrets_file: Any, tags: tuple[str, ...], **options: Any) -> Any:
        given = {each.path: options.pop(each.parameter) for each in (*OPTIONS, IMAGE)}
        values = {path: value for path, value in given.items() if value is not None and value != ()}
        hidden = _secrets(secrets, secrets_file)
        labels = pairs("--tags", [each for each in tags if each]) if tags else None
        return command(*arguments, settings=settings_of(values, hidden, labels), **options)

    for each in reversed((*OPTIONS, IMAGE)):
        run = click.option(
            *each.names,
            each.parameter,
            type=each.kind,
            metavar=each.metavar or _words(each.kind),
            multiple=each.is_list,
            default=None,
            help=each.help,
        )(run)
    run = click.option(
        "--secrets-file",
        type=click.File("r", encoding="utf-8"),
        metavar="FILE",
        help="The same from a file, a line each (- for stdin): what is on a command line others can see.",
    )(run)
    run = click.option(
        "-s", "--secrets", cls=Several, multiple=True, metavar="NAME=VALUE", help="Secrets for sessions' environments."
    )(run)
    run = click.option(
        "--tags", cls=Several, multiple=True, metavar="NAME=VALUE", help="Tags, several of them; '' for none."
    )(run)
    return cast(F, run)


def settings_of(
    values: Mapping[str, Any], secrets: Mapping[str, str] | None, tags: Mapping[str, str] | None
) -> PoolSettings:
    """From values by their properties' paths."""
    from carrel.client import PoolSettings

    named = {path: value for path, value in values.items() if not path.startswith("carrel.")}
    _check_lifecycle(named)
    return PoolSettings(
        max_sessions=named.get("scaleConfiguration.maxConcurrentSessions"),
        ready_sessions=named.get("scaleConfiguration.readySessionInstances"),
        lifecycle=named.get(f"{_LIFECYCLE}.lifecycleType"),
        cooldown=named.get(f"{_LIFECYCLE}.cooldownPeriodInSeconds"),
        max_alive=named.get(f"{_LIFECYCLE}.maxAlivePeriodInSeconds"),
        network=named.get("sessionNetworkConfiguration.status"),
        has_mcp=named.get("mcpServerSettings.isMcpServerEnabled"),
        secrets=secrets,
        tags=tags,
        carrel=_nested({path.removeprefix("carrel."): value for path, value in values.items() if path not in named}),
    )


def check_container_type(name: str, environment: str | None) -> None:
    """What az refuses before it asks a server, and what Carrel does not run."""
    if name == _CUSTOM:
        raise click.UsageError(
            "--container-type: containers of your own are not run; build an image instead "
            "(`carrel image build FOLDER`) and name it with --image"
        )
    if environment:
        raise click.UsageError(f"--environment: not for container type {name}")


def _check_lifecycle(named: Mapping[str, Any]) -> None:
    if named.get(f"{_LIFECYCLE}.maxAlivePeriodInSeconds") is None:
        return
    if named.get(f"{_LIFECYCLE}.cooldownPeriodInSeconds") is not None:
        raise click.UsageError("--max-alive-period and --cooldown-period cannot be set at the same time.")
    raise click.UsageError("--max-alive-period: for containers of your own; use --cooldown-period")


def _nested(values: Mapping[str, Any]) -> dict[str, Any] | None:
    bag: dict[str, Any] = {}
    for path, value in values.items():
        *outer, last = path.split(".")
        place = functools.reduce(lambda found, name: found.setdefault(name, {}), outer, bag)
        place[last] = [each for each in value if each] if isinstance(value, tuple) else _whole(value)
    return bag or None


def _whole(value: Any) -> Any:
    """Sizes as az writes them, "0.5Gi", in mebibytes: the server takes whole numbers."""
    found = re.fullmatch(r"(\d+\.\d+)\s*([GT])i?B?", value, re.IGNORECASE) if isinstance(value, str) else None
    if found is None:
        return value
    return f"{round(float(found[1]) * (1024 if found[2] in 'Gg' else 1024 * 1024))}MiB"


def _secrets(given: tuple[str, ...], file: Any) -> dict[str, str] | None:
    lines = [line for line in file.read().splitlines() if line.strip()] if file is not None else []
    found = pairs("--secrets", [each for each in given if each]) | pairs(f"--secrets-file {_name(file)}", lines)
    return found if given or file is not None else None


def _name(file: Any) -> str:
    return Path(str(getattr(file, "name", ""))).name

"""What the middle of Carrel talks about: pools, sessions, executions and files as frozen values with real types.

Nothing here knows JSON spellings or HTTP; `wire/` turns bytes into these and back. Times are Unix seconds (float),
durations seconds unless the name says otherwise, sizes bytes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

MIB = 1024 * 1024
GUID = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")  # a subscription, a principal, a role


class ContainerType(StrEnum):
    """What a pool's sessions run (ARM's containerType)."""

    PYTHON = "PythonLTS"
    NODE = "NodeLTS"
    SHELL = "Shell"

    @property
    def image(self) -> str:
        """The image of a pool that names none."""
        return {ContainerType.PYTHON: "python", ContainerType.NODE: "node", ContainerType.SHELL: "shell"}[self]


class Level(StrEnum):
    """Isolation levels, weakest first: the order is their rank."""

    PROCESS = "process"
    RESTRICTED = "restricted"
    NAMESPACE = "namespace"
    GVISOR = "gvisor"

    @property
    def rank(self) -> int:
        return list(Level).index(self)


class Network(StrEnum):
    """What a pool's sessions can reach."""

    NONE = "none"  # their own loopback
    LISTED = "listed"  # what PoolSpec.allow names, through the host's filtering proxy
    OPEN = "open"  # the public internet, by addresses of its own; never the host, private ranges or other sandboxes


class LogRecords(StrEnum):
    """What is kept of each execution for those who read a pool's session logs, least first."""

    OFF = "off"
    METADATA = "metadata"  # who, when, what came of it, sizes, and the code's digest
    CODE = "code"  # and the code
    FULL = "full"  # and what it printed and returned


@dataclass(frozen=True, slots=True)
class PoolSpec:
    """What an operator defines. Defaults are in docs/reference/settings.md."""

    name: str
    container_type: ContainerType = ContainerType.PYTHON
    image: str = "python"
    ready: int = 2
    maximum: int = 10
    cooldown: int = 300
    memory_bytes: int = 1024 * MIB  # what is in tmpfs (/mnt/data, /tmp, /dev/shm) counts too
    cpu: float = 1.0
    pids: int = 128
    data_bytes: int = 512 * MIB
    data_inodes: int = 32_768
    tmp_bytes: int = 64 * MIB
    packages_bytes: int = 256 * MIB  # where pip installs to, in memory as well; 0: no place of its own
    packages_index: str = ""  # the simple-API address that pip uses; "": pip's own default
    packages_wheels: str = ""  # a folder of the host's whose wheels can be installed without a network
    maximum_execution: int = 220
    maximum_asynchronous: int = 220  # of a call that nobody waits for
    webhook: str = ""  # where notices are sent to; "": nowhere
    webhook_secret: str = ""  # where the secret that signs them is found (pool_secrets.py), never the secret itself
    secrets: tuple[tuple[str, str], ...] = ()  # names, and where each is found
    has_mcp: bool = True  # its endpoint `mcp` is served
    has_mcp_key: bool = True  # and takes the pool's key in place of a token
    logs: LogRecords = LogRecords.OFF  # what session logs hold of its executions
    log_retention: int = 604_800  # seconds that they hold it
    notice: int = 30  # seconds before an idle session expires that those are told who watch; 0: nobody is
    network: Network = Network.NONE
    allow: tuple[str, ...] = ()  # of LISTED: rules as the operator wrote them, checked
    asked: Level | None = None  # the level that the operator named; None for "auto"
    minimum: Level = Level.RESTRICTED  # the pool is refused rather than served below it
    isolation: Level = Level.NAMESPACE  # what it runs at; of "auto" the first choice, until the host has tried it

    def longest(self, *, is_asynchronous: bool) -> int:
        """The most seconds that a call may ask for."""
        return self.maximum_asynchronous if is_asynchronous else self.maximum_execution


@dataclass(frozen=True, slots=True)
class EgressPolicy:
    """What a pool's sessions may reach now. The numbers are the proxy's since it was started: connections made, requests refused."""

    network: Network
    allow: tuple[str, ...] = ()  # of LISTED
    connections: int = 0
    refusals: int = 0


@dataclass(frozen=True, slots=True)
class EgressAddress:
    """An address of a target; `refusal` says why no session may reach it, None where one may."""

    address: str
    refusal: str | None


@dataclass(frozen=True, slots=True)
class EgressVerdict:
    """What a pool's policy does with a target. `rule` is the one that names it, `reason` says why it is refused all the same, or at all."""

    target: str
    rule: str | None
    reason: str
    addresses: tuple[EgressAddress, ...] = ()

    @property
    def is_allowed(self) -> bool:
        return not self.reason


def pool_from_json(fields: Mapping[str, Any]) -> PoolSpec:
    """The other end of dataclasses.asdict and JSON."""
    typed = {
        "asked": None if fields["asked"] is None else Level(fields["asked"]),
        "minimum": Level(fields["minimum"]),
        "container_type": ContainerType(fields["container_type"]),
        "isolation": Level(fields["isolation"]),
        "network": Network(fields["network"]),
        "logs": LogRecords(fields["logs"]),
        "allow": tuple(fields["allow"]),
        "secrets": tuple((name, source) for name, source in fields["secrets"]),
    }
    return PoolSpec(**{**fields, **typed})


@dataclass(frozen=True, slots=True)
class Software:
    """What an image brings: names with versions, read from what was built. `runtime` is its definition's word."""

    runtime: str
    runtimes: tuple[tuple[str, str], ...] = ()
    packages: tuple[tuple[str, str], ...] = ()
    description: str = ""


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """An image as a pool uses it. `reference` is its name and which build of it: NAME@HASH."""

    reference: str
    software: Software


@dataclass(frozen=True, slots=True)
class PoolStatus:
    """A pool as it stands now."""

    spec: PoolSpec
    warm: int
    starting: int
    live: int
    created_at: float
    error: str | None = None  # why sandboxes cannot be started, where they cannot
    isolation: Level | None = None  # the boundary in force; None where the pool is refused
    weaknesses: tuple[str, ...] = ()  # what that boundary lacks on this machine
    preparing: str | None = None  # what is being done until it has its first sandbox
    failed: int = 0  # starts of sandboxes that did not work, since the host began


@dataclass(frozen=True, slots=True)
class Vitals:
    """How the host itself is."""

    pid: int
    version: str
    started_at: float
    peak_memory_bytes: int  # of its own process, without sandboxes
    maximum_sandboxes: int


@dataclass(frozen=True, slots=True)
class SessionView:
    identifier: str
    guid: str  # new for each session, also when an identifier comes back
    created_at: float
    last_used_at: float
    expires_at: float
    is_new: bool = False  # whether the call that returned this view allocated the session


class NoticeKind(StrEnum):
    ALLOCATED = "allocated"
    EXPIRING = "expiring"  # unless somebody uses it
    RESTARTED = "restarted"  # a fresh interpreter: the variables are gone, the files are not
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Notice:
    """What happened to a session. Numbered from 1 in its pool, as long as the host lives."""

    number: int
    kind: NoticeKind
    at: float
    session: SessionView
    reason: str = ""  # of an end, to complete "The session ended: …"
    trace: tuple[
        str, ...
    ] = ()  # `traceparent` and `tracestate` of the call that caused it, where its caller told or we record one


class Status(StrEnum):
    """An execution's state, in Azure's words."""

    NOT_STARTED = "NotStarted"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELED = "Canceled"

    @property
    def is_over(self) -> bool:
        return self not in (Status.NOT_STARTED, Status.RUNNING)


class Outcome(StrEnum):
    """What an execution came to, by its uncaught cause: code that catches a MemoryError and goes on is `ok`."""

    OK = "ok"
    ERROR = "error"  # any exception that has no word of its own here
    TIMEOUT = "timeout"
    CANCELED = "canceled"  # a caller asked for its end, whatever came of it until then
    INTERRUPTED = "interrupted"
    MEMORY = "memory"  # killed by the kernel at the memory limit, or a MemoryError
    PROCESSES = "processes"  # no further process or thread could be started
    DISK = "disk"  # no space or no room for another file
    KILLED = "killed"  # the interpreter ended by a signal, or nobody knows how
    EXITED = "exited"  # the interpreter ended by itself


@dataclass(frozen=True, slots=True)
class Usage:
    """What an execution used, measured outside the interpreter; None where nobody measures it. `sources` has a word for each figure."""

    wall_ms: float = 0.0
    cpu_ms: float | None = None
    peak_memory_bytes: int | None = None
    written_bytes: int | None = None
    printed_bytes: int | None = None
    sources: Mapping[str, str] = field(default_factory=dict)


class ValueKind(StrEnum):
    """What the last expression gave; decides how each envelope shows it (wire/ holds that table)."""

    ABSENT = "absent"  # no expression, or its value was shown otherwise
    SCALAR = "scalar"  # None, bool, number or string: `json` holds it (NaN and infinities as strings)
    IMAGE = "image"  # `json` is {"type": "image", "format": "png", "base64_data": …}
    CONTAINER = "container"  # JSON-able list or dict: `json` holds it and `text` IPython's pretty form
    TEXT = "text"  # anything else: only `text`


@dataclass(frozen=True, slots=True)
class Value:
    kind: ValueKind = ValueKind.ABSENT
    json: Any = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class ShellCommand:
    """A command in a fresh process: text for a shell, or the program and its arguments."""

    command: str | None = None
    argv: tuple[str, ...] | None = None
    shell: str = "bash"
    stdin: str | None = None


@dataclass(frozen=True, slots=True)
class ExecutionSpec:
    """A request to run code, or a command in its place. `stream_limit` is the most characters of stdout, and of stderr, that are kept.

    `variables` are set before the code runs, those of the `wanted` names that can be shown as JSON come back with its end.
    """

    code: str
    timeout: float = 60.0
    is_asynchronous: bool = False
    operation_id: str | None = None
    stream_limit: int = 4096
    shell: ShellCommand | None = None  # then `code` is ""
    variables: Mapping[str, Any] | None = None
    wanted: tuple[str, ...] = ()
    has_summary: bool = False  # what variables there are comes back in place of those of `wanted`
    is_fleeting: bool = (
        False  # no execution of the caller's but a look at variables: not listed, and forgotten when it is over
    )


@dataclass(frozen=True, slots=True)
class VariableSummary:
    """A variable for eyes. `size` is in bytes, `shape` how long it is in each direction; None where the guest cannot tell."""

    name: str
    type_name: str
    size: int | None
    shape: tuple[int, ...] | None
    preview: str


@dataclass(frozen=True, slots=True)
class Output:
    """Something displayed: the same thing in one or more MIME types, text as text (base64 where it is bytes), JSON types as JSON."""

    data: Mapping[str, Any]
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Execution:
    id: str
    identifier: str
    is_asynchronous: bool
    status: Status
    stdout: str = ""
    stderr: str = ""
    value: Value = field(default_factory=Value)
    queued_ms: int = 0  # waiting for earlier calls of the session
    outcome: Outcome | None = None  # None until it is over
    usage: Usage | None = None
    outputs: tuple[Output, ...] = ()  # in the order in which they were displayed
    dropped_outputs: int = 0  # displays that were over a limit, or no displays
    variables: Mapping[str, Any] | None = None  # of those asked for, what there is; None where none were asked for
    command_timeout: float | None = None  # seconds that a command of the shell was given; None of code
    expires_at: float | None = field(default=None, compare=False)  # its session, as far as the call told
    exit_code: int | None = None  # of a command that came to its end

    @property
    def is_shell(self) -> bool:
        """Whether it is a command of the shell, not code."""
        return self.command_timeout is not None

    @property
    def wall_ms(self) -> int:
        """From the code's start to its end, measured outside the sandbox."""
        return 0 if self.usage is None else round(self.usage.wall_ms)


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A file or directory below /mnt/data. `directory` is relative to it, "" for the root."""

    name: str
    directory: str
    is_directory: bool
    size: int
    modified_at: float
    etag: str = ""  # another one after each change; "" where nobody asked


class ChangeKind(StrEnum):
    """What a watched directory tells."""

    WATCHING = "watching"  # once: from now on every change is told
    CREATED = "created"
    CHANGED = "changed"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class FileChange:
    """`file` is None of WATCHING alone; of one that was removed, its name and kind are all that is known."""

    kind: ChangeKind
    file: FileInfo | None = None


@dataclass(frozen=True, slots=True)
class Condition:
    """What a caller demands of what is at a path before it is changed: tags, or ("*",) for anything at all."""

    if_match: tuple[str, ...] | None = None
    if_none_match: tuple[str, ...] | None = None


ANYTHING = Condition()  # no demand

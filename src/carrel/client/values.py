"""What the client returns, parsed from replies at the door."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

from carrel.client.errors import ApiError as ApiError  # where it was once; both names are good
from carrel.client.errors import Fault as Fault


@dataclass(frozen=True, slots=True)
class File:
    """A file or directory of a session. `directory` is relative to /mnt/data, "" for the root."""

    name: str
    directory: str
    is_directory: bool
    size: int
    content_type: str
    modified_at: datetime
    etag: str = ""  # another one after each change; "" in listings
    reply: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)  # as it came

    @property
    def path(self) -> str:
        return f"{self.directory}/{self.name}" if self.directory else self.name

    @classmethod
    def parse(cls, body: dict[str, Any], etag: str = "") -> Self:
        directory = body.get("directory") or ""
        return cls(
            name=body["name"],
            directory="" if directory == "." else directory,
            is_directory=body["type"].lower() == "directory",
            size=body.get("sizeInBytes", 0),
            content_type=body.get("contentType", ""),
            modified_at=_time(body["lastModifiedAt"]),
            etag=etag,
            reply=body,
        )


@dataclass(frozen=True, slots=True)
class Session:
    identifier: str
    created_at: datetime
    last_accessed_at: datetime
    expires_at: datetime
    etag: str  # another one each time the identifier gets a new session

    @classmethod
    def parse(cls, body: dict[str, Any]) -> Self:
        times = [_time(body[key]) for key in ("createdAt", "lastAccessedAt", "expireAt")]
        return cls(body["identifier"], times[0], times[1], times[2], body["etag"])


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable of a session, for eyes. `size` is in bytes, `shape` how long it is in each direction: None where nobody can tell."""

    name: str
    type: str
    size: int | None
    shape: tuple[int, ...] | None
    preview: str  # the beginning of it, cut

    @classmethod
    def parse_all(cls, body: dict[str, Any]) -> list[Self]:
        return [
            cls(
                each["name"],
                each["type"],
                each["size"],
                None if each["shape"] is None else tuple(each["shape"]),
                each["preview"],
            )
            for each in body["value"]
        ]


# What a notebook shows of each in a list.
SESSION_COLUMNS: list[tuple[str, Callable[[Session], object]]] = [
    ("identifier", lambda session: session.identifier),
    ("created", lambda session: f"{session.created_at:%Y-%m-%d %H:%M:%S}"),
    ("last used", lambda session: f"{session.last_accessed_at:%Y-%m-%d %H:%M:%S}"),
    ("expires", lambda session: f"{session.expires_at:%Y-%m-%d %H:%M:%S}"),
]
FILE_COLUMNS: list[tuple[str, Callable[[File], object]]] = [
    ("path", lambda file: f"{file.path}/" if file.is_directory else file.path),
    ("bytes", lambda file: "" if file.is_directory else f"{file.size:,}"),
    ("type", lambda file: file.content_type),
    ("changed", lambda file: f"{file.modified_at:%Y-%m-%d %H:%M:%S}"),
]


@dataclass(frozen=True, slots=True)
class FileChange:
    """What a watched directory tells: watching (once), created, changed or removed; of one removed, name and kind are all that is known."""

    kind: str
    file: File | None

    @classmethod
    def parse(cls, kind: str, body: dict[str, Any]) -> Self:
        return cls(kind, File.parse(body) if body else None)


@dataclass(frozen=True, slots=True)
class SessionEvent:
    """What happens to a session: session (how it is, once), expiring, restarted or ended, with the reason."""

    kind: str
    session: Session
    reason: str = ""

    @classmethod
    def parse(cls, kind: str, body: dict[str, Any]) -> Self:
        return cls(kind, Session.parse(body.get("session", body)), body.get("reason", ""))


@dataclass(frozen=True, slots=True)
class Pool:
    """A pool as the server's connection file names it."""

    name: str
    endpoint: str
    mcp: str | None = None
    mcp_key: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a pool's sessions bring, (name, version) pairs, and the boundary around them. Another server than Carrel tells no boundary."""

    runtimes: list[tuple[str, str]]
    packages: list[tuple[str, str]]
    created_at: datetime
    isolation: str | None = None  # None as well where the pool is refused; `error` says why
    weaknesses: tuple[str, ...] = ()  # what that level lacks on the server's machine
    error: str | None = None  # why no sandbox can be started
    preparing: str | None = None  # what is being done until the pool has its first sandbox
    image: str | None = (
        None  # NAME@HASH, the very build that new sessions get; None as long as the first is being built
    )

    @classmethod
    def parse(cls, body: dict[str, Any]) -> Self:
        ours = body.get("carrel", {})
        return cls(
            runtimes=_pairs(body["runtimes"]),
            packages=_pairs(body["preInstalledPackages"]),
            created_at=_time(body["createdAt"]),
            isolation=ours.get("isolation"),
            weaknesses=tuple(ours.get("weaknesses", ())),
            error=ours.get("error"),
            preparing=ours.get("preparing"),
            image=ours.get("image"),
        )


@dataclass(frozen=True, slots=True)
class Image:
    """A pool's image. All are None as long as its first build goes on."""

    name: str | None
    reference: str | None  # NAME@HASH, the very build
    runtime: str | None
    runtimes: tuple[tuple[str, str], ...]

    @classmethod
    def parse(cls, body: dict[str, Any]) -> Self:
        return cls(body["image"], body["reference"], body["runtime"], tuple(_pairs(body["runtimes"])))


@dataclass(frozen=True, slots=True)
class Egress:
    """What a pool's sessions may reach. `allow` is None where there is no list. The numbers are the proxy's since its start."""

    status: str  # EgressDisabled or EgressEnabled
    allow: list[str] | None
    connections: int
    refusals: int

    @classmethod
    def parse(cls, body: dict[str, Any]) -> Self:
        return cls(body["status"], body["allow"], body["connections"], body["refusals"])


@dataclass(frozen=True, slots=True)
class EgressTest:
    """What a pool's egress list does with a target. `addresses` has (address, why it is refused or None) pairs."""

    target: str
    is_allowed: bool
    rule: str | None
    reason: str
    addresses: list[tuple[str, str | None]]

    @classmethod
    def parse(cls, body: dict[str, Any]) -> Self:
        addresses = [(each["address"], each["reason"]) for each in body["addresses"]]
        return cls(body["target"], body["allowed"], body["rule"], body["reason"], addresses)


def _pairs(items: list[dict[str, str]]) -> list[tuple[str, str]]:
    return [(item["name"], item["version"]) for item in items]


def _time(text: str) -> datetime:
    """Replies carry up to nine digits of a second; fromisoformat takes what six can hold and drops the rest."""
    return datetime.fromisoformat(text)

"""`/extensions/…`: an index of the operator's own wheels, for Azure's command line (`AZURE_EXTENSION_INDEX_URL`).

The folder is read once, before the gateway gives up its rights: of each wheel what az wants to know (its name, version, and the needs that
its `azext_metadata.json` names), its digest, and an open descriptor, from which it is sent. A file that is replaced later is served as it
was. What is no wheel that az could install is left out, with a warning. No token is needed, as az sends none for an index.
"""

from __future__ import annotations

import email.parser
import hashlib
import json
import logging
import os
import re
import stat
import zipfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carrel.server.exchange import Exchange
from carrel.statefiles import StateError
from carrel.wire import jsons

INDEX = "/extensions/index.json"
WHEEL = "/extensions/{file}"

_NAME = re.compile(r"[A-Za-z0-9][\w.]*-[\w.+!]+-[\w.]+-none-any\.whl", re.ASCII)  # az installs no other from an index
_MOST_TOLD = 256 * 1024  # of a wheel's metadata
_MOST_WHEELS = 500
_PIECE = 256 * 1024

_log = logging.getLogger("carrel.extensions")

Handler = Callable[[Exchange], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Wheel:
    """`metadata` is what the index tells of it; `descriptor` stays open for the gateway's life."""

    file: str
    name: str  # the extension's, as az is asked for it
    metadata: Mapping[str, Any]
    digest: str
    size: int
    descriptor: int

    async def send(self, exchange: Exchange) -> None:
        headers = [(b"content-type", b"application/octet-stream"), (b"content-length", str(self.size).encode())]
        await exchange.begin(200, headers)
        at = 0
        if exchange.method != "HEAD":
            while at < self.size and (piece := os.pread(self.descriptor, min(_PIECE, self.size - at), at)):
                at += len(piece)
                await exchange.write(piece, is_last=at == self.size)
        elif not exchange.is_done:
            await exchange.write(b"", is_last=True)


class Extensions:
    """The wheels of a folder, and the index of them."""

    def __init__(self, wheels: list[Wheel]) -> None:
        self._wheels = wheels

    @classmethod
    def read(cls, folder: Path | None) -> Extensions:
        """None: an index without extensions. Raises StateError where the folder cannot be read."""
        if folder is None:
            return cls([])
        try:
            files = sorted(file for file in folder.iterdir() if file.suffix == ".whl")
        except OSError as error:
            raise StateError(
                f"The folder of extensions cannot be read: {error}. See the setting `extensions`."
            ) from error
        if len(files) > _MOST_WHEELS:
            raise StateError(f"The folder of extensions {folder} has more than {_MOST_WHEELS} wheels.")
        return cls([wheel for file in files if (wheel := _opened(file)) is not None])

    def handlers(self) -> dict[str, Handler]:
        """By path."""
        return {INDEX: self.index, **{WHEEL.format(file=wheel.file): wheel.send for wheel in self._wheels}}

    async def index(self, exchange: Exchange) -> None:
        """`GET /extensions/index.json`. The wheels' addresses are at the name under which the caller reaches us."""
        origin = exchange.origin()
        found: dict[str, list[dict[str, Any]]] = {}
        for wheel in self._wheels:
            entry = {
                "downloadUrl": f"{origin}{WHEEL.format(file=wheel.file)}",
                "filename": wheel.file,
                "metadata": wheel.metadata,
                "sha256Digest": wheel.digest,
            }
            found.setdefault(wheel.name, []).append(entry)
        await exchange.reply(200, jsons.encode({"formatVersion": "1", "extensions": found}))


def _opened(file: Path) -> Wheel | None:
    """The wheel, or None and a warning that says what is wrong with it."""
    try:
        if not _NAME.fullmatch(file.name):
            raise ValueError("its name is not that of a wheel for every platform (NAME-VERSION-py3-none-any.whl)")
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe would wait for its other end
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ValueError("it is no file")
            with open(descriptor, "rb", closefd=False) as opened:
                metadata = _metadata(opened, file.name)
                digest = hashlib.file_digest(_rewound(opened), "sha256").hexdigest()
            size = os.fstat(descriptor).st_size
        except BaseException:
            os.close(descriptor)
            raise
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        _log.warning("not an extension", extra={"file": file.name, "error": str(error)})
        return None
    return Wheel(file.name, metadata["name"], metadata, digest, size, descriptor)


def _rewound(opened: Any) -> Any:
    opened.seek(0)
    return opened


def _metadata(opened: Any, name: str) -> dict[str, Any]:
    """What the index tells: from the wheel's METADATA and from the extension's own file, which has the versions of az that it needs."""
    with zipfile.ZipFile(opened) as archive:
        infos = [each for each in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", each)]
        needs = [each for each in archive.namelist() if re.fullmatch(r"azext_\w+/azext_metadata\.json", each)]
        modules = {each.split("/")[0] for each in archive.namelist() if re.fullmatch(r"azext_\w+/__init__\.py", each)}
        if len(infos) != 1 or not modules:
            raise ValueError("it holds no package azext_… of Azure's command line")
        told = email.parser.Parser().parsestr(_text(archive, infos[0]))
        more = json.loads(_text(archive, needs[0])) if needs else {}
    if not told["Name"] or not told["Version"] or not isinstance(more, dict):
        raise ValueError("its metadata lacks a name or a version")
    return {
        "name": name.partition("-")[0].replace("_", "-"),  # what az makes of the file's name
        "version": str(told["Version"]),
        "summary": str(told["Summary"] or ""),
        "license": str(told["License"] or ""),
        **{key: value for key, value in more.items() if key.startswith("azext.")},
    }


def _text(archive: zipfile.ZipFile, name: str) -> str:
    with archive.open(name) as file:
        told = file.read(_MOST_TOLD + 1)
    if len(told) > _MOST_TOLD:
        raise ValueError(f"{name} is larger than metadata is")
    return told.decode("utf-8")

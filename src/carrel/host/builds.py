"""The spawner's `image`: images are built by a child of the spawner, since they may lie in a folder that the host cannot enter.

What is built, and where, is the spawner's to know: an image is asked for by its name, and what came with Carrel says how it is made. The
answer tells the host what it has to tell templates; no path of this machine is in it.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from carrel.backends import guestlib, images, references, wheels
from carrel.backends.interpreters import Progress
from carrel.errors import SandboxStartFailed
from carrel.host.parts import Answer, Offspring, Operation, Request
from carrel.models import Software

_MAX_SOFTWARE = 32 * 1024  # of a message's 64


class Builds:
    def __init__(self, folder: Path, wheels: Mapping[str, str], offspring: Offspring) -> None:
        self._folder, self._wheels, self._offspring = folder, wheels, offspring
        self._held: dict[str, int] = {}

    @property
    def operations(self) -> Mapping[str, Operation]:
        return {"image": self._image, "hold": self._hold, "wheels": self._copy_wheels}

    @property
    def facts(self) -> Mapping[str, Any]:
        return {}

    def _image(self, request: Request, _descriptors: list[int]) -> Answer:
        """The image `name`, or with none just the interpreter and the guest's library, which the cell block needs."""
        images.facts()  # here, so that every child that is forked has it, and the cell block's start
        return {}, [self._offspring.aside(partial(_build, self._folder, request["name"]))]

    def _hold(self, request: Request, _descriptors: list[int]) -> Answer:
        """Mark the built image (the name of its folder) as in use until this process ends: nobody removes it meanwhile."""
        name = str(request["image"])
        if name not in self._held:
            self._held[name] = images.hold(self._folder / Path(name).name)
        return {}, []

    def _copy_wheels(self, request: Request, _descriptors: list[int]) -> Answer:
        """The wheels of `pool`, from the folder that its definition names."""
        source = Path(self._wheels[request["pool"]])
        return {}, [self._offspring.aside(partial(_copy_wheels, source, self._folder))]

    def close(self) -> None:
        for fd in self._held.values():
            os.close(fd)
        self._held = {}


def _build(folder: Path, name: str | None, host: socket.socket) -> None:
    def build(progress: Progress) -> Request:
        if name is None:
            images.ensure_python(folder, progress)
            guestlib.ensure(folder)
            return {"ready": True}
        image = images.ensure(name, folder, progress)
        return {
            "image": image.root.name,
            "preload": image.preload,
            "environment": dict(image.environment),
            "runtime": image.runtime,
            "guest": image.guest,
            "reference": image.reference,
            "software": _software(image.software),
        }

    _report(build, host)


def _software(software: Software) -> Request:
    """As much of it as a message holds."""
    fields = references.software_to(software)
    while len(json.dumps(fields)) > _MAX_SOFTWARE:
        fields["packages"] = fields["packages"][: len(fields["packages"]) * 3 // 4]
    return fields


def _copy_wheels(source: Path, folder: Path, host: socket.socket) -> None:
    _report(lambda progress: {"wheels": wheels.ensure(source, folder, progress).name}, host)


def _report(work: Callable[[Progress], Request], host: socket.socket) -> None:
    """Do it, and tell the host how it goes on and what came of it."""

    def say(**message: object) -> None:
        host.send(json.dumps(message).encode())

    try:
        say(**work(lambda line: say(progress=line)))
    except SandboxStartFailed as error:
        say(error=error.message)
    except OSError as error:
        say(error=f"{error.strerror} {error.filename or ''}".strip())

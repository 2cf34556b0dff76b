"""The spawner's `image`: images are built by a child of the spawner, since they may lie in a folder that the host cannot enter.

What is built, and where, is the spawner's to know: an image is asked for by its name, and what came with Carrel says how it is made. The
answer tells the host what it has to tell templates; no path of this machine is in it.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from carrel.backends import guestlib, images
from carrel.errors import SandboxStartFailed
from carrel.host.parts import Answer, Offspring, Operation, Request


class Builds:
    def __init__(self, folder: Path, offspring: Offspring) -> None:
        self._folder, self._offspring = folder, offspring

    @property
    def operations(self) -> Mapping[str, Operation]:
        return {"image": self._image}

    @property
    def facts(self) -> Mapping[str, Any]:
        return {}

    def _image(self, request: Request, _descriptors: list[int]) -> Answer:
        """The image `name`, or with none just the interpreter and the guest's library, which the cell block needs."""
        images.facts()  # here, so that every child that is forked has it, and the cell block's start
        return {}, [self._offspring.aside(partial(_build, self._folder, request["name"]))]

    def close(self) -> None:
        pass


def _build(folder: Path, name: str | None, host: socket.socket) -> None:
    def say(**message: object) -> None:
        host.send(json.dumps(message).encode())

    def progress(line: str) -> None:
        say(progress=line)

    try:
        if name is None:
            images.ensure_python(folder, progress)
            guestlib.ensure(folder)
            say(ready=True)
        else:
            image = images.ensure(name, folder, progress)
            say(image=image.root.name, preload=image.preload, environment=dict(image.environment))
    except SandboxStartFailed as error:
        say(error=error.message)
    except OSError as error:
        say(error=f"{error.strerror} {error.filename or ''}".strip())

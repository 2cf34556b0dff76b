"""The cell block as the host sees it: the spawner that starts it, init, and the templates, each a process behind a socket.

Everything here can die and be started again: a template on its own, or all of it when the spawner or init is gone (its sandboxes
are gone with it then).
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

from carrel.backends import policy
from carrel.backends.fdsocket import FdSocket, Message
from carrel.backends.meter import CgroupMeter
from carrel.backends.references import References
from carrel.backends.spawning import Launcher, Progress, Spawner
from carrel.backends.templates import Rotation, Template, Templates, started
from carrel.errors import SandboxStartFailed
from carrel.guest.threads import SINGLE_THREADED

OnExit = Callable[[Message], None]

_START_S = 20


class CellBlock:
    """`on_exit` is called with what a template says of an interpreter that ended."""

    def __init__(self, launcher: Launcher, progress: Progress, on_exit: OnExit, rotation: Rotation) -> None:
        self._launcher, self._progress, self._on_exit = launcher, progress, on_exit
        self._spawner: Spawner | None = None
        self._init: FdSocket | None = None
        self._templates = Templates(rotation, self._start_by_key)
        self.images = References(self._ask_for_image, self._hold_image)
        self.cgroup_version: int | None = None
        self.own_ids = 0  # how many ids there are for sessions to have one each: 1 to this
        self.no_ids_reason = ""
        self.slot = 0  # of this server, backends/ids.py
        self._promised: tuple[int, bool] | None = None  # own ids and control groups, as the first start had them
        self.wheels: dict[str, str] = {}  # by pool, the folder below the images that has its wheels

    @property
    def is_alive(self) -> bool:
        has_init = self._init is not None and not self._init.closed.is_set()
        return has_init and self._spawner is not None and self._spawner.is_alive

    async def start(self, *, needs_runsc: bool = False) -> None:
        """Spawner, then init in its namespaces; with `runsc` at its place in there where it is needed. Raises SandboxStartFailed.

        Another start must give what the first one gave, by which the level was chosen and its weaknesses told: none is served on less.
        """
        self.images.forget()
        self._spawner = await Spawner.start(self._launcher)
        self.cgroup_version, self.slot = self._spawner.facts["cgroups"], self._spawner.facts["slot"]
        await self._spawner.ask_aside({"op": "image", "name": None}, progress=self._progress)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._init = FdSocket(ours, "the cell block")
        with theirs:
            answer, _descriptors = await self._spawner.ask({"op": "block", "runsc": needs_runsc}, [theirs.fileno()])
        own_ids, has_groups = self._promised or (answer["own_ids"], self.cgroup_version is not None)
        if answer["own_ids"] < own_ids or (has_groups and self.cgroup_version is None):
            await self.close()
            what = answer.get("no_ids_reason") or "there are no control groups"
            raise SandboxStartFailed(
                f"The cell block came back with less isolation than it had at the server's start: {what}."
            )
        self._promised = own_ids, has_groups
        self.own_ids, self.no_ids_reason = own_ids, answer.get("no_ids_reason", "")
        await self._init.first(_START_S)

    @property
    def spawner(self) -> Spawner:
        """Raises SandboxStartFailed where there is none."""
        if self._spawner is None:
            raise SandboxStartFailed("The cell block is not running.")
        return self._spawner

    async def start_egress(self, control: socket.socket) -> None:
        """Have the process started that connects to the outside for sandboxes; `control` is its end of a socket to the host."""
        await self.spawner.ask({"op": "egress"}, [control.fileno()])

    async def start_uplink(self) -> socket.socket:
        """Have a way out made for sandboxes' links; its maker's socket, on which it says that it is ready and which it ends with."""
        _answer, (control,) = await self.spawner.ask({"op": "uplink"})
        return socket.socket(fileno=control)

    def bare(self) -> AbstractAsyncContextManager[Template]:
        """The template that makes agents, started where there is none."""
        return self._templates.hold("")

    @contextlib.asynccontextmanager
    async def image(self, name: str) -> AsyncIterator[Template]:
        """The template of an image, started where there is none; the image is built where it is missing."""
        async with self._templates.hold(await self.images.pin(name)) as template:
            yield template

    async def prepare(self, image: str) -> None:
        """Have both templates running that a sandbox needs."""
        async with self.bare(), self.image(image):
            return

    async def prepare_wheels(self, pool: str) -> None:
        """Have a pool's own wheels checked and copied to where sandboxes see them. Raises SandboxStartFailed."""
        if pool not in self.wheels:
            answer = await self.spawner.ask_aside({"op": "wheels", "pool": pool}, progress=self._progress)
            self.wheels[pool] = answer["wheels"]

    async def _start_by_key(self, key: str) -> Template:
        return await (self._start_image(key) if key else self._start_template("bare", {}))

    async def _ask_for_image(self, name: str, progress: Progress) -> Message:
        def tell(line: str) -> None:
            self._progress(line)
            progress(line)

        return await self.spawner.ask_aside({"op": "image", "name": name}, progress=tell)

    async def _hold_image(self, folder: str) -> None:
        await self.spawner.ask({"op": "hold", "image": folder})

    async def _start_image(self, name: str) -> Template:
        image = await self.images.describe(name)
        request = {key: image[key] for key in ("image", "preload", "runtime", "guest")}
        request["writable"] = policy.TEMPLATE_WRITABLE
        return await self._start_template("image", request, {**image["environment"], **SINGLE_THREADED})

    async def _start_template(self, kind: str, request: Message, environment: dict[str, str] | None = None) -> Template:
        whole: Message = {"kind": kind, "preload": [], "runtime": "", "guest": [], **request}
        whole["environment"] = {**policy.ENVIRONMENT, **(environment or {})}

        async def start(descriptors: list[int]) -> None:
            if self._init is None:
                raise SandboxStartFailed("The cell block is not running.")
            self._init.send(whole, descriptors)

        return await started(f"the {kind} template", start, self._on_exit)

    async def make_group(self, name: str, limits: Message) -> tuple[CgroupMeter | None, list[int], list[int]]:
        """Control groups for a sandbox: what they count, and the descriptors by which its agent and its code join them."""
        if self.cgroup_version is None:
            return None, [], []
        answer, opened = await self.spawner.ask({"op": "group", "name": name, "limits": limits})
        agent, counted = answer["agent"], answer["counted"]
        joins, files = opened[: len(opened) - len(counted)], opened[len(opened) - len(counted) :]
        meter = CgroupMeter(answer["version"], dict(zip(counted, files, strict=True)))
        return meter, joins[:agent], joins[agent:]

    async def remove_group(self, name: str) -> None:
        """Nothing where there is none."""
        if self.cgroup_version is None:
            return
        with contextlib.suppress(SandboxStartFailed):  # a spawner that is gone: the next start sweeps
            await self.spawner.ask({"op": "ungroup", "name": name})

    async def kill(self, pidfd: int) -> None:
        """SIGKILL for a process of a sandbox: ids that differ from the host's are the spawner's to signal."""
        with contextlib.suppress(SandboxStartFailed):  # a spawner that is gone: the kernel has killed all sandboxes
            await self.spawner.ask({"op": "kill"}, [pidfd])

    async def weigh(self, roots: list[int], limit_bytes: int) -> int | None:
        """The pid of the largest process below the pidfds `roots`, or None where all together hold no more than the limit."""
        answer = await self.spawner.ask_aside({"op": "weigh", "limit": limit_bytes}, roots)
        victim: int | None = answer["victim"]
        return victim

    async def close(self) -> None:
        """End all of it: without its sockets every process here leaves, and the kernel kills what is in sandboxes."""
        await self._templates.close()
        if self._init is not None:
            self._init.close()
        if self._spawner is not None:
            await self._spawner.close()
            self._spawner = None

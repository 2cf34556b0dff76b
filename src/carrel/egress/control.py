"""The host's word over a SEQPACKET socket: which sandboxes there are, and what their pools may reach. The far end of backends/network.py.

Requests are answered in order, a JSON object each with its descriptors, but for `test`, which may wait for a name server while sandboxes
come and go; what was refused is told without being asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from carrel.egress.dns import Forwarder
from carrel.egress.gate import Gate, Unresolved
from carrel.egress.proxy import Counts, Proxy
from carrel.egress.rules import parse_target

_MAX_MESSAGE = 64 * 1024
_MAX_DESCRIPTORS = 32

Request = dict[str, Any]


class Control:
    def __init__(self, host: socket.socket) -> None:
        self._host = host
        self._gate = Gate()
        self._lookups = asyncio.Semaphore(4)  # of `test`
        self._forwarders: dict[str, Forwarder] = {}  # by sandbox
        self._proxies: dict[str, tuple[str, Proxy]] = {}  # by sandbox, with its pool
        self._counts: dict[str, Counts] = {}  # by pool
        self._tests: set[asyncio.Task[None]] = set()
        self._operations: dict[str, Callable[[Request, list[int]], Awaitable[Request]]] = {
            "configure": self._configure,
            "rules": self._set_rules,
            "forget": self._forget,
            "attach": self._attach,
            "detach": self._detach,
            "test": self._test,
            "counts": self._count,
        }

    async def serve(self) -> None:
        """Until the host's end closes."""
        loop = asyncio.get_running_loop()
        requests: asyncio.Queue[tuple[bytes, list[int]]] = asyncio.Queue()
        self._host.setblocking(False)

        def receive() -> None:
            with contextlib.suppress(BlockingIOError):
                data, descriptors, _flags, _address = socket.recv_fds(
                    self._host, _MAX_MESSAGE, _MAX_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
                )
                requests.put_nowait((data, descriptors))
                if not data:
                    loop.remove_reader(self._host.fileno())

        loop.add_reader(self._host.fileno(), receive)
        self._tell({"ready": True})
        while True:
            data, descriptors = await requests.get()
            if not data:
                return
            request = json.loads(data)
            if request["op"] == "test":
                task = asyncio.create_task(self._answer(request, descriptors))
                self._tests.add(task)
                task.add_done_callback(self._tests.discard)
            else:
                await self._answer(request, descriptors)

    async def _answer(self, request: Request, descriptors: list[int]) -> None:
        try:
            answer = await self._operations[request["op"]](request, descriptors)
        except (OSError, ValueError) as error:
            answer = {"error": str(error)}
        finally:
            for fd in descriptors:  # those that nobody took
                os.close(fd)
        self._tell({"id": request["id"], **answer})

    def _tell(self, message: Request) -> None:
        with contextlib.suppress(BlockingIOError):  # a host that does not read its events misses some
            self._host.send(json.dumps(message).encode())

    async def _configure(self, request: Request, _descriptors: list[int]) -> Request:
        self._gate.configure(request["carve_outs"])
        return {}

    async def _set_rules(self, request: Request, _descriptors: list[int]) -> Request:
        self._gate.set_rules(request["pool"], request["rules"])
        await asyncio.gather(*(proxy.recheck() for pool, proxy in self._proxies.values() if pool == request["pool"]))
        return {}

    async def _forget(self, request: Request, _descriptors: list[int]) -> Request:
        """A pool that is no more: its connections end, and nobody of it may begin another."""
        await self._set_rules({**request, "rules": []}, [])
        self._gate.forget(request["pool"])
        self._counts.pop(request["pool"], None)
        return {}

    async def _attach(self, request: Request, descriptors: list[int]) -> Request:
        name, pool = request["name"], request["pool"]
        await self._detach(request, [])
        if any(kind == "udp" for kind, _address, _port in request["listen"]):
            forwarder = self._forwarders[name] = Forwarder()
            await forwarder.serve(*(socket.socket(fileno=descriptors.pop(0)) for _each in request["listen"]))
            return {}
        counts = self._counts.setdefault(pool, Counts())
        proxy = Proxy(self._gate, pool, counts, partial(self._refused, name))
        self._proxies[name] = (pool, proxy)
        await proxy.serve(socket.socket(fileno=descriptors.pop(0)))
        return {}

    async def _detach(self, request: Request, _descriptors: list[int]) -> Request:
        if (found := self._proxies.pop(request["name"], None)) is not None:
            await found[1].close()
        if (forwarder := self._forwarders.pop(request["name"], None)) is not None:
            await forwarder.close()
        return {}

    async def _test(self, request: Request, _descriptors: list[int]) -> Request:
        target = parse_target(request["target"], default_port=443)
        try:
            verdict = await self._gate.check(request["pool"], target, self._lookups)
        except Unresolved as error:
            rule = self._gate.rule(request["pool"], target)
            return {"target": str(target), "rule": rule.text if rule else None, "reason": str(error), "addresses": []}
        addresses = [{"address": str(each.address), "refusal": each.refusal} for each in verdict.candidates]
        rule = verdict.rule
        return {
            "target": str(target),
            "rule": rule.text if rule else None,
            "reason": verdict.reason,
            "addresses": addresses,
        }

    async def _count(self, request: Request, _descriptors: list[int]) -> Request:
        counts = self._counts.get(request["pool"], Counts())
        return {"connections": counts.connections, "refusals": counts.refusals}

    def _refused(self, name: str, target: str, reason: str, untold: int) -> None:
        self._tell({"name": name, "refused": target, "reason": reason, "untold": untold})

"""The host's side of an agent's channel: control, code and, inherited, files. How a channel works and breaks is in link_base.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from carrel.guest.frames import chunks, encode
from carrel.sessions.executions import Order
from carrel.sessions.link_base import DELETED, POOL_DELETED, lost
from carrel.sessions.link_files import FileLink
from carrel.sessions.streams import Caps, Run, Stream
from carrel.sessions.transcript import Transcript

__all__ = ["DELETED", "POOL_DELETED", "AgentLink", "lost"]

ANSWER_S = 5.0  # control calls
PROTOCOL = 1


class AgentLink(FileLink):
    """`on_died`: the interpreter ended while no code ran. `on_broken`: the link is no more, with the reason."""

    # -- control -----------------------------------------------------------------------------------------------------

    async def hello(self) -> None:
        answer = await self._call("hello", ANSWER_S)
        if answer.get("protocol") != PROTOCOL:
            self.close("its agent speaks another protocol")
            raise self._error()

    async def attach(self, descriptors: Sequence[int], seconds: float) -> None:
        """Give the agent its interpreter; returns once that is ready. The caller closes `descriptors` afterwards."""
        self._may_die = True
        await self._call("attach", seconds, descriptors)

    async def reset(self) -> None:
        """Kill every process of the sandbox but the agent."""
        await self._call("reset", ANSWER_S)

    async def interrupt(self) -> None:
        await self._call("interrupt", ANSWER_S)

    # -- code --------------------------------------------------------------------------------------------------------

    def execute(self, order: Order, caps: Caps, transcript: Transcript, on_end: Callable[[], None]) -> Run:
        """Send code to run; `on_end` is called when the returned stream is over. Raises SessionLost."""
        run = self._open(Run(self._next, caps, transcript, on_end))
        number = run.number
        limits = {"stream_cap": caps.text, "value_cap": caps.value, "display_cap": caps.displays}
        request = [encode({"s": number, "op": "execute", **limits, **order.fields})]
        request += [encode({"s": number, "data": 1}, chunk) for chunk in chunks(order.code)]
        request += [encode({"s": number, "data": "variables"}, chunk) for chunk in chunks(order.variables)]
        request.append(encode({"s": number, "end": 1}))
        self._channel.send(b"".join(request))
        return run

    async def environment(self, document: bytes) -> None:
        """Give the interpreter the session's environment, a JSON object. What is sent to run afterwards has it."""
        stream = self._open(Stream(self._next))
        request = [encode({"s": stream.number, "op": "environment"})]
        request += [encode({"s": stream.number, "data": 1}, chunk) for chunk in chunks(document)]
        request.append(encode({"s": stream.number, "end": 1}))
        self._channel.send(b"".join(request))
        await self._finish(stream, ANSWER_S)

"""hostlink, the client: what a gateway calls to reach the sessions, wherever they are.

One call at a time per connection. A call is a request frame `{"op": …}`; a body, where the op has one, follows as `{"data": 1}` frames
and ends with `{"end": 1}`. The answer is `{"data": 1}` frames and one last frame, `{"end": 1, …}` or `{"error": …}`; the last frame may
carry the last piece of the data, so that a small call is one frame each way. Connections are kept for the next call. One that did not
see its call to the end (cancelled, or an upload that failed half-way) is closed, which tells the host to stop; an execution goes on.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace

from carrel.counts import HostCounts
from carrel.guest.frames import Header
from carrel.host import codec
from carrel.host.events import Event, Notices, Stream, events, notices
from carrel.host.file_link import Archive, Download, FileLink, Watch
from carrel.host.line import Line, content
from carrel.models import (
    EgressPolicy,
    EgressVerdict,
    Execution,
    ExecutionSpec,
    ImageInfo,
    PoolSpec,
    PoolStatus,
    SessionView,
    Vitals,
)
from carrel.observations import Report, Row
from carrel.tracing import Span
from carrel.troubles import Trouble

__all__ = ["Archive", "Download", "Event", "Extract", "HostLink", "Notices", "Stream", "Watch"]


@dataclass(frozen=True, slots=True)
class Extract:
    """Lines of a journal (wire/journal.py), the place after them, and the place after all that there are."""

    journal: str
    place: int
    lines: bytes
    end: int


class HostLink(FileLink):
    """All calls raise carrel.errors.*; HostUnavailable where nobody serves at `path`, or it went away during the call."""

    async def vitals(self) -> tuple[Vitals, list[Trouble]]:
        """How the host is, and what it has warned of lately."""
        answer, body = await self._call({"op": "vitals"})
        return Vitals(**answer["vitals"]), [Trouble.from_json(fields) for fields in codec.json_from(body)]

    @contextlib.asynccontextmanager
    async def spans(self) -> AsyncIterator[AsyncIterator[list[Span]]]:
        """What the host has recorded and nobody has fetched yet, and what it records from now on, some at a time."""
        async with self._lines.call({"op": "spans"}) as line:
            yield _spans(line)

    # -- pools and sessions ------------------------------------------------------------------------------------------

    async def pools(self) -> list[PoolStatus]:
        _, body = await self._call({"op": "pools"})
        return [codec.pool_from(fields) for fields in codec.json_from(body)]

    async def observe(self, pool: str | None = None) -> dict[str, Report]:
        """What each pool, or one, has come to since the host began; none of a pool that was never served."""
        _, body = await self._call({"op": "observe", "pool": pool})
        return {name: Report.from_json(fields) for name, fields in codec.json_from(body).items()}

    async def counts(self) -> HostCounts:
        """All that the host counts, for whoever scrapes it."""
        _, body = await self._call({"op": "counts"})
        return HostCounts.from_json(codec.json_from(body))

    async def table(self, pool: str, skip: int, limit: int = 300) -> tuple[list[Row], int]:
        """A page of the sessions with what each has used, oldest first, and how many there are in all."""
        answer, body = await self._call({"op": "table", "pool": pool, "skip": skip, "limit": limit})
        return [Row(**fields) for fields in codec.json_from(body)], answer["total"]

    async def journal(self, identity: str, place: int) -> Extract:
        """What was noted from `place` on of the journal `identity`, which the caller has everything before of: that is given up.

        Of another journal, with its identity and no lines, where the host has another.
        """
        answer, lines = await self._call({"op": "journal", "journal": identity, "place": place})
        return Extract(answer["journal"], answer["place"], lines, answer["end"])

    async def apply_pool(self, spec: PoolSpec) -> PoolStatus:
        """Define a pool, or define it anew; safe to repeat. Sessions that live stay as they are.

        Returns when new sessions are of this definition, with the level that it got; its sandboxes are still being made (`settled`).
        Raises SandboxStartFailed where it cannot be served here, with why; whoever calls for its sessions is told the same.
        """
        _, body = await self._call({"op": "apply_pool"}, codec.json_to(dataclasses.asdict(spec)))
        return codec.pool_from(codec.json_from(body))

    async def remove_pool(self, pool: str) -> None:
        """End a pool's sessions and kill its sandboxes; returns when they are gone. Safe to repeat: nothing where there is none."""
        await self._call({"op": "remove_pool", "pool": pool})

    async def settled(self, pool: str) -> str | None:
        """Wait for the first sandbox of a pool as it is defined now (None), or its failure (why). Raises PoolNotFound."""
        answer, _ = await self._call({"op": "settled", "pool": pool})
        error: str | None = answer["error_of_pool"]
        return error

    async def image(self, pool: str) -> ImageInfo | None:
        """What the pool's sandboxes are made from; None as long as it is being built."""
        _, body = await self._call({"op": "image", "pool": pool})
        return codec.image_from(codec.json_from(body))

    async def set_image(self, pool: str, name: str) -> ImageInfo | None:
        """Move to another image; returns when new sessions get it, which takes as long as building it. Raises RequestInvalid."""
        _, body = await self._call({"op": "set_image", "pool": pool, "name": name})
        return codec.image_from(codec.json_from(body))

    async def egress(self, pool: str) -> EgressPolicy:
        answer, _ = await self._call({"op": "egress", "pool": pool})
        return codec.egress_from(answer["egress"])

    async def set_egress(self, pool: str, allow: Sequence[str]) -> EgressPolicy:
        """Put another list in the place of the pool's. Raises RequestNotSupported for a pool that has none."""
        body = codec.json_to(list(allow))
        answer, _ = await self._call({"op": "set_egress", "pool": pool}, body)
        return codec.egress_from(answer["egress"])

    async def test_egress(self, pool: str, target: str) -> EgressVerdict:
        answer, _ = await self._call({"op": "test_egress", "pool": pool, "target": target})
        return codec.verdict_from(answer["verdict"])

    async def open(self, pool: str, identifier: str, environment: Mapping[str, str] | None = None) -> SessionView:
        """The identifier's session, allocated if it has none; counts as use.

        `environment` holds for as long as the session lives. Raises SessionExists where it lives already with another one (none, too).
        """
        request, body = self._request("open", pool, identifier), b""
        if environment is not None:
            request, body = {**request, "environment": 1}, codec.json_to(dict(environment))
        answer, _ = await self._call(request, body)
        return codec.view_from(answer["session"])

    async def session(self, pool: str, identifier: str) -> SessionView:
        """As it is: allocates nothing and does not count as use. Raises SessionNotFound."""
        answer, _ = await self._call(self._request("session", pool, identifier))
        return codec.view_from(answer["session"])

    async def sessions(self, pool: str, skip: int, limit: int = 300) -> tuple[list[SessionView], int]:
        """A page, oldest first, and how many there are in all."""
        answer, body = await self._call({"op": "sessions", "pool": pool, "skip": skip, "limit": limit})
        return [codec.view_from(fields) for fields in codec.json_from(body)], answer["total"]

    async def end(self, pool: str, identifier: str) -> None:
        """Raises SessionNotFound."""
        await self._call(self._request("end", pool, identifier))

    async def keep_alive(self, pool: str, identifier: str) -> SessionView:
        """Count as use of a session that lives: allocates nothing. Raises SessionNotFound."""
        answer, _ = await self._call(self._request("keep_alive", pool, identifier))
        return codec.view_from(answer["session"])

    # -- notices -----------------------------------------------------------------------------------------------------

    def notices(self, pool: str, identifier: str, after: int = 0) -> AbstractAsyncContextManager[Notices]:
        """What happens to an identifier's session from now on, or after a number; entered with the session as it is.

        Raises SessionNotFound.
        """
        return self._notices(self._request("notices", pool, identifier, after=after))

    def undelivered(self, pool: str, reader: str) -> AbstractAsyncContextManager[Notices]:
        """What happened to a pool's sessions since this reader's last `delivered`, and what happens from now on."""
        return self._notices({"op": "notices", "pool": pool, "reader": reader})

    async def delivered(self, pool: str, number: int, reader: str) -> None:
        """All notices of the pool up to this one have been taken where they belong: no later gateway has to."""
        await self._call({"op": "delivered", "pool": pool, "number": number, "reader": reader})

    @contextlib.asynccontextmanager
    async def _notices(self, request: Header) -> AsyncIterator[Notices]:
        async with self._lines.call(request) as line:
            first, _ = await line.read_answer()
            view = codec.view_from(first["session"]) if "session" in first else None
            yield Notices(view, notices(line))

    # -- code --------------------------------------------------------------------------------------------------------

    async def execute(self, pool: str, identifier: str, spec: ExecutionSpec) -> tuple[SessionView, Execution]:
        """Run code. Returns when it is over, or at once where `spec.is_asynchronous`. Goes on where the caller is cancelled."""
        fields, code = codec.spec_to(spec)
        answer, output = await self._call(self._request("execute", pool, identifier, spec=fields), code)
        return codec.view_from(answer["session"]), codec.execution_from(identifier, answer["execution"], output)

    async def execution(self, pool: str, identifier: str, execution_id: str) -> Execution:
        """Raises SessionNotFound, ExecutionMissing."""
        answer, output = await self._call(self._request("execution", pool, identifier, id=execution_id))
        found = codec.execution_from(identifier, answer["execution"], output)
        return replace(found, expires_at=codec.view_from(answer["session"]).expires_at)

    async def executions(self, pool: str, identifier: str, skip: int, limit: int) -> tuple[list[Execution], int]:
        """Some of those that the session knows, in the order in which they were asked for, without output; and how many there are."""
        answer, body = await self._call(self._request("executions", pool, identifier, skip=skip, limit=limit))
        return [codec.execution_from(identifier, fields) for fields in codec.json_from(body)], answer["total"]

    def stream(self, pool: str, identifier: str, spec: ExecutionSpec) -> AbstractAsyncContextManager[Stream]:
        """Run code, and be told what comes of it while it comes. Leaving early leaves the execution running."""
        fields, code = codec.spec_to(spec)
        return self._events(self._request("stream", pool, identifier, spec=fields), code)

    def follow(
        self, pool: str, identifier: str, execution_id: str, after: int = 0
    ) -> AbstractAsyncContextManager[Stream]:
        """The events of an execution, also of one that is over; those after the one of that number. Raises ExecutionMissing."""
        return self._events(self._request("follow", pool, identifier, id=execution_id, after=after))

    async def cancel(self, pool: str, identifier: str, execution_id: str) -> Execution:
        """End an execution that waits or runs; as it is when it is over, which it may have been before. Raises ExecutionMissing."""
        answer, output = await self._call(self._request("cancel", pool, identifier, id=execution_id))
        found = codec.execution_from(identifier, answer["execution"], output)
        return replace(found, expires_at=codec.view_from(answer["session"]).expires_at)

    async def cancel_all(self, pool: str, identifier: str) -> int:
        """End all executions of a session that wait or run; how many that were. Raises SessionNotFound."""
        answer, _ = await self._call(self._request("cancel_all", pool, identifier))
        return int(answer["count"])

    async def restart(self, pool: str, identifier: str) -> SessionView:
        """A fresh interpreter: variables are lost, what runs or waits is canceled, files and environment stay. Raises SessionNotFound."""
        answer, _ = await self._call(self._request("restart", pool, identifier))
        return codec.view_from(answer["session"])

    @contextlib.asynccontextmanager
    async def _events(self, request: Header, payload: bytes = b"") -> AsyncIterator[Stream]:
        async with self._lines.call(request, payload) as line:
            start, _ = await line.read_answer()
            yield Stream(codec.view_from(start["session"]), start["id"], events(line, request["identifier"]))


async def _spans(line: Line) -> AsyncIterator[list[Span]]:
    async for page in content(line):
        yield [Span(**{**fields, "part": "host"}) for fields in codec.json_from(page)]

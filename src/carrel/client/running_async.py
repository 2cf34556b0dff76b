"""The asynchronous client's part about code: running.py's methods, for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from typing import Any

import httpx

from carrel.client import calls
from carrel.client.base import AsyncBase
from carrel.client.events import Event
from carrel.client.results import Result, ShellResult, Summary
from carrel.client.streaming import Telling, is_told
from carrel.client.values import Session, Variable


class AsyncRunning(AsyncBase):
    """Code and commands: run, watch, end."""

    async def execute(
        self,
        code: str,
        *,
        identifier: str | None = None,
        timeout: int = 60,
        output_limit: int | None = None,
        operation_id: str | None = None,
        variables: Mapping[str, Any] | None = None,
        return_variables: Sequence[str] = (),
        on_output: Callable[[Event], object] | None = None,
    ) -> Result:
        """Run `code` and wait for it, at most `timeout` seconds. Code that fails is a Result with status Failed.

        `variables` are set before; what the code leaves in those of `return_variables` is in the Result's `variables`.
        `on_output` is called with each event as it happens.
        """
        body = calls.code(
            code,
            timeout=timeout,
            output_limit=output_limit,
            variables=variables,
            return_variables=return_variables,
        )
        return await self._run(body, identifier, operation_id, on_output)

    async def shell(
        self,
        command: str | Sequence[str],
        *,
        identifier: str | None = None,
        timeout: int = 60,
        output_limit: int | None = None,
        operation_id: str | None = None,
        shell_type: str = "bash",
        stdin: str | None = None,
        on_output: Callable[[Event], object] | None = None,
    ) -> ShellResult:
        """Run a command in /mnt/data, in a fresh process: a line for `bash` or `sh`, or a program and its arguments without any shell."""
        body = calls.command(command, timeout=timeout, output_limit=output_limit, shell_type=shell_type, stdin=stdin)
        return ShellResult.of(await self._run(body, identifier, operation_id, on_output))

    async def start(
        self,
        code: str,
        *,
        identifier: str | None = None,
        timeout: int = 60,
        output_limit: int | None = None,
        operation_id: str | None = None,
        variables: Mapping[str, Any] | None = None,
        return_variables: Sequence[str] = (),
    ) -> Result:
        """Begin to run `code`; ask `execution` for the result by the id of what this returns, or `follow` it."""
        body = calls.code(
            code,
            timeout=timeout,
            output_limit=output_limit,
            variables=variables,
            return_variables=return_variables,
            is_asynchronous=True,
        )
        return await self._try(self._executing(body, identifier or self.identifier, operation_id))

    async def stream(
        self,
        code: str,
        *,
        identifier: str | None = None,
        timeout: int = 60,
        output_limit: int | None = None,
        operation_id: str | None = None,
        variables: Mapping[str, Any] | None = None,
        return_variables: Sequence[str] = (),
    ) -> AsyncIterator[Event]:
        """Run `code` and give what happens as it happens; the last event has the `result`.

        A connection that is lost is taken up again where it was. Who stops iterating leaves the code running: `cancel` ends it.
        """
        body = calls.code(
            code,
            timeout=timeout,
            output_limit=output_limit,
            variables=variables,
            return_variables=return_variables,
        )
        telling = Telling.of_program(body, identifier or self.identifier, operation_id)
        async for event in self._tell(telling):
            yield event

    async def follow(self, execution_id: str, *, identifier: str | None = None, after: int = 0) -> AsyncIterator[Event]:
        """What happens in an execution that is there already, from the event after number `after`."""
        telling = Telling.of_execution(execution_id, identifier or self.identifier, after)
        async for event in self._tell(telling):
            yield event

    async def execution(self, execution_id: str, *, identifier: str | None = None) -> Result:
        return await self._send(calls.execution(execution_id, identifier or self.identifier))

    async def executions(self, *, identifier: str | None = None) -> list[Summary]:
        """Those of the session that the server still knows."""
        return await self._list([], partial(calls.executions, identifier or self.identifier))

    async def cancel(self, execution_id: str, *, identifier: str | None = None) -> Result:
        """End an execution: interrupted, or with its interpreter where that does not help. One that is over stays as it is."""
        return await self._send(calls.cancel(execution_id, identifier or self.identifier))

    async def cancel_all(self, *, identifier: str | None = None) -> int:
        """End all that runs or waits in the session; how many that were."""
        return await self._send(calls.cancel_all(identifier or self.identifier))

    async def restart(self, *, identifier: str | None = None) -> Session:
        """A fresh interpreter: variables are lost, files and environment stay, what runs is canceled."""
        return await self._send(calls.restart(identifier or self.identifier))

    async def variables(self, *names: str, identifier: str | None = None) -> dict[str, Any]:
        """The values of those of the named variables that there are and that JSON can hold."""
        return await self._send(calls.variables(names, identifier or self.identifier))

    async def list_variables(self, *, identifier: str | None = None) -> list[Variable]:
        """What variables there are, with type, size and the beginning of each; none of their own code is run for it. Beyond Azure."""
        return await self._send(calls.variable_summaries(identifier or self.identifier))

    async def set_variables(self, values: Mapping[str, Any], *, identifier: str | None = None) -> None:
        await self._send(calls.set_variables(values, identifier or self.identifier))

    async def _run(
        self,
        body: dict[str, Any],
        identifier: str | None,
        operation_id: str | None,
        on_output: Callable[[Event], object] | None,
    ) -> Result:
        session = identifier or self.identifier
        if on_output is None:
            return await self._try(self._executing(body, session, operation_id))
        telling = Telling.of_program(body, session, operation_id)
        async for event in self._tell(telling):
            on_output(event)
        return telling.over()

    async def _tell(self, telling: Telling) -> AsyncIterator[Event]:
        while telling.result is None:
            failure: httpx.TransportError | None = None
            try:
                async with self._http.stream(**self._arguments(telling.call())) as response:
                    if not is_told(response):
                        await response.aread()
                        yield telling.whole(calls.check(response))
                        return
                    telling.taken()
                    async for data in response.aiter_bytes():
                        for event in telling.read(data):
                            yield event
            except httpx.TransportError as error:
                failure = error
            if telling.result is None:
                await asyncio.sleep(telling.pause(failure))

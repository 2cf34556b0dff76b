"""One session of a pool, for plain code."""

from __future__ import annotations

import builtins
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from carrel.client.errors import NotFound
from carrel.client.events import Event
from carrel.client.results import Result, ShellResult, Summary
from carrel.client.transfers import Source, TransferProgress
from carrel.client.values import File, FileChange, Session, SessionEvent, Variable

if TYPE_CHECKING:
    from carrel.client.synchronous import Client


class SessionClient:
    """What `client.session("conv-42")` gives: a session by its identifier. It begins with its first call.

    Each call is the client's own, of this session. As a context manager it ends the session on leaving; otherwise the session lives until
    `end`, or until it was idle for as long as the pool allows.
    """

    def __init__(self, client: Client, identifier: str) -> None:
        if (
            not identifier
        ):  # for the client it stands for its own session: conversations without a name would share that one
            raise ValueError("a session needs an identifier")
        self.client = client
        self.identifier = identifier

    def __repr__(self) -> str:
        return f"SessionClient({self.identifier!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    # ---- code ------------------------------------------------------------------------------------------------------------------

    def run(
        self,
        code: str,
        *,
        timeout: int = 60,
        output_limit: int | None = None,
        operation_id: str | None = None,
        variables: Mapping[str, Any] | None = None,
        return_variables: Sequence[str] = (),
        on_output: Callable[[Event], object] | None = None,
    ) -> Result:
        """Run `code` and wait for it, at most `timeout` seconds; as `Client.execute`."""
        return self.client.execute(
            code,
            identifier=self.identifier,
            timeout=timeout,
            output_limit=output_limit,
            operation_id=operation_id,
            variables=variables,
            return_variables=return_variables,
            on_output=on_output,
        )

    def shell(
        self,
        command: str | Sequence[str],
        *,
        timeout: int = 60,
        output_limit: int | None = None,
        operation_id: str | None = None,
        shell_type: str = "bash",
        stdin: str | None = None,
        on_output: Callable[[Event], object] | None = None,
    ) -> ShellResult:
        """Run a command in /mnt/data: a line for `bash` or `sh`, or a program and its arguments."""
        return self.client.shell(
            command,
            identifier=self.identifier,
            timeout=timeout,
            output_limit=output_limit,
            operation_id=operation_id,
            shell_type=shell_type,
            stdin=stdin,
            on_output=on_output,
        )

    def stream(
        self,
        code: str,
        *,
        timeout: int = 60,
        output_limit: int | None = None,
        operation_id: str | None = None,
        variables: Mapping[str, Any] | None = None,
        return_variables: Sequence[str] = (),
    ) -> Iterator[Event]:
        """Run `code` and give what happens as it happens; the last event has the `result`."""
        return self.client.stream(
            code,
            identifier=self.identifier,
            timeout=timeout,
            output_limit=output_limit,
            operation_id=operation_id,
            variables=variables,
            return_variables=return_variables,
        )

    def start(
        self,
        code: str,
        *,
        timeout: int = 60,
        output_limit: int | None = None,
        operation_id: str | None = None,
        variables: Mapping[str, Any] | None = None,
        return_variables: Sequence[str] = (),
    ) -> Result:
        """Begin to run `code`; `execution` or `follow` tell of it by the id of what this returns."""
        return self.client.start(
            code,
            identifier=self.identifier,
            timeout=timeout,
            output_limit=output_limit,
            operation_id=operation_id,
            variables=variables,
            return_variables=return_variables,
        )

    def follow(self, execution_id: str, *, after: int = 0) -> Iterator[Event]:
        return self.client.follow(execution_id, identifier=self.identifier, after=after)

    def execution(self, execution_id: str) -> Result:
        return self.client.execution(execution_id, identifier=self.identifier)

    def executions(self) -> builtins.list[Summary]:
        return self.client.executions(identifier=self.identifier)

    def cancel(self, execution_id: str | None = None) -> None:
        """End one execution, or all that run or wait."""
        if execution_id is None:
            self.client.cancel_all(identifier=self.identifier)
        else:
            self.client.cancel(execution_id, identifier=self.identifier)

    def restart(self) -> Session:
        """A fresh interpreter: variables are lost, files and environment stay."""
        return self.client.restart(identifier=self.identifier)

    def variables(self, *names: str) -> dict[str, Any]:
        """The values of those of the named variables that there are and that JSON can hold."""
        return self.client.variables(*names, identifier=self.identifier)

    def list_variables(self) -> builtins.list[Variable]:
        """What variables there are, with type, size and the beginning of each."""
        return self.client.list_variables(identifier=self.identifier)

    def set_variables(self, values: Mapping[str, Any]) -> None:
        self.client.set_variables(values, identifier=self.identifier)

    # ---- files -----------------------------------------------------------------------------------------------------------------

    def upload(
        self,
        path: str,
        data: Source,
        *,
        if_match: str | None = None,
        if_none_match: str | None = None,
        progress: TransferProgress = None,
    ) -> File:
        """Write bytes, an open file, or the file at a `Path` of this machine to `path` below /mnt/data."""
        return self.client.upload(
            path, data, identifier=self.identifier, if_match=if_match, if_none_match=if_none_match, progress=progress
        )

    def download(self, path: str) -> bytes:
        return self.client.download(path, identifier=self.identifier)

    def save(self, path: str, to: str | os.PathLike[str], *, progress: TransferProgress = None) -> Path:
        """Write a file of the session to the file `to` of this machine."""
        return self.client.save(path, to, identifier=self.identifier, progress=progress)

    def list(self, directory: str = "", *, is_recursive: bool = False) -> builtins.list[File]:
        return self.client.list_files(directory, is_recursive=is_recursive, identifier=self.identifier)

    def stat(self, path: str) -> File:
        return self.client.stat(path, identifier=self.identifier)

    def delete(self, path: str, *, if_match: str | None = None) -> None:
        self.client.delete_file(path, identifier=self.identifier, if_match=if_match)

    def make_directory(self, path: str) -> File:
        return self.client.make_directory(path, identifier=self.identifier)

    def rename(self, path: str, to: str, *, overwrite: bool = False, if_match: str | None = None) -> File:
        return self.client.rename(path, to, overwrite=overwrite, identifier=self.identifier, if_match=if_match)

    def archive(self, directory: str = "") -> Iterator[bytes]:
        """A directory as a tar stream, in pieces."""
        return self.client.archive(directory, identifier=self.identifier)

    def watch(self, directory: str = "", *, is_recursive: bool = False) -> Iterator[FileChange]:
        return self.client.watch(directory, is_recursive=is_recursive, identifier=self.identifier)

    # ---- its life --------------------------------------------------------------------------------------------------------------

    def open(self, environment: Mapping[str, str | Mapping[str, str]] | None = None) -> Session:
        """Begin the session now, with variables of its environment: texts, or {"secretRef": NAME} for a secret of the pool."""
        return self.client.open(environment, identifier=self.identifier)

    def info(self) -> Session:
        """How it stands. Raises SessionNotFound where it does not live; asking neither begins one nor keeps it alive."""
        return self.client.session(identifier=self.identifier)

    def keep_alive(self) -> Session:
        """Count as use. Raises SessionNotFound where it does not live."""
        return self.client.keep_alive(identifier=self.identifier)

    def events(self) -> Iterator[SessionEvent]:
        """What happens to the session, to its end."""
        return self.client.session_events(identifier=self.identifier)

    def end(self) -> None:
        """End it; its variables and files are gone. One that has ended already, or never began, is as good."""
        try:
            self.client.end(identifier=self.identifier)
        except NotFound:
            return

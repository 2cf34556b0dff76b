"""The shell session's guest: runs each command as a fresh process in the data folder and keeps the environment between them.

It lives as the Python interpreter does: a template calls `preload` and forks, each child calls `run`; or `python -m
carrel.guest.commander FD` does all of it. What a command exports is there in the next one: bash runs keep.bash first, whose EXIT trap
writes the environment to a pipe that nobody but this process reads. That is data, bounded and never run; a command that hides it
(`exec`, a trap of its own, `kill -9 $$`) keeps nothing, and neither does `cd`: every command starts in the data folder, as on Azure.

A loop waits for three things at once: the end of the command and the interrupt, both by the wakeup descriptor of their signals, and
what comes by that pipe. A command that has not ended half a second after the interrupt is killed; what is left of an interrupted one's
process group then is killed in any case. Commands have
our user id, so one may kill or stop this process: the host then makes another, and the exports are lost with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import socket
import sys
import time
from collections.abc import Mapping
from typing import Any

from carrel.guest import commands, frames
from carrel.guest.requests import Environment, Run, requests

MAX_ENVIRONMENT = 256 * 1024  # bytes, kept from one command to the next; execve takes 2 MiB with the arguments
MAX_SUMMARY = 1000  # variables that are told of at once
MAX_VARIABLES = 1024 * 1024  # bytes of what is told of them

_ENVIRONMENT_FD = 254
_KEEP = f"{os.path.dirname(os.path.abspath(__file__))}/keep.bash"  # noqa: PTH100, PTH120 - pathlib is an import that a small guest can do without
_KEEP_SH = b"trap '/usr/bin/env -0 2>/dev/null >/dev/fd/254' EXIT; "  # dash knows no BASH_ENV, and descriptors of one digit only
_NOT_KEPT = frozenset({b"_", b"SHLVL", b"PWD", b"OLDPWD"})
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ABSENT = b'{"kind":"absent"}'


class Commander:
    def __init__(self) -> None:
        self._environment = commands.environment()
        self._folder = os.getcwd()  # noqa: PTH109
        self._wakeup, signal_end = socket.socketpair()
        self._wakeup.setblocking(False)
        signal_end.setblocking(False)
        self._signal_end = signal_end
        for number in (signal.SIGCHLD, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(signal_end.fileno(), warn_on_full_buffer=False)

    def serve(self, control: socket.socket) -> None:
        """Answer runs until the agent closes `control`. Does not return."""
        control.set_inheritable(False)
        control.sendall(frames.encode({"ready": 1}))
        with contextlib.suppress(OSError):
            for request in requests(control):
                if isinstance(request, Environment):
                    self._set(request.variables)
                else:
                    self._answer(control, request)
        os._exit(0)

    def _set(self, variables: Mapping[str, Any]) -> None:
        """What JSON has for a value, as a variable of the environment has it: text as it is, null as none."""
        for name, value in variables.items():
            key = name.encode("utf-8", "surrogatepass")
            text = value if isinstance(value, str) else json.dumps(value)
            if value is None:
                self._environment.pop(key, None)
            elif not _NAME.fullmatch(name) or "\0" in text:
                commands.say(f"{name[:100]!r} cannot be a variable of the environment, and was left out")
            else:
                self._environment[key] = text.encode("utf-8", "surrogatepass")

    def _answer(self, control: socket.socket, request: Run) -> None:
        number = request.number
        self._set(request.variables)
        done: frames.Header = {"done": number}
        try:
            is_code = request.kind == "code"
            command = commands.of_code(request.body) if is_code else commands.parse(request.body)
            done["exit"], was_interrupted = self._run(command)
            failed = "interrupted" if was_interrupted else "error"
            done["outcome"] = failed if done["exit"] else "ok"
        except commands.Unstartable as error:
            done |= commands.refusal(error)
        if request.wanted or request.has_summary:
            self._tell(control, request)
        control.sendall(frames.encode({"value": number, **done}, _ABSENT))

    def _tell(self, control: socket.socket, request: Run) -> None:
        """The variables that were asked for, of those that there are, as far as they fit; or what there are."""
        found: dict[str, Any] = self._summary() if request.has_summary else self._found(request.wanted)
        *pieces, last = frames.chunks(json.dumps(found).encode())
        for piece in pieces:
            control.sendall(frames.encode({"variables": request.number, "more": 1}, piece))
        control.sendall(frames.encode({"variables": request.number}, last))

    def _summary(self) -> dict[str, Any]:
        """Without their values: an environment holds secrets, and nobody has named what he wants to see."""
        names = sorted(self._environment)
        shown = [
            {"name": name.decode("utf-8", "replace"), "type": "text", "size": len(self._environment[name])}
            for name in names[:MAX_SUMMARY]
        ]
        return {"summary": shown, "total": len(names)}

    def _found(self, wanted: tuple[str, ...]) -> dict[str, Any]:
        found, left = {}, MAX_VARIABLES
        for name in wanted:
            value = self._environment.get(name.encode("utf-8", "surrogatepass"))
            if value is not None and (left := left - len(name) - len(value)) >= 0:
                found[name] = value.decode("utf-8", "replace")
        return found

    def _run(self, command: commands.Command) -> tuple[int, bool]:
        """The exit code of the command, and whether it was interrupted. Its environment at the end becomes ours."""
        self._signals()  # an interrupt that came between runs is nobody's
        reader, writer = os.pipe()
        try:
            try:
                pid = self._start(command, writer)
            finally:
                os.close(writer)
            kept = _Kept(reader)
            code, was_interrupted = self._wait(pid, kept)
            self._keep(kept)
            return code, was_interrupted
        finally:
            os.close(reader)

    def _start(self, command: commands.Command, writer: int) -> int:
        environment, prologue = self._environment, b""
        if command.line is not None and command.shell == b"bash":
            own = environment.get(b"BASH_ENV")
            environment = {
                **environment,
                b"BASH_ENV": os.fsencode(_KEEP),
                **({} if own is None else {b"CARREL_BASH_ENV": own}),
            }
        elif command.line is not None:
            prologue = _KEEP_SH
        actions = [] if command.line is None else [(os.POSIX_SPAWN_DUP2, writer, _ENVIRONMENT_FD)]
        return commands.start(command, environment, self._folder, prologue, actions)

    def _wait(self, pid: int, kept: _Kept) -> tuple[int, bool]:
        poll, kill_at, was_interrupted = select.poll(), None, False
        poll.register(self._wakeup, select.POLLIN)
        poll.register(kept.fd, select.POLLIN)
        while True:
            if commands.has_ended(pid):
                if was_interrupted:
                    commands.signal_group(pid, signal.SIGKILL)
                return commands.wait(pid), was_interrupted
            patience = None if kill_at is None else max(0.0, kill_at - time.monotonic()) * 1000
            ready = {fd for fd, _events in poll.poll(patience)}
            if kept.fd in ready and not kept.read():
                poll.unregister(kept.fd)
            if self._wakeup.fileno() in ready and signal.SIGINT in self._signals():
                commands.signal_group(pid, signal.SIGINT)
                was_interrupted = True
                kill_at = kill_at or time.monotonic() + commands.INTERRUPT_S
            if kill_at is not None and time.monotonic() >= kill_at:
                commands.signal_group(pid, signal.SIGKILL)
                kill_at = None

    def _signals(self) -> bytes:
        """The numbers of the signals that have come since the last call."""
        with contextlib.suppress(BlockingIOError):
            return self._wakeup.recv(4096)
        return b""

    def _keep(self, kept: _Kept) -> None:
        if (environment := kept.environment()) is not None:
            self._environment = environment


class _Kept:
    """What a command says its environment is, as it comes."""

    def __init__(self, fd: int) -> None:
        self.fd, self._data = fd, bytearray()
        os.set_blocking(fd, False)

    def read(self) -> bool:
        """Take what is there; whether more may come. What is too much is read all the same: its writer must not hang."""
        try:
            data = os.read(self.fd, 64 * 1024)
        except BlockingIOError:
            return True
        if len(self._data) <= MAX_ENVIRONMENT:
            self._data += data
        return bool(data)

    def environment(self) -> dict[bytes, bytes] | None:
        """All of it, once the command has ended; None where it is cut off, too large or was never told."""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self.fd, 64 * 1024):
                self._data += data
                if len(self._data) > MAX_ENVIRONMENT:
                    break
        if len(self._data) > MAX_ENVIRONMENT:
            commands.say(f"the environment is over {MAX_ENVIRONMENT} bytes, and was left as it was before the command")
            return None
        if not self._data.endswith(b"\0"):
            return None
        pairs = (entry.partition(b"=") for entry in bytes(self._data[:-1]).split(b"\0"))
        return {name: value for name, equals, value in pairs if name and equals and name not in _NOT_KEPT}


def preload() -> None:
    """Make this process a template. There is nothing to get ready but what importing this module has."""


def run(control: socket.socket) -> None:
    """Serve `control`. Does not return."""
    Commander().serve(control)


def main() -> None:
    run(socket.socket(fileno=int(sys.argv[1])))


if __name__ == "__main__":
    main()

"""The agent as an ordinary process, for the level that is no sandbox: it makes and kills its own interpreter."""

from __future__ import annotations

import os
import resource
import signal
import socket

from carrel.guest import agent, linux


def main(arguments: list[str]) -> None:
    """Arguments: channel descriptor, data folder, address-space bytes, and the command that is an interpreter."""
    channel, data, address_space, *command = arguments
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    linux.become_subreaper()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (int(address_space), int(address_space)))
    os.chdir(data)
    agent.serve(socket.socket(fileno=int(channel)), data=data, is_init=False, spawn=command)

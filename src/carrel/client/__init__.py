"""A small client of a session pool: `Client` for plain code, `AsyncClient` for asyncio.

    from carrel.client import Client

    with Client.from_connection() as client:
        client.execute("x = 41", identifier="alice")
        print(client.execute("x + 1", identifier="alice").result)

It speaks the public API only (api-version 2025-10-02-preview), so it works against any server of that API, and it imports no server code.
"""

from carrel.client.asynchronous import AsyncClient
from carrel.client.connection import Connection, NotRunning
from carrel.client.events import Event
from carrel.client.results import Output, Result, ShellResult, Summary, Usage
from carrel.client.synchronous import Client
from carrel.client.values import (
    ApiError,
    Egress,
    EgressTest,
    File,
    FileChange,
    Image,
    Metadata,
    Pool,
    Session,
    SessionEvent,
)

__all__ = [
    "ApiError",
    "AsyncClient",
    "Client",
    "Connection",
    "Egress",
    "EgressTest",
    "Event",
    "File",
    "FileChange",
    "Image",
    "Metadata",
    "NotRunning",
    "Output",
    "Pool",
    "Result",
    "Session",
    "SessionEvent",
    "ShellResult",
    "Summary",
    "Usage",
]

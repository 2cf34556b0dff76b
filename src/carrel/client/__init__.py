"""A small client of a session pool: `Client` for plain code, `AsyncClient` for asyncio.

    from carrel.client import Client

    with Client.from_connection() as client:
        client.execute("x = 41", identifier="alice")
        print(client.execute("x + 1", identifier="alice").result)

It speaks the public API only (api-version 2025-10-02-preview), so it works against any server of that API, and it imports no server code.
`Management` and `AsyncManagement` make and change pools, groups and rights, of Carrel or of Azure.
"""

from carrel.client.asynchronous import AsyncClient
from carrel.client.connection import Connection, NotRunning
from carrel.client.credentials import (
    AsyncServerCredential,
    FixedCredential,
    ServerCredential,
    Token,
    by_identity,
    by_secret,
)
from carrel.client.events import Event
from carrel.client.graph import Secret
from carrel.client.health import PoolHealth, ServerError, ServerHealth
from carrel.client.identities import Identities
from carrel.client.identities_async import AsyncIdentities
from carrel.client.management import Management
from carrel.client.management_async import AsyncManagement
from carrel.client.observing import PoolStatus, SessionRow
from carrel.client.operations import OperationFailed, Progress
from carrel.client.resources import (
    PoolSettings,
    Principal,
    ResourceGroup,
    RoleAssignment,
    RoleDefinition,
    SessionPool,
    Subscription,
)
from carrel.client.results import Output, Result, ShellResult, Summary, Usage
from carrel.client.synchronous import Client
from carrel.client.values import (
    ApiError,
    Egress,
    EgressTest,
    Fault,
    File,
    FileChange,
    Image,
    Metadata,
    Pool,
    Session,
    SessionEvent,
    Variable,
)

__all__ = [
    "ApiError",
    "AsyncClient",
    "AsyncIdentities",
    "AsyncManagement",
    "AsyncServerCredential",
    "Client",
    "Connection",
    "Egress",
    "EgressTest",
    "Event",
    "Fault",
    "File",
    "FileChange",
    "FixedCredential",
    "Identities",
    "Image",
    "Management",
    "Metadata",
    "NotRunning",
    "OperationFailed",
    "Output",
    "Pool",
    "PoolHealth",
    "PoolSettings",
    "PoolStatus",
    "Principal",
    "Progress",
    "ResourceGroup",
    "Result",
    "RoleAssignment",
    "RoleDefinition",
    "Secret",
    "ServerCredential",
    "ServerError",
    "ServerHealth",
    "Session",
    "SessionEvent",
    "SessionPool",
    "SessionRow",
    "ShellResult",
    "Subscription",
    "Summary",
    "Token",
    "Usage",
    "Variable",
    "by_identity",
    "by_secret",
]

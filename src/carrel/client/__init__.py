"""A small client of a session pool: `Client` for plain code, `AsyncClient` for asyncio.

    from carrel.client import Client

    with Client.from_env() as client:
        session = client.session("conv-42")
        session.run("x = 41")
        print(session.run("x + 1").result)

It speaks the public API (api-version 2025-10-02-preview), so it works against any server of that API, Azure's among them; what is beyond
Azure's raises NotSupported there. It imports no server code.
`Management` and `AsyncManagement` make and change pools, groups and rights, of Carrel or of Azure.
"""

from carrel.client.asynchronous import AsyncClient
from carrel.client.auditing import AuditRecord
from carrel.client.connection import Connection, NotRunning
from carrel.client.credentials import (
    AsyncServerCredential,
    FixedCredential,
    ServerCredential,
    Token,
    by_identity,
    by_secret,
)
from carrel.client.environment import NotConfigured
from carrel.client.errors import (
    ApiError,
    AuthenticationFailed,
    ConditionNotMet,
    Conflict,
    ExecutionNotFound,
    Fault,
    FileMissing,
    InvalidRequest,
    NotFound,
    NotSupported,
    PermissionDenied,
    PoolNotFound,
    SessionEnded,
    SessionLost,
    SessionNotFound,
    StorageFull,
    TooLarge,
    TooManyRequests,
    TooManySessions,
    Unavailable,
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
from carrel.client.recorded import LogRecord, UsageReport, UsageRow
from carrel.client.resources import (
    PoolSettings,
    Principal,
    ResourceGroup,
    RoleAssignment,
    RoleDefinition,
    SessionPool,
    Subscription,
)
from carrel.client.results import ExecutionFailed, Output, Picture, Result, ShellResult, Summary, Usage
from carrel.client.session import SessionClient
from carrel.client.session_async import AsyncSessionClient
from carrel.client.synchronous import Client
from carrel.client.values import (
    Egress,
    EgressTest,
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
    "AsyncSessionClient",
    "AuditRecord",
    "AuthenticationFailed",
    "Client",
    "ConditionNotMet",
    "Conflict",
    "Connection",
    "Egress",
    "EgressTest",
    "Event",
    "ExecutionFailed",
    "ExecutionNotFound",
    "Fault",
    "File",
    "FileChange",
    "FileMissing",
    "FixedCredential",
    "Identities",
    "Image",
    "InvalidRequest",
    "LogRecord",
    "Management",
    "Metadata",
    "NotConfigured",
    "NotFound",
    "NotRunning",
    "NotSupported",
    "OperationFailed",
    "Output",
    "PermissionDenied",
    "Picture",
    "Pool",
    "PoolHealth",
    "PoolNotFound",
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
    "SessionClient",
    "SessionEnded",
    "SessionEvent",
    "SessionLost",
    "SessionNotFound",
    "SessionPool",
    "SessionRow",
    "ShellResult",
    "StorageFull",
    "Subscription",
    "Summary",
    "Token",
    "TooLarge",
    "TooManyRequests",
    "TooManySessions",
    "Unavailable",
    "Usage",
    "UsageReport",
    "UsageRow",
    "Variable",
    "by_identity",
    "by_secret",
]

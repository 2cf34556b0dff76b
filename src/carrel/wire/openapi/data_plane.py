"""The data plane's operations, below a pool's endpoint, by method and route (server/routes.py)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from carrel.wire.openapi.model import ANY, EVENTS, JSON, NOTHING, Content, Operation, json_of

PATH = "/subscriptions/{subscriptionId}/resourceGroups/{resourceGroupName}/sessionPools/{sessionPoolName}"

_ALWAYS = (400, 401, 403, 404, 500, 503)  # of every call to a pool
_IN_SESSION = (*_ALWAYS, 409, 429)  # of one that may have to wait for its session
_WITH_BODY = (408, 413)

_RUN = Operation(
    "Run code. Code that fails is a result, not an error.",
    {200: json_of("OldExecution"), 202: json_of("OldExecution")},
    ("identifier", "operation-id"),
    Content({JSON: "ExecuteRequest"}),
    (*_IN_SESSION, *_WITH_BODY),
)
_UPLOAD = Operation(
    "Upload a file: the part `file` of a form.",
    {200: json_of("OldFiles")},
    ("identifier", "path", "if-match", "if-none-match"),
    Content({"multipart/form-data": "Upload"}),
    (*_IN_SESSION, *_WITH_BODY, 412, 507),
)
_DOWNLOAD = Operation(
    "A file's content.",
    {200: Content({ANY: "Bytes"}), 206: Content({ANY: "Bytes"}), 304: NOTHING},
    ("identifier", "path", "range", "if-range", "if-match", "if-none-match"),
    errors=(*_IN_SESSION, 412, 416),
)
_METADATA = Operation(
    "What is known of a file.",
    {200: json_of("FileByVersion"), 304: NOTHING},
    ("identifier", "path", "if-match", "if-none-match"),
    errors=(*_IN_SESSION, 412),
)
_DELETE = Operation(
    "Delete a file. Old api-versions answer 200 and a message.",
    {200: json_of("Message"), 204: NOTHING},
    ("identifier", "path", "if-match", "if-none-match"),
    errors=(*_IN_SESSION, 412),
)
_ABOUT_SESSION = Operation(
    "The session, which is not made by looking.", {200: json_of("Session")}, ("identifier",), errors=_ALWAYS
)
_MCP = Operation(
    "MCP, as JSON-RPC over HTTP. GET and DELETE within an MCP session only.",
    {200: Content({JSON: "Object", EVENTS: "Event"}), 202: NOTHING},
    ("mcp-session-id",),
    Content({JSON: "Object"}),
    (*_ALWAYS, 405, 406, 408, 413, 415),
    ("bearer", "mcpKey"),
    error="Object",
)

OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("POST", "code/execute"): _RUN,
    ("POST", "execute"): _RUN,
    ("POST", "python/execute"): replace(_RUN, parameters=("identifier-anywhere", "operation-id")),
    ("POST", "executions"): replace(
        _RUN,
        summary="Run code or a shell command; told while it runs to those who accept events.",
        replies={200: Content({JSON: "Execution", EVENTS: "Event"}), 202: json_of("Execution")},
    ),
    ("GET", "executions"): Operation(
        "The session's executions, oldest first.",
        {200: json_of("Executions")},
        ("identifier", "skip"),
        errors=_ALWAYS,
    ),
    ("GET", "executions/{id}"): Operation(
        "An execution, as it stands or at its end.",
        {200: Content({JSON: "Execution", EVENTS: "Event"})},
        ("identifier", "wait", "last-event-id"),
        errors=_ALWAYS,
    ),
    ("POST", "executions/{id}/cancel"): Operation(
        "Cancel an execution.", {200: json_of("Execution")}, ("identifier",), errors=_IN_SESSION
    ),
    ("GET", "files"): Operation(
        "The files of a directory; as an archive, or what changes there, to those who accept that.",
        {200: Content({JSON: "FilesByVersion", "application/x-tar": "Bytes", EVENTS: "Event"})},
        ("identifier", "path", "recursive"),
        errors=(*_IN_SESSION, 413),
    ),
    ("POST", "files"): replace(_UPLOAD, replies={200: json_of("FileByVersion")}),
    ("POST", "files/upload"): _UPLOAD,
    ("GET", "files/upload"): _METADATA,
    ("DELETE", "files/upload"): _DELETE,
    ("POST", "python/uploadFile"): _UPLOAD,
    ("GET", "python/downloadFile"): replace(_DOWNLOAD, parameters=(*_DOWNLOAD.parameters, "filename")),
    ("GET", "files/{name}"): _METADATA,
    ("DELETE", "files/{name}"): _DELETE,
    ("GET", "files/{name}/content"): _DOWNLOAD,
    ("GET", "files/content/{name}"): _DOWNLOAD,
    ("DELETE", "files/content/{name}"): _DELETE,
    ("POST", "files/{name}/mkdir"): Operation(
        "Make a directory, and those on the way to it.",
        {200: json_of("File"), 201: json_of("File")},
        ("identifier", "path"),
        errors=(*_IN_SESSION, 507),
    ),
    ("GET", "files/{name}/mkdir"): _METADATA,
    ("DELETE", "files/{name}/mkdir"): _DELETE,
    ("POST", "files/{name}/rename"): Operation(
        "Rename a file or a directory.",
        {200: json_of("File")},
        ("identifier", "path", "if-match", "if-none-match"),
        json_of("Rename"),
        (*_IN_SESSION, *_WITH_BODY, 412, 507),
    ),
    ("GET", "files/{name}/rename"): _METADATA,
    ("DELETE", "files/{name}/rename"): _DELETE,
    ("GET", "session"): _ABOUT_SESSION,
    ("PUT", "session"): Operation(
        "Open a session, with environment variables.",
        {200: json_of("Session"), 201: json_of("Session")},
        ("identifier",),
        Content({JSON: "SessionRequest"}, is_required=False),
        (*_IN_SESSION, *_WITH_BODY),
    ),
    ("DELETE", "session"): Operation("End a session.", {204: NOTHING}, ("identifier",), errors=_ALWAYS),
    ("GET", "session/events"): Operation(
        "What happens to a session, to its end.",
        {200: Content({EVENTS: "Event"})},
        ("identifier", "last-event-id"),
        errors=_ALWAYS,
    ),
    ("POST", "session/keepAlive"): replace(_ABOUT_SESSION, summary="Use a session that lives, and nothing else."),
    ("POST", "session/cancel"): Operation(
        "Cancel all that runs or waits.", {200: json_of("Canceled")}, ("identifier",), errors=_IN_SESSION
    ),
    ("POST", "session/restart"): replace(
        _ABOUT_SESSION, summary="A fresh interpreter; files stay.", errors=_IN_SESSION
    ),
    ("GET", "session/variables"): Operation(
        "Variables as JSON: the named ones, or with `summary=true` what there are.",
        {200: json_of("Variables")},
        ("identifier", "variable-names", "summary"),
        errors=_IN_SESSION,
    ),
    ("PUT", "session/variables"): Operation(
        "Set variables.", {204: NOTHING}, ("identifier",), json_of("Object"), (*_IN_SESSION, *_WITH_BODY)
    ),
    ("GET", "listSessions"): Operation("The live sessions.", {200: json_of("Sessions")}, ("skip",), errors=_ALWAYS),
    ("POST", ".management/getSession"): replace(_ABOUT_SESSION, replies={200: json_of("ManagedSession")}),
    ("POST", ".management/listSessions"): Operation(
        "The live sessions.", {200: json_of("ManagedSessions")}, ("skip",), errors=_ALWAYS
    ),
    ("POST", ".management/stopSession"): Operation(
        "End a session.", {200: Content({"text/plain": "Text"})}, ("identifier",), errors=_ALWAYS
    ),
    ("GET", "metadata"): Operation("Runtimes and packages.", {200: json_of("Metadata")}, errors=_ALWAYS),
    ("POST", ".carrel/token"): Operation(
        "A token that is good for one session only.",
        {201: json_of("BoundToken")},
        body=json_of("BoundTokenRequest"),
        errors=(*_ALWAYS, *_WITH_BODY),
    ),
    ("GET", ".carrel/status"): Operation(
        "How the pool is, and what it has come to.", {200: json_of("PoolStatus")}, errors=_ALWAYS
    ),
    ("GET", ".carrel/sessions"): Operation(
        "The live sessions with what each has used.", {200: json_of("SessionTable")}, ("skip",), errors=_ALWAYS
    ),
    ("GET", ".carrel/logs"): Operation(
        "The pool's session log, newest first.",
        {200: json_of("SessionLog")},
        ("identifier-anywhere", "log-status", "log-from", "log-to", "skip"),
        errors=_ALWAYS,
    ),
    ("GET", ".carrel/image"): Operation("The pool's image.", {200: json_of("Image")}, errors=_ALWAYS),
    ("PUT", ".carrel/image"): Operation(
        "Move the pool to another image.",
        {200: json_of("Image")},
        body=json_of("ImageRequest"),
        errors=(*_ALWAYS, *_WITH_BODY),
    ),
    ("GET", ".carrel/egress"): Operation("What sessions may reach.", {200: json_of("Egress")}, errors=_ALWAYS),
    ("PUT", ".carrel/egress"): Operation(
        "Replace the egress list.",
        {200: json_of("Egress")},
        body=json_of("EgressRequest"),
        errors=(*_ALWAYS, *_WITH_BODY),
    ),
    ("POST", ".carrel/egress/test"): Operation(
        "What the egress list does with a target.",
        {200: json_of("EgressVerdict")},
        body=json_of("EgressTarget"),
        errors=(*_ALWAYS, *_WITH_BODY),
    ),
    ("POST", "mcp"): _MCP,
    ("GET", "mcp"): replace(_MCP, body=None),
    ("DELETE", "mcp"): replace(_MCP, body=None),
}

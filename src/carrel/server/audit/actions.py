"""What is recorded: every route that changes something, runs something, or hands out files, values, keys or tokens. One table.

What a record is worth, where `audit-full` is `block`:

    PLAIN    it is sent before the reply; what cannot be sent keeps the call from beginning
    CHANGE   before the change a record says that it is begun, and the change waits until that is on the disk
    GIVES    the reply holds a token or a key, and waits until the record of it is on the disk; else it is not given
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from carrel.server.mcp import tools


class Weight(Enum):
    PLAIN = 0
    CHANGE = 1
    GIVES = 2


@dataclass(frozen=True, slots=True)
class Action:
    name: str
    weight: Weight = Weight.PLAIN


Key = tuple[str, str]  # a route's pattern and a method

RUN, OPEN, END = Action("executions/run"), Action("sessions/open"), Action("sessions/end")
READ = Action("executions/read")  # of one that is over: what it came to is told
CANCEL, CANCEL_ALL = Action("executions/cancel"), Action("sessions/cancel")
UPLOAD, DOWNLOAD, REMOVE = Action("files/upload"), Action("files/download"), Action("files/delete")
BEGUN = Action("sessions/begin")  # recorded beside the call that began it
ISSUE = Action("tokens/issue", Weight.GIVES)

_DATA: dict[Key, Action] = {
    ("code/execute", "POST"): RUN,
    ("execute", "POST"): RUN,
    ("python/execute", "POST"): RUN,
    ("executions", "POST"): RUN,
    ("executions/{id}", "GET"): READ,
    ("executions/{id}/cancel", "POST"): CANCEL,
    ("files", "GET"): Action(
        "files/archive"
    ),  # all of them, where that is what was asked for; a listing is not recorded
    ("files", "POST"): UPLOAD,
    ("python/uploadFile", "POST"): UPLOAD,
    ("files/upload", "POST"): UPLOAD,
    ("python/downloadFile", "GET"): DOWNLOAD,
    ("files/{name}/content", "GET"): DOWNLOAD,
    ("files/content/{name}", "GET"): DOWNLOAD,
    ("files/{name}", "DELETE"): REMOVE,
    ("files/upload", "DELETE"): REMOVE,
    ("files/content/{name}", "DELETE"): REMOVE,
    ("files/{name}/rename", "DELETE"): REMOVE,
    ("files/{name}/mkdir", "DELETE"): REMOVE,
    ("files/{name}/rename", "POST"): Action("files/rename"),
    ("files/{name}/mkdir", "POST"): Action("files/mkdir"),
    ("session", "PUT"): OPEN,
    ("session", "DELETE"): END,
    (".management/stopSession", "POST"): END,
    ("session/restart", "POST"): Action("sessions/restart"),
    ("session/cancel", "POST"): CANCEL_ALL,
    ("session/variables", "GET"): Action("variables/read"),
    ("session/variables", "PUT"): Action("variables/write"),
    (".carrel/logs", "GET"): Action("logs/read"),
    (".carrel/token", "POST"): ISSUE,
    (".carrel/image", "PUT"): Action("pools/image", Weight.CHANGE),
    (".carrel/egress", "PUT"): Action("pools/egress", Weight.CHANGE),
}

_GROUP = "/subscriptions/{subscription}/resourceGroups/{group}"
_POOL = f"{_GROUP}/providers/Microsoft.App/sessionPools/{{pool}}"
_ASSIGNMENT = "{scope}/providers/Microsoft.Authorization/roleAssignments/{assignment}"


def _change(name: str) -> Action:
    return Action(name, Weight.CHANGE)


_ARM: dict[Key, Action] = {
    (_POOL, "PUT"): _change("pools/write"),
    (_POOL, "PATCH"): _change("pools/write"),
    (_POOL, "DELETE"): _change("pools/delete"),
    (f"{_POOL}/fetchMcpServerCredentials", "POST"): Action("mcpKeys/fetch", Weight.GIVES),
    (f"{_POOL}/rotateMcpServerCredentials", "POST"): _change("mcpKeys/rotate"),
    (f"{_POOL}/regenerateCredentials", "POST"): _change("mcpKeys/rotate"),
    (_GROUP, "PUT"): _change("groups/write"),
    (_GROUP, "PATCH"): _change("groups/write"),
    (_GROUP, "DELETE"): _change("groups/delete"),
    (_ASSIGNMENT, "PUT"): _change("roleAssignments/write"),
    (_ASSIGNMENT, "DELETE"): _change("roleAssignments/delete"),
}

_V1 = "/v1.0"
_GRAPH: dict[Key, Action] = {
    (f"{_V1}/me/changePassword", "POST"): _change("passwords/change"),
    (f"{_V1}/groups/{{id}}/members/$ref", "POST"): _change("members/add"),
    (f"{_V1}/groups/{{id}}/members/{{member}}/$ref", "DELETE"): _change("members/remove"),
}
for _kind in ("users", "groups", "servicePrincipals", "applications"):
    _GRAPH[f"{_V1}/{_kind}", "POST"] = _change("principals/create")
    _GRAPH[f"{_V1}/{_kind}/{{id}}", "PATCH"] = _change("principals/update")
    _GRAPH[f"{_V1}/{_kind}/{{id}}", "DELETE"] = _change("principals/delete")
for _kind in ("servicePrincipals", "applications"):
    _GRAPH[f"{_V1}/{_kind}/{{id}}/addPassword", "POST"] = _change("secrets/add")
    _GRAPH[f"{_V1}/{_kind}/{{id}}/removePassword", "POST"] = _change("secrets/remove")

_AUTHORITY: dict[Key, Action] = {
    ("/{tenant}/oauth2/v2.0/token", "POST"): ISSUE,
    ("/{tenant}/oauth2/token", "POST"): ISSUE,
    ("/{tenant}/oauth2/v2.0/devicecode", "POST"): Action("devices/begin"),
    ("/{tenant}/oauth2/devicecode", "POST"): Action("devices/begin"),
    ("/device", "POST"): Action("devices/answer"),
    ("/msi/token", "GET"): ISSUE,
    ("/metadata/identity/oauth2/token", "GET"): ISSUE,
}

ACTIONS: dict[Key, Action] = {**_DATA, **_ARM, **_GRAPH, **_AUTHORITY}

# Routes with another method than GET that change nothing, by why they are left out.
UNRECORDED: dict[Key, str] = {
    ("session/keepAlive", "POST"): "moves a clock",
    (".management/getSession", "POST"): "reads",
    (".management/listSessions", "POST"): "reads",
    (".carrel/egress/test", "POST"): "asks, and sends nothing",
    ("mcp", "POST"): "its tools are recorded each, as what they do",
    ("mcp", "DELETE"): "ends a connection, and no session",
    ("/subscriptions/{subscription}/providers/{namespace}/register", "POST"): "does nothing here",
    (f"{_V1}/directoryObjects/getByIds", "POST"): "reads",
    (f"{_V1}/directoryObjects/{{id}}/checkMemberGroups", "POST"): "reads",
    (f"{_V1}/users/{{id}}/getMemberGroups", "POST"): "reads",
    (f"{_V1}/groups/{{id}}/getMemberGroups", "POST"): "reads",
    (f"{_V1}/servicePrincipals/{{id}}/getMemberGroups", "POST"): "reads",
}

# Tools of MCP, as what they do. The one that lists files is not recorded, nor is one that launches, which makes a name only.
TOOLS: dict[str, Action] = {
    **dict.fromkeys((tools.RUN_PYTHON, tools.RUN_JAVASCRIPT, tools.RUN_CODE, tools.RUN_SHELL), RUN),
    tools.UPLOAD: UPLOAD,
    tools.DOWNLOAD: DOWNLOAD,
    tools.INTERRUPT: CANCEL_ALL,
    tools.STOP: END,
}

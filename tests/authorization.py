"""The authorisation matrix: every route there is, called with every role at every scope and with every kind of token.

What is called is real, what it is called on is not: a group, a pool and principals that nobody has, so that whoever has the right gets no
further than a 404 or a 400, and whoever has not gets 401 or 403. docs/security/authorization.md is this, written down (by
`make authorization`).
"""

from __future__ import annotations

import http.client
import json
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import local
from typing import Any
from urllib.parse import urlencode, urlsplit

from carrel import roles
from carrel.server import routes
from carrel.server.arm import routes as arm_routes
from carrel.server.graph import routes as graph_routes
from carrel.server.operator import routes as operator_routes
from carrel.storage import APPLICATION, ARM_AUDIENCE, AUDIENCES, GRAPH_AUDIENCE, State
from carrel.store import AssignmentRecord, PoolId, PrincipalRecord, Stamp, Store
from conftest import Server

DATA, ARM, GRAPH = AUDIENCES[0], ARM_AUDIENCE, GRAPH_AUDIENCE
SCOPES = ("P", "G", "S")  # a pool, its group, the subscription: the narrowest first
NOBODY = "no role"
OWN, OTHER = "matrix-own", "matrix-other"  # identifiers of sessions
KINDS = (
    "no token", "another plane's", "operator's, other pool", "MCP key", "bound, its session", "bound, another session"
)  # fmt: skip
REFUSED = (401, 403)
# Of the routes that read the body before they ask in which session it is meant.
_RUNS: dict[str, Any] = {"code/execute": {"properties": {"code": "1"}}}
_RUNS |= {pattern: {"code": "1"} for pattern in ("execute", "python/execute", "executions")}


@dataclass(frozen=True, slots=True)
class Row:
    """A route and method. `path` is what is called; `hidden` is the status that stands for a refusal besides 401 and 403."""

    plane: str
    method: str
    pattern: str
    path: str
    hidden: int = 0
    body: Any = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.method} {self.pattern}"


@dataclass
class Matrix:
    """Against a server, into whose store the principals are put while it runs."""

    server: Server

    def __post_init__(self) -> None:
        self.connection = self.server.connection
        self.state = State(self.server.state)
        self.subscription = f"/subscriptions/{self.connection['subscription']}"
        self.group = f"{self.subscription}/resourceGroups/matrix"
        self.pool = f"{self.group}/providers/Microsoft.App/sessionPools/matrix"
        self.people = {kind: PrincipalRecord(str(uuid.uuid4()), kind) for kind in ("User", "Group")}
        app = PrincipalRecord(str(uuid.uuid4()), "ServicePrincipal", app_id=str(uuid.uuid4()))
        self.people["ServicePrincipal"] = app
        self.holders = {(role.name, scope): str(uuid.uuid4()) for role in roles.ROLES.values() for scope in SCOPES}
        self.holders[NOBODY, ""] = str(uuid.uuid4())
        self._tokens: dict[tuple[str, str], str] = {}
        self._local = local()

    # ---- what is in the store meanwhile ----------------------------------------------------------------------------------

    def install(self) -> None:
        scopes = {"P": self.pool, "G": self.group, "S": self.subscription}
        with self._store() as store, store.transaction() as transaction:
            for person in self.people.values():
                transaction.principals.put(person)
            for (name, scope), oid in self.holders.items():
                if (role := roles.role_named(name)) is not None:
                    stamp = Stamp("matrix", "User", 0.0)
                    record = AssignmentRecord(oid, scopes[scope], role.id, oid, "ServicePrincipal", stamp)
                    transaction.assignments.put(record)

    def remove(self) -> None:
        with self._store() as store, store.transaction() as transaction:
            for person in self.people.values():
                transaction.principals.delete(person.id)
            for oid in self.holders.values():
                transaction.assignments.delete(oid)

    def _store(self) -> _Closing:
        return _Closing(Store.open(f"sqlite:///{self.server.state}/store/carrel.db", self.state.store_keys()))

    # ---- the rows --------------------------------------------------------------------------------------------------------

    def rows(self) -> list[Row]:
        return [*self._data(self._endpoint("matrix", "matrix")), *self._arm(), *self._graph(), *self._operator()]

    def _endpoint(self, group: str, pool: str) -> str:
        return f"{self.subscription}/resourceGroups/{group}/sessionPools/{pool}"

    def _data(self, endpoint: str) -> Iterator[Row]:
        tables = {**routes.FIXED, **routes.NAMED}
        served = [(each.pattern, method) for each in tables.values() for method in each.methods]
        for pattern, method in [*served, *((routes.MCP.pattern, method) for method in routes.MCP_METHODS)]:
            path = pattern.replace("{id}", "none").replace("{name}", "none.txt")
            yield Row(DATA, method, pattern, f"{endpoint}/{path}", body=_RUNS.get(pattern, {}))

    def _arm(self) -> Iterator[Row]:
        names = {"subscription": self.connection["subscription"], "group": "matrix", "pool": "matrix"}
        names |= {"namespace": "Microsoft.App", "location": "local", "role": roles.OWNER_ID}
        for route in arm_routes.ROUTES:
            path = route.pattern.text.replace("{scope}", self.pool)
            for name, value in names.items():
                path = path.replace(f"{{{name}}}", value)
            path = path.replace("{assignment}", str(uuid.uuid4())).replace("{operation}", str(uuid.uuid4()))
            assert "{" not in path, path
            version = route.versions[-1]
            for method in route.methods:
                yield Row(ARM, method, route.pattern.text, f"{path}?api-version={version}")

    def _graph(self) -> Iterator[Row]:
        ids = {
            "users": "User",
            "groups": "Group",
            "servicePrincipals": "ServicePrincipal",
            "applications": "ServicePrincipal",
        }
        for route in graph_routes.ROUTES:
            text = route.pattern.text
            record = self.people.get(ids.get(text.split("/")[2], ""))
            for method in route.methods:
                is_seen = method == "GET" and "{id}" in text and record is not None
                known = (record.app_id or record.id) if is_seen and record is not None else str(uuid.uuid4())
                path = text.replace("{id}", known).replace("{member}", str(uuid.uuid4()))
                if "servicePrincipals/{id}" in text and is_seen and record is not None:
                    path = text.replace("{id}", record.id)
                body: dict[str, list[str]] = {"ids": []} if text.endswith("getByIds") else {}
                yield Row(GRAPH, method, text, path, hidden=404 if is_seen else 0, body=body)

    def _operator(self) -> Iterator[Row]:
        """Its tokens are the control plane's, and so are its rows."""
        for route in operator_routes.ROUTES:
            for method in route.methods:
                yield Row(ARM, method, route.pattern.text, route.pattern.text)
        yield Row(ARM, "GET", "/metrics", "/metrics")

    # ---- calls -----------------------------------------------------------------------------------------------------------

    def by_roles(self, *, is_thorough: bool) -> dict[str, dict[str, str]]:
        """Of each row the narrowest scope at which each role opens it, "-" for none; where nobody needs a role, "any".

        Thorough asks at all scopes, also where a narrower one has opened it: rights are inherited."""
        with ThreadPoolExecutor(4) as threads:
            found = threads.map(lambda row: self._by_role(row, is_thorough), self.rows())
            return {row.plane + row.name: cells for row, cells in zip(self.rows(), found, strict=True)}

    def _by_role(self, row: Row, is_thorough: bool) -> dict[str, str]:
        names = [role.name for role in roles.ROLES.values()]
        if self._opens(row, self._token(row.plane, self.holders[NOBODY, ""])):
            return dict.fromkeys([*names, NOBODY], "any")
        cells = {NOBODY: "-"}
        for name in names:
            cells[name] = "-"
            for scope in SCOPES:
                if cells[name] != "-" and not is_thorough:
                    break
                is_open = self._opens(row, self._token(row.plane, self.holders[name, scope]))
                if cells[name] == "-":
                    cells[name] = scope if is_open else "-"
                else:
                    assert is_open, f"{row.name}: {name} has it at {cells[name]}, and not at {scope}"
        return cells

    def by_kinds(self) -> dict[str, dict[str, str]]:
        """Of each row what tokens of each kind come to: "yes", or the status that refuses them."""
        real = {row.name: row for row in self._data(self._endpoint(self.connection["resource_group"], "python"))}
        with ThreadPoolExecutor(4) as threads:
            found = threads.map(lambda row: self._by_kind(row, real.get(row.name)), self.rows())
            return {row.plane + row.name: cells for row, cells in zip(self.rows(), found, strict=True)}

    def _by_kind(self, row: Row, real: Row | None) -> dict[str, str]:
        oid = self.state.object_id
        elsewhere = ARM if row.plane == DATA else DATA
        everything = {"roles": [role.name for role in roles.ROLES.values()], "carrel_pools": ["other"]}
        key = {"x-ms-apikey": self.connection["pools"]["python"]["mcp_key"] or ""}
        statuses = [
            self._call(row, None),
            self._call(row, self._token(elsewhere, oid)),
            self._call(row, self.state.issue_token(row.plane, claims=everything)),
            self._call(real or row, None, key),
            *(self._call(self._named(real or row, each), self._bound(row.plane)) for each in (OWN, OTHER)),
        ]
        return {
            kind: str(status) if self._is_refusal(row, status) else "yes"
            for kind, status in zip(KINDS, statuses, strict=True)
        }

    def _named(self, row: Row, identifier: str) -> Row:
        """The row about a session. MCP's is named by its environment, whose refusal is a result: tests/test_bound_tokens.py."""
        if row.plane != DATA:
            return row
        return Row(row.plane, row.method, row.pattern, f"{row.path}?identifier={identifier}", row.hidden, row.body)

    def _bound(self, audience: str) -> str:
        scope = PoolId(self.connection["subscription"], self.connection["resource_group"], "python").resource_id
        claims = {**APPLICATION, "carrel_identifier": OWN, "carrel_scope": scope}
        return self.state.issue_token(audience, claims=claims)

    def _token(self, audience: str, oid: str) -> str:
        key = (audience, oid)
        if key not in self._tokens:
            self._tokens[key] = self.state.issue_token(audience, subject=oid, claims=APPLICATION)
        return self._tokens[key]

    def _opens(self, row: Row, token: str) -> bool:
        return not self._is_refusal(row, self._call(row, token))

    def _is_refusal(self, row: Row, status: int) -> bool:
        assert status < 500, f"{row.name}: {status}"
        return status in (*REFUSED, row.hidden)

    def _call(self, row: Row, token: str | None, headers: Mapping[str, str] = {}) -> int:
        """By a connection of this thread's own: a client library takes longer than the server."""
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = http.client.HTTPConnection(urlsplit(self.connection["http"]).netloc, timeout=60)
            self._local.connection = connection
        path = row.path
        if row.plane == DATA and row.pattern != routes.MCP.pattern:
            path += ("&" if "?" in path else "?") + urlencode({"api-version": "2025-10-02-preview"})
        body = None if row.method in ("GET", "HEAD", "DELETE") else json.dumps(row.body)
        sent = {"Content-Type": "application/json", **headers}
        connection.request(
            row.method, path, body, sent | ({} if token is None else {"Authorization": f"Bearer {token}"})
        )
        reply = connection.getresponse()
        if (reply.getheader("content-type") or "").startswith("text/event-stream"):
            connection.close()  # it would go on
        else:
            reply.read()
        return reply.status


class _Closing:
    def __init__(self, store: Store) -> None:
        self._opened = store

    def __enter__(self) -> Store:
        return self._opened

    def __exit__(self, *_: object) -> None:
        self._opened.close()


# ---- the page ----------------------------------------------------------------------------------------------------------

_TITLES = {DATA: "Data plane", ARM: "Control plane and operator plane (`/.carrel/…`)", GRAPH: "Graph"}
_HEAD = """# Who may call what

Written by `make authorization`, which calls every route of a running server with every role at every scope and with every kind of token, and held to it by `tests/test_authorization_matrix.py`.
[Roles](../guides/roles.md) explains roles, scopes and tokens. Paths without any token are `/health`, `/openapi.json`, `/metadata/endpoints`, the extensions' index, the console's files, the authority's own, and, on this
machine, the managed identity's two.

**By role**: the narrowest scope of an assignment that opens the route: `P` the pool, `G` its resource group, `S` the subscription (what opens it at one opens it at all above). `any`: no role is needed; lists
then show what the caller may see, of Graph itself. `-`: the role does not open it anywhere.

**By token**: `yes` where such a token comes through, else the status that refuses it. *Another plane's* is a token of an Owner and Executor of everything for another audience; *operator's, other pool* one of
`carrel token` with every role on a pool that is not this one; *bound* are identifier-bound tokens. MCP takes any session's name in its arguments, where another than the own is refused as well.
"""  # noqa: E501 - lines of a page


def page(by_roles: dict[str, dict[str, str]], by_kinds: dict[str, dict[str, str]], rows: list[Row]) -> str:
    names = [NOBODY, *(role.name for role in roles.ROLES.values())]
    short = {name: name.replace("Azure ContainerApps ", "").replace("Container Apps ", "") for name in names}
    lines = [_HEAD]
    for plane, title in _TITLES.items():
        mine = [row for row in rows if row.plane == plane]
        lines += [f"## {title}: by role", "", _line(["Route", *short.values()]), _line(["---"] * (len(names) + 1))]
        lines += [_line([f"`{row.name}`", *(by_roles[plane + row.name][name] for name in names)]) for row in mine]
        lines += ["", f"## {title}: by token", "", _line(["Route", *KINDS]), _line(["---"] * (len(KINDS) + 1))]
        lines += [_line([f"`{row.name}`", *(by_kinds[plane + row.name][kind] for kind in KINDS)]) for row in mine]
        lines.append("")
    return "\n".join(lines)


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"

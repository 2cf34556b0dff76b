"""Who a caller is, and what it may: rights are looked up at each call, so that a change counts for tokens that are out already.

The answer comes from a snapshot of role assignments and principals in memory, which is made anew when the store has changed. Tokens
that an operator made (`carrel token`) bring their rights with them, as claims. An identifier-bound token has at most one right, to use
one session of one pool, and that only as long as whom it was made for has it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from carrel import roles
from carrel.audiences import Plane
from carrel.errors import AuthorizationFailed, Forbidden, StoreUnavailable, Unauthorized
from carrel.store import PoolId, Stamp, Store, Transaction
from carrel.store.records import Home

MCP_KEY = "Key"  # the kind of a caller that has a pool's MCP key and no token: it is let in by the route alone
WATCH_S = 0.3  # between two looks whether somebody else has changed anything
BELIEVED_S = 30.0  # for so long what was read last is believed of a store that does not answer
_REMEMBERED = 20_000  # decisions
_SHORT = (
    512  # characters of a scope that one is remembered of: a path may have 64 kB, and nobody needs a right to name one
)
_TABLES = ("assignments", "principals")  # what a snapshot is made of

_log = logging.getLogger("carrel.access")


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller, as its token says. Ids compare in lower case."""

    id: str  # oid
    ids: frozenset[str]  # this and its groups', as far as the token says
    name: str  # for messages and systemData
    kind: str  # ServicePrincipal, User, ManagedIdentity, or MCP_KEY
    plane: Plane
    audience: str
    expires_at: float  # until then this may be believed of the token
    tenant: str = ""
    app_id: str = ""
    is_granted: bool = False  # of `carrel token`: its rights are the next two, and no assignments
    granted_roles: frozenset[str] = frozenset()  # names
    granted_pools: frozenset[str] = frozenset()  # lower-case names of pools, resource ids of pools elsewhere, or "*"
    identifier: str | None = field(default=None, repr=False)  # of the one session that it may use
    bound_scope: str = ""  # and the pool of that
    ends_at: float = 0.0  # the token's own `exp`; 0 where it has none

    def stamp(self, now: float) -> Stamp:
        """Half of systemData, for what it does now."""
        return Stamp(self.id, {"User": "User", "ManagedIdentity": "ManagedIdentity"}.get(self.kind, "Application"), now)

    def require_audience(self, plane: Plane) -> None:
        """Raises Unauthorized where the token is for another plane of the API. One for a single session is of the data plane."""
        if self.plane is not plane or (self.identifier is not None and plane is not Plane.DATA):
            raise refused("the token's audience is that of another service", "audience")

    def require_identifier(self, identifier: str) -> None:
        """Raises Forbidden where the token is good for another session than this one."""
        if self.identifier is not None and self.identifier != identifier:
            raise Forbidden("The token is good for another session.", target="identifier")


class Known(Protocol):
    """What a snapshot needs of a principal; the store's records are such."""

    @property
    def id(self) -> str: ...
    @property
    def is_enabled(self) -> bool: ...
    @property
    def groups(self) -> tuple[str, ...]: ...


class Snapshot:
    """Assignments and principals of one moment, and what was decided by them."""

    def __init__(self, assignments: Iterable[roles.Assignment] = (), principals: Iterable[Known] = ()) -> None:
        self._of: dict[str, list[tuple[str, roles.RoleDefinition]]] = {}
        for each in assignments:
            if (role := roles.ROLES.get(each.role_id.lower())) is not None:
                self._of.setdefault(each.principal_id.lower(), []).append((roles.normal(each.scope), role))
        known = list(principals)
        self._groups: Mapping[str, frozenset[str]] = {
            each.id.lower(): frozenset(group.lower() for group in each.groups) for each in known if each.groups
        }
        self._disabled = frozenset(each.id.lower() for each in known if not each.is_enabled)
        self.principals = frozenset(each.id.lower() for each in known)
        self._decided: dict[tuple[frozenset[str], str, str, bool], bool] = {}

    def allows(self, ids: frozenset[str], action: str, scope: str, *, is_data: bool) -> bool:
        if len(scope) > _SHORT:
            return self._decide(ids, action, scope, is_data)
        key = (ids, action, scope, is_data)
        decided = self._decided.get(key)
        if decided is None:
            if len(self._decided) >= _REMEMBERED:
                self._decided.clear()
            decided = self._decided[key] = self._decide(ids, action, scope, is_data)
        return decided

    def allows_somewhere(self, ids: frozenset[str], action: str) -> bool:
        return any(role.allows(action) for _, role in self._rights(ids))

    def has_any(self, ids: frozenset[str], scope: str) -> bool:
        """Whether there is any role for them on the way to `scope`, or below it."""
        return any(roles.covers(at, scope) or roles.covers(scope, at) for at, _ in self._rights(ids))

    def _decide(self, ids: frozenset[str], action: str, scope: str, is_data: bool) -> bool:
        return any(
            roles.covers(above, scope) and role.allows(action, is_data=is_data) for above, role in self._rights(ids)
        )

    def _rights(self, ids: frozenset[str]) -> Iterator[tuple[str, roles.RoleDefinition]]:
        """Scopes and roles, its own and those of its groups. One that is disabled has none, and one of a group that is neither."""
        if ids & self._disabled:
            return
        everyone = ids.union(*(self._groups.get(each, frozenset()) for each in ids)) - self._disabled
        for each in everyone:
            yield from self._of.get(each, ())


class Access:
    """What every plane asks. `home` is where the pools are that operators' tokens name."""

    def __init__(self, home: Home, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        """Reads the store, in the caller's thread."""
        self._home = home
        self._store = store
        self._clock = clock
        with store.transaction() as transaction:
            self._generation, self._snapshot = _read(transaction)
        self._read_at = clock()

    def is_known(self, principal_id: str) -> bool:
        """Whether it is a principal of this server's own, by its id in lower case."""
        return principal_id in self._snapshot.principals

    async def refresh(self) -> None:
        """Called after a change of our own, which counts from its acknowledgement on."""
        self._generation, self._snapshot = await self._store.run(_read)
        self._read_at = self._clock()

    async def watch(self) -> None:
        """Until cancelled: sees what others change. While the store does not answer, what was read last counts for a while."""
        while True:
            await asyncio.sleep(WATCH_S)
            try:
                if await self._store.generation(*_TABLES) != self._generation:
                    await self.refresh()
                self._read_at = self._clock()
            except Exception as error:  # whatever a database raises: the next look may find it well
                _log.log(_level(self._age()), "rights cannot be read", extra={"kind": type(error).__name__})

    def may(self, principal: Principal, action: str, scope: str, *, is_data: bool = False) -> bool:
        """Whether it has the right to `action` on `scope`, a path of ARM's in any case."""
        if principal.identifier is not None and not _is_bound_to(principal, action, scope, is_data):
            return False
        if principal.is_granted:
            return self._is_granted(principal, action, scope, is_data)
        self._require_fresh()
        return self._snapshot.allows(principal.ids, action, scope, is_data=is_data)

    def may_somewhere(self, principal: Principal, action: str) -> bool:
        """Whether it has the right to a management action at any scope at all."""
        if principal.identifier is not None:
            return False
        if principal.is_granted:
            named = (roles.role_named(name) for name in principal.granted_roles)
            return any(role is not None and role.allows(action) for role in named)
        self._require_fresh()
        return self._snapshot.allows_somewhere(principal.ids, action)

    def require(self, principal: Principal, action: str, scope: str, *, is_data: bool = False) -> None:
        """Raises AuthorizationFailed, in the words of Azure, which people search for."""
        if not self.may(principal, action, scope, is_data=is_data):
            raise AuthorizationFailed(
                f"The client '{principal.name}' with object id '{principal.id}' does not have authorization to perform action "
                f"'{action}' over scope '{scope}' or the scope is invalid. If access was recently granted, please refresh your "
                "credentials."
            )

    def sees(self, principal: Principal, scope: str) -> bool:
        """Whether it may know that there is something at `scope`: it has any right there, above or below."""
        if principal.identifier is not None:
            return False
        if principal.is_granted:
            has_role = any(roles.role_named(name) is not None for name in principal.granted_roles)
            pools = self._scopes_of(principal)
            near = any(roles.covers(pool, scope) or roles.covers(scope, pool) for pool in pools)
            return has_role and ("*" in principal.granted_pools or near)
        self._require_fresh()
        return self._snapshot.has_any(principal.ids, scope)

    def _is_granted(self, principal: Principal, action: str, scope: str, is_data: bool) -> bool:
        named = (roles.role_named(name) for name in principal.granted_roles)
        if not any(role is not None and role.allows(action, is_data=is_data) for role in named):
            return False
        return "*" in principal.granted_pools or any(roles.covers(pool, scope) for pool in self._scopes_of(principal))

    def _scopes_of(self, principal: Principal) -> Iterator[str]:
        """Of the pools that an operator's token names. What is no pool's name or path gives nothing: an empty one would be all of them."""
        for pool in principal.granted_pools:
            id = PoolId(self._home.subscription, self._home.resource_group, pool).lower
            with contextlib.suppress(ValueError):
                yield PoolId.of(pool if pool.startswith("/") else id).lower

    def _require_fresh(self) -> None:
        if self._age() > BELIEVED_S:
            raise StoreUnavailable("Rights cannot be looked up: the database of this server does not answer.")

    def _age(self) -> float:
        return self._clock() - self._read_at


def _is_bound_to(principal: Principal, action: str, scope: str, is_data: bool) -> bool:
    """One of `carrel token` may leave the pool to `granted_pools`."""
    if not is_data or action != roles.EXECUTE:
        return False
    if not principal.bound_scope:
        return principal.is_granted
    return roles.normal(scope) == roles.normal(principal.bound_scope)


def _read(transaction: Transaction) -> tuple[int, Snapshot]:
    snapshot = Snapshot(transaction.assignments.list(), transaction.principals.list())
    return transaction.generation(*_TABLES), snapshot


def _level(age: float) -> int:
    """The first failure is told, and each of those that have an effect."""
    return logging.WARNING if age < 2 * WATCH_S or age > BELIEVED_S else logging.DEBUG


def refused(reason: str, why: str = "invalid") -> Unauthorized:
    """A token that is not good here."""
    challenge = f'Bearer realm="carrel", error="invalid_token", error_description="{reason}"'
    error = Unauthorized(f"The request was refused: {reason}.", headers={"WWW-Authenticate": challenge})
    error.why = why
    return error

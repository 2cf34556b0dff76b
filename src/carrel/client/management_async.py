"""The client of the control plane for asyncio: Management's methods, each to be awaited."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import date, datetime

from carrel.client import arm, arm_roles, auditing, health, recorded
from carrel.client.asynchronous import AsyncClient
from carrel.client.auditing import AuditRecord
from carrel.client.errors import ApiError
from carrel.client.health import ServerHealth
from carrel.client.identities_async import AsyncIdentities
from carrel.client.managing import WAIT_S, OnProgress
from carrel.client.managing_async import AsyncSending
from carrel.client.recorded import UsageReport
from carrel.client.resources import (
    PoolSettings,
    Principal,
    ResourceGroup,
    RoleAssignment,
    RoleDefinition,
    SessionPool,
    Subscription,
)


class AsyncManagement(AsyncSending):
    """Session pools, resource groups and rights, of Carrel or of Azure. Calls that name no resource group are about the client's own."""

    # ---- pools -----------------------------------------------------------------------------------------------------------------

    async def pools(self, *, resource_group: str | None = None) -> list[SessionPool]:
        """Of one group, or of the whole subscription."""
        return [each async for each in self._pages(arm.pools(self.subscription, resource_group))]

    async def pool(self, name: str, *, resource_group: str | None = None) -> SessionPool:
        return await self._send(arm.pool(self._pool(name, resource_group)))

    async def create_pool(
        self,
        name: str,
        settings: PoolSettings | None = None,
        *,
        location: str | None = None,
        resource_group: str | None = None,
        if_match: str | None = None,
        if_none_match: str | None = None,
        is_waiting: bool = True,
        on_progress: OnProgress | None = None,
        timeout: float = WAIT_S,
    ) -> SessionPool:
        """Make a pool, or set one that is there to `settings`; `if_none_match="*"` makes only a new one.

        Waits until it is ready, unless told otherwise. Raises OperationFailed where it cannot be.
        """
        path = self._pool(name, resource_group)
        wanted = settings or PoolSettings(container_type="PythonLTS")
        reply = await self._send(arm.put_pool(path, location or self.location, wanted, if_match, if_none_match))
        if not is_waiting:
            return SessionPool.parse(reply.json(), reply.headers.get("ETag", ""))
        await self._finish(reply, on_progress, timeout)
        return await self._send(arm.pool(path))

    async def update_pool(
        self,
        name: str,
        settings: PoolSettings,
        *,
        resource_group: str | None = None,
        if_match: str | None = None,
        is_waiting: bool = True,
        on_progress: OnProgress | None = None,
        timeout: float = WAIT_S,
    ) -> SessionPool:
        """Change what `settings` names and leave the rest. Live sessions go on as they were."""
        path = self._pool(name, resource_group)
        reply = await self._send(arm.patch_pool(path, settings, if_match))
        if is_waiting:
            await self._finish(reply, on_progress, timeout)
        return await self._send(arm.pool(path))

    async def delete_pool(
        self,
        name: str,
        *,
        resource_group: str | None = None,
        if_match: str | None = None,
        is_waiting: bool = True,
        on_progress: OnProgress | None = None,
        timeout: float = WAIT_S,
    ) -> bool:
        """End a pool and its sessions. Whether there was one."""
        reply = await self._send(arm.delete_pool(self._pool(name, resource_group), if_match))
        if is_waiting:
            await self._finish(reply, on_progress, timeout)
        return reply.status_code != 204

    async def mcp_key(self, name: str, *, resource_group: str | None = None) -> str:
        """The key for the pool's MCP endpoint."""
        return await self._send(arm.mcp_key(self._pool(name, resource_group)))

    async def rotate_mcp_key(self, name: str, *, resource_group: str | None = None) -> str:
        """A new key; the old one is good no more."""
        return await self._send(arm.rotate_mcp_key(self._pool(name, resource_group)))

    async def client(self, name: str, *, resource_group: str | None = None, identifier: str = "default") -> AsyncClient:
        """To run code in the pool, with the same credential."""
        found = await self.pool(name, resource_group=resource_group)
        return AsyncClient(
            found.endpoint, self.credential, identifier=identifier, ca_bundle=self._ca_of(found.endpoint)
        )

    async def health(self) -> ServerHealth:
        """How the server and its pools are, and what went wrong lately. Beyond Azure."""
        return await self._send(health.health())

    async def usage(
        self, *, first: date | None = None, last: date | None = None, by: Sequence[str] = recorded.BY
    ) -> UsageReport:
        """What the pools that one may see have used, those that are gone too; this month up to today, unless days of UTC are named.

        `by` is some of pool, principal and day. Beyond Azure.
        """
        return await self._send(recorded.usage(first, last, by))

    async def usage_csv(
        self, *, first: date | None = None, last: date | None = None, by: Sequence[str] = recorded.BY
    ) -> str:
        """The same as a table for spreadsheets."""
        return await self._send(recorded.usage_csv(first, last, by))

    # ---- groups and subscriptions ----------------------------------------------------------------------------------------------

    async def groups(self) -> list[ResourceGroup]:
        return [each async for each in self._pages(arm.groups(self.subscription))]

    async def group(self, name: str) -> ResourceGroup:
        return await self._send(arm.group(self._group(name)))

    async def create_group(
        self, name: str, *, location: str | None = None, tags: Mapping[str, str] | None = None
    ) -> ResourceGroup:
        return await self._send(arm.put_group(self._group(name), location or self.location, tags))

    async def delete_group(
        self,
        name: str,
        *,
        is_waiting: bool = True,
        on_progress: OnProgress | None = None,
        timeout: float = WAIT_S,
    ) -> None:
        """With all pools in it."""
        reply = await self._send(arm.delete_group(self._group(name)))
        if is_waiting:
            await self._finish(reply, on_progress, timeout)

    async def subscriptions(self) -> list[Subscription]:
        return [each async for each in self._pages(arm.subscriptions())]

    # ---- rights ----------------------------------------------------------------------------------------------------------------

    async def role_definitions(self, *, scope: str | None = None, role: str | None = None) -> list[RoleDefinition]:
        found = [each async for each in self._pages(arm_roles.role_definitions(scope or self.scope(), role))]
        return arm_roles.of_guid(found, role)

    async def role_assignments(
        self, *, scope: str | None = None, is_inherited: bool = False, principal: str | None = None
    ) -> list[RoleAssignment]:
        """Those at a scope and below; with `is_inherited` those at it and above; with `principal` one principal's alone."""
        call = arm_roles.role_assignments(scope or self.scope(), arm_roles.condition(is_inherited, principal))
        return [each async for each in self._pages(call)]

    async def assign_role(
        self,
        role: str,
        principal: str,
        *,
        scope: str | None = None,
        kind: str | None = None,
        name: str | None = None,
        description: str | None = None,
    ) -> RoleAssignment:
        """Give a principal (its object id) a role, by its name or GUID. `name` is the assignment's own GUID."""
        where = scope or self.scope()
        role_id = await self.role_id(role, scope=where)
        return await self._send(
            arm_roles.put_assignment(where, name or str(uuid.uuid4()), role_id, principal, kind, description)
        )

    async def remove_assignment(self, assignment_id: str) -> bool:
        """By its resource id. Whether there was one."""
        return await self._send(arm_roles.delete_assignment(assignment_id))

    async def role_id(self, role: str, *, scope: str | None = None) -> str:
        """The resource id of a role. Raises ApiError 404 for an unknown one."""
        if role.startswith("/"):
            return role
        if arm_roles.GUID.fullmatch(role):
            return arm_roles.definition_id(self.subscription, role)
        found = await self.role_definitions(scope=scope, role=role)
        if not found:
            raise ApiError(404, "RoleDefinitionDoesNotExist", f"there is no role {role!r}", "roleDefinitionId")
        return found[0].id

    async def audit(
        self,
        *,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        pool: str | None = None,
        principal: str | None = None,
        action: str | None = None,
        outcome: str | None = None,
        session: str | None = None,
        trace: str | None = None,
        is_newest_first: bool = True,
    ) -> AsyncIterator[AuditRecord]:
        """The audit log of a Carrel server, as far as the caller may read it. `action` may be the first part of one, such as `pools`."""
        call = auditing.records(
            since=since,
            until=until,
            is_newest_first=is_newest_first,
            pool=pool,
            principal=principal,
            action=action,
            outcome=outcome,
            session=session,
            trace=trace,
        )
        async for each in self._pages(call):
            yield each

    # ---- the directory -----------------------------------------------------------------------------------------------------------

    async def me(self) -> Principal:
        """Whom the credential stands for."""
        return await self._send(arm_roles.me(), await self.directory())

    async def find_principal(self, text: str) -> Principal:
        """By a user's name, an application id, an object id or a display name. Raises ApiError 404."""
        graph = await self.directory()
        if arm_roles.GUID.fullmatch(text) and (
            found := [each async for each in self._pages(arm_roles.principals([text]), graph)]
        ):
            return found[0]
        for call in (arm_roles.service_principal(text), arm_roles.user(text)):
            async for each in self._pages(call, graph):
                return each
        raise ApiError(404, "PrincipalNotFound", f"there is no user or service principal {text!r}", "principalId")

    async def principals(self, ids: Sequence[str]) -> list[Principal]:
        """Those of them that there are."""
        return [each async for each in self._pages(arm_roles.principals(ids), await self.directory())] if ids else []

    @property
    def identities(self) -> AsyncIdentities:
        """Who can sign in at the server's own authority."""
        return AsyncIdentities(self)

    async def directory(self) -> str:
        """Where Graph is."""
        if self._graph is None:
            self._graph = self._graph_of(await self._send(arm.metadata()))
        return self._graph

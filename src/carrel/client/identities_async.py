"""The same as identities.py for asyncio."""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING, TypeVar

from carrel.client import approving, graph
from carrel.client.calls import Call
from carrel.client.graph import Secret
from carrel.client.resources import Principal

if TYPE_CHECKING:
    from carrel.client.management_async import AsyncManagement


T = TypeVar("T")


class AsyncIdentities:
    """Users, applications, managed identities and groups; `management.identities` of an AsyncManagement."""

    def __init__(self, management: AsyncManagement) -> None:
        self._management = management

    async def list(self) -> list[Principal]:
        """Users first, then applications and managed identities, then groups."""
        at = await self._management.directory()
        return [
            each
            for what in (graph.USERS, graph.APPLICATIONS, graph.GROUPS)
            async for each in self._management._pages(graph.listing(what), at)
        ]

    async def find(self, text: str) -> Principal:
        """By object id, user name, client id or display name, in any case. Raises ApiError where there is none, or more than one."""
        return graph.chosen(await self.list(), text)

    async def create_user(
        self, name: str, *, display_name: str | None = None, password: str | None = None
    ) -> Principal:
        """Without a password nobody can sign in as this user yet."""
        return await self._send(graph.create(graph.USERS, graph.user(name, display_name, password)))

    async def create_application(self, display_name: str, *, is_managed: bool = False) -> Principal:
        """An application, which signs in by a secret of `add_secret`; or a managed identity of this server, which has none."""
        return await self._send(graph.create(graph.APPLICATIONS, graph.application(display_name, is_managed)))

    async def create_group(self, display_name: str) -> Principal:
        return await self._send(graph.create(graph.GROUPS, graph.group(display_name)))

    async def enable(self, principal: Principal, *, is_enabled: bool = True) -> None:
        """A disabled one cannot sign in and has no rights; all its sign-ins end."""
        await self._send(graph.update(principal, {"accountEnabled": is_enabled}))

    async def delete(self, principal: Principal) -> None:
        """With its secrets and roles."""
        await self._send(graph.delete(principal))

    async def set_password(self, user: Principal, password: str) -> None:
        """All sign-ins of before end."""
        await self._send(graph.update(user, graph.new_password(password)))

    async def secrets(self, application: Principal) -> builtins.list[Secret]:
        """What it has, without the secrets themselves."""
        return graph.secrets(await self._send(graph.show(application)))

    async def add_secret(self, application: Principal, *, days: float | None = None) -> Secret:
        """A further one, whose `text` is told this once; those before stay good."""
        return await self._send(graph.add_secret(application, days))

    async def remove_secret(self, application: Principal, secret_id: str) -> None:
        await self._send(graph.remove_secret(application, secret_id))

    async def members(self, group: Principal) -> builtins.list[Principal]:
        at = await self._management.directory()
        return [each async for each in self._management._pages(graph.members(group), at)]

    async def add_member(self, group: Principal, member: Principal) -> None:
        """Roles of the group are its members'."""
        await self._send(graph.add_member(group, member, await self._management.directory()))

    async def remove_member(self, group: Principal, member: Principal) -> None:
        await self._send(graph.remove_member(group, member))

    async def answer_device(self, user_code: str, user_name: str, password: str, *, is_approved: bool) -> None:
        """Say for a person whether a device may sign in as them. Raises ApiError where name and password are wrong, or no device waits."""
        address, form = approving.form(self._management.endpoint, user_code, user_name, password, is_approved)
        approving.check(await self._management._http.post(address, data=form, headers=approving.HEADERS))

    async def _send(self, call: Call[T]) -> T:
        return await self._management._send(call, await self._management.directory())

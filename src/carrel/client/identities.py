"""Identities: who can sign in at a server's authority, and have roles."""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING, TypeVar

from carrel.client import approving, graph
from carrel.client.calls import Call
from carrel.client.graph import Secret
from carrel.client.resources import Principal

if TYPE_CHECKING:
    from carrel.client.management import Management


T = TypeVar("T")


class Identities:
    """Users, applications, managed identities and groups; `management.identities`. Making them needs the right to give roles."""

    def __init__(self, management: Management) -> None:
        self._management = management

    def list(self) -> list[Principal]:
        """Users first, then applications and managed identities, then groups."""
        at = self._management.directory()
        return [
            each
            for what in (graph.USERS, graph.APPLICATIONS, graph.GROUPS)
            for each in self._management._pages(graph.listing(what), at)
        ]

    def find(self, text: str) -> Principal:
        """By object id, user name, client id or display name, in any case. Raises ApiError where there is none, or more than one."""
        return graph.chosen(self.list(), text)

    def create_user(self, name: str, *, display_name: str | None = None, password: str | None = None) -> Principal:
        """Without a password nobody can sign in as this user yet."""
        return self._send(graph.create(graph.USERS, graph.user(name, display_name, password)))

    def create_application(self, display_name: str, *, is_managed: bool = False) -> Principal:
        """An application, which signs in by a secret of `add_secret`; or a managed identity of this server, which has none."""
        return self._send(graph.create(graph.APPLICATIONS, graph.application(display_name, is_managed)))

    def create_group(self, display_name: str) -> Principal:
        return self._send(graph.create(graph.GROUPS, graph.group(display_name)))

    def enable(self, principal: Principal, *, is_enabled: bool = True) -> None:
        """A disabled one cannot sign in and has no rights; all its sign-ins end."""
        self._send(graph.update(principal, {"accountEnabled": is_enabled}))

    def delete(self, principal: Principal) -> None:
        """With its secrets and roles."""
        self._send(graph.delete(principal))

    def set_password(self, user: Principal, password: str) -> None:
        """All sign-ins of before end."""
        self._send(graph.update(user, graph.new_password(password)))

    def secrets(self, application: Principal) -> builtins.list[Secret]:
        """What it has, without the secrets themselves."""
        return graph.secrets(self._send(graph.show(application)))

    def add_secret(self, application: Principal, *, days: float | None = None) -> Secret:
        """A further one, whose `text` is told this once; those before stay good."""
        return self._send(graph.add_secret(application, days))

    def remove_secret(self, application: Principal, secret_id: str) -> None:
        self._send(graph.remove_secret(application, secret_id))

    def members(self, group: Principal) -> builtins.list[Principal]:
        return builtins.list(self._management._pages(graph.members(group), self._management.directory()))

    def add_member(self, group: Principal, member: Principal) -> None:
        """Roles of the group are its members'."""
        self._send(graph.add_member(group, member, self._management.directory()))

    def remove_member(self, group: Principal, member: Principal) -> None:
        self._send(graph.remove_member(group, member))

    def answer_device(self, user_code: str, user_name: str, password: str, *, is_approved: bool) -> None:
        """Say for a person whether a device may sign in as them. Raises ApiError where name and password are wrong, or no device waits."""
        address, form = approving.form(self._management.endpoint, user_code, user_name, password, is_approved)
        approving.check(self._management._http.post(address, data=form, headers=approving.HEADERS))

    def _send(self, call: Call[T]) -> T:
        return self._management._send(call, self._management.directory())

"""The token endpoint's work: gather what is known, have it decided, carry it out."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from carrel.server.authority.claims import access_claims, client_info, id_claims
from carrel.server.authority.devices import Devices
from carrel.server.authority.directory import Client, Directory, Verdict
from carrel.server.authority.grants import Facts, decide
from carrel.server.authority.refreshing import Refreshing
from carrel.server.authority.resources import Resources, Wanted
from carrel.server.authority.throttle import Throttle
from carrel.storage import State
from carrel.store import GrantRecord, PrincipalRecord
from carrel.wire.oauth import DEVICE_GRANT, Form, OAuthError, invalid_client, missing

TOKEN_S = 3600  # as Entra's; who loses a right loses it at once all the same


@dataclass(frozen=True, slots=True)
class Tokens:
    state: State
    directory: Directory
    resources: Resources
    devices: Devices
    refreshing: Refreshing
    throttle: Throttle
    clock: Callable[[], float] = time.time

    async def answer(self, form: Form, peer: str, issuer: str) -> dict[str, Any]:
        """The reply to a token request. `issuer` is the address of this authority as the client called it. Raises OAuthError."""
        client = await self.directory.client(form.client_id) if form.client_id else None
        if client is None or client.principal is None:
            return await self._for_user(form, client, issuer)
        decide(Facts(form, client, await self._verdict(client, form.client_secret, peer)))
        wanted = self.resources.wanted(form.scope, form.resource)
        return self._access(client.principal, wanted, form.resource)

    async def revoke(self, form: Form) -> None:
        """End the sign-in that a refresh token came from. Access tokens live their hour: nobody looks them up. Raises OAuthError."""
        if not form.token:
            raise missing("token")
        client = await self.directory.client(form.client_id) if form.client_id else None
        if client is None or not client.is_public:
            raise invalid_client(700016, "Only programs that users sign in with have sign-ins to end.")
        await self.refreshing.end(form.token, client.client_id)

    async def _verdict(self, client: Client, secret: str, peer: str) -> Verdict:
        if not secret:
            return Verdict.WRONG
        async with self.throttle.attempt(peer, client.client_id, is_guessable=False) as attempt:
            verdict = await self.directory.check_secret(client, secret)
            attempt.judge(has_passed=verdict is not Verdict.WRONG)
        return verdict

    async def _for_user(self, form: Form, client: Client | None, issuer: str) -> dict[str, Any]:
        """What a public client may have, which is a token for a user who has signed in with it."""
        name = client.client_id if client else ""
        device = await self.devices.poll(form.device_code, name) if form.grant_type == DEVICE_GRANT else None
        refresh = (
            await self.refreshing.present(form.refresh_token, name) if form.grant_type == "refresh_token" else None
        )
        decide(Facts(form, client, device=device, refresh=refresh))
        if device is not None:
            return await self._signed_in(form, name, device, issuer)
        if refresh is None:
            raise gone()
        user = await self._user(refresh.record.principal_id)
        wanted = self.resources.wanted(form.scope or refresh.record.scope, form.resource)
        successor = await self.refreshing.rotate(refresh, form.refresh_token) if refresh.is_newest else None
        return self._access(user, wanted, form.resource, name) | self._profile(
            user, wanted, form, name, issuer, successor
        )

    async def _signed_in(self, form: Form, client_id: str, device: GrantRecord, issuer: str) -> dict[str, Any]:
        """A token request for a device code that a person has approved: what was asked for is what was shown to them."""
        user = await self._user(device.principal_id)
        wanted = self.resources.wanted(device.scope, form.resource)
        if not await self.devices.redeem(device):
            raise gone()
        successor = await self.refreshing.begin(client_id, user.id, device.scope) if wanted.has_offline else None
        return self._access(user, wanted, form.resource, client_id) | self._profile(
            user, wanted, form, client_id, issuer, successor
        )

    async def _user(self, principal_id: str) -> PrincipalRecord:
        user = await self.directory.principal(principal_id)
        if user is None:
            raise gone()
        if not user.is_enabled:
            raise OAuthError("invalid_grant", 50057, "The user account is disabled.")
        return user

    def _access(self, principal: PrincipalRecord, wanted: Wanted, resource: str, client_id: str = "") -> dict[str, Any]:
        now = self.clock()
        token = self.state.issue_token(
            wanted.audience, ttl_s=TOKEN_S, subject=principal.id, claims=access_claims(principal, client_id), now=now
        )
        fields = {"token_type": "Bearer", "expires_in": TOKEN_S, "ext_expires_in": TOKEN_S, "access_token": token}
        if not resource:
            return fields
        return fields | {"resource": resource, "expires_on": str(int(now) + TOKEN_S), "not_before": str(int(now))}

    def _profile(
        self, user: PrincipalRecord, wanted: Wanted, form: Form, client_id: str, issuer: str, successor: str | None
    ) -> dict[str, Any]:
        """What a user's program learns beside the token."""
        fields: dict[str, Any] = {"scope": wanted.scope}
        if successor:
            fields["refresh_token"] = successor
        if wanted.has_openid:
            now = self.clock()
            fields["id_token"] = self.state.issue_id_token(
                id_claims(user, client_id, issuer, self.state.tenant, now), now
            )
        if form.client_info == "1":
            fields["client_info"] = client_info(user, self.state.tenant)
        return fields


def gone() -> OAuthError:
    return OAuthError("invalid_grant", 70000, "The provided grant is invalid: it was used or revoked before.")

"""Who the authority knows: applications with their secrets, and the public clients that users sign in with."""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from carrel.storage import State

AZURE_CLI = "04b07795-8ddb-461a-bbee-02f9e1bf7b46"  # what az and azure-identity's interactive credentials say they are
CARREL_CLI = "5e8c4b7e-4a1f-4d55-9f0c-6b1f2a8d3c90"  # `carrel` itself
PUBLIC_CLIENTS = {AZURE_CLI: "Microsoft Azure CLI", CARREL_CLI: "Carrel command line"}


@dataclass(frozen=True, slots=True)
class Client:
    """Who asks for a token. A public one has no secret and can only act for users."""

    client_id: str
    name: str
    principal_id: str = ""

    @property
    def is_public(self) -> bool:
        return not self.principal_id


class Directory:
    def __init__(self, state: State) -> None:
        self._state = state

    async def client(self, client_id: str) -> Client | None:
        known = client_id.lower()
        if known in PUBLIC_CLIENTS:
            return Client(known, PUBLIC_CLIENTS[known])
        if known == self._state.client_id.lower():
            return Client(self._state.client_id, "carrel", self._state.object_id)
        return None

    async def has_secret(self, client: Client, secret: str) -> bool:
        """Whether this is a secret of the client's now."""
        return not client.is_public and hmac.compare_digest(secret.encode(), self._state.client_secret.encode())

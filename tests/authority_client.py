"""A client of the authority and of Graph over TLS, as tests use it: requests as Azure's clients send them, without their libraries."""

from __future__ import annotations

import json
import ssl
import uuid
from typing import Any

import httpx
import jwt

from conftest import Server

AZURE_CLI = "04b07795-8ddb-461a-bbee-02f9e1bf7b46"
DATA = "https://dynamicsessions.io"
GRAPH = "https://graph.microsoft.com"
SCOPE = f"{DATA}/.default"
PASSWORD = "correct horse"
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"


class Asker:
    """Of one server; as its own service principal where nothing else is said."""

    def __init__(self, server: Server) -> None:
        self.connection = server.connection
        context = ssl.create_default_context(cafile=self.connection["ca"])
        self.http = httpx.Client(base_url=self.connection["https"], verify=context, trust_env=False, timeout=30)
        self._graph = ""

    def configuration(self, tenant: str | None = None) -> dict[str, Any]:
        base = "/adfs" if tenant == "adfs" else f"/{tenant or self.connection['tenant']}/v2.0"
        reply = self.http.get(f"{base}/.well-known/openid-configuration")
        assert reply.status_code == 200, reply.text
        return dict(reply.json())

    def token(self, tenant: str | None = None, **fields: str) -> httpx.Response:
        return self.http.post(self.configuration(tenant)["token_endpoint"], data=fields)

    def secret(self, **fields: str) -> dict[str, str]:
        """The fields of a client credentials request by the server's own service principal."""
        own = {"client_id": self.connection["client_id"], "client_secret": self.connection["client_secret"]}
        return {"grant_type": "client_credentials", "scope": SCOPE} | own | fields

    def claims(self, token: str, audience: str) -> dict[str, Any]:
        """Checked as a resource server that knows the authority's address alone would."""
        keys = {key["kid"]: jwt.PyJWK(key) for key in self.http.get(self.configuration()["jwks_uri"]).json()["keys"]}
        key = keys[jwt.get_unverified_header(token)["kid"]]
        return dict(jwt.decode(token, key, algorithms=["RS256"], audience=audience))

    def graph(self, method: str, path: str, body: object = None, *, token: str | None = None) -> httpx.Response:
        """`path` below `/v1.0`; by who may manage identities, unless another token is given."""
        if token is None:
            self._graph = self._graph or self.token(**self.secret(scope=f"{GRAPH}/.default")).json()["access_token"]
            token = self._graph
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        content = b"" if body is None else json.dumps(body).encode()
        return self.http.request(method, f"/v1.0{path}", content=content, headers=headers)

    def user(self, password: str = PASSWORD) -> dict[str, Any]:
        """A new user with this password."""
        name = f"u{uuid.uuid4().hex[:10]}@example.com"
        body = {
            "accountEnabled": True,
            "displayName": f"User {name}",
            "mailNickname": "u",
            "userPrincipalName": name,
            "passwordProfile": {"password": password, "forceChangePasswordNextSignIn": False},
        }
        reply = self.graph("POST", "/users", body)
        assert reply.status_code == 201, reply.text
        return dict(reply.json())

    def application(self, **fields: Any) -> dict[str, Any]:
        """A new service principal."""
        reply = self.graph("POST", "/servicePrincipals", {"displayName": f"app {uuid.uuid4().hex[:8]}"} | fields)
        assert reply.status_code == 201, reply.text
        return dict(reply.json())

    def device(
        self, scope: str = f"{SCOPE} openid profile offline_access", tenant: str | None = None
    ) -> dict[str, Any]:
        """A sign-in that was begun."""
        endpoint = self.configuration(tenant)["device_authorization_endpoint"]
        reply = self.http.post(endpoint, data={"client_id": AZURE_CLI, "scope": scope})
        assert reply.status_code == 200, reply.text
        return dict(reply.json())

    def answer(
        self, user_code: str, user: dict[str, Any], answer: str = "approve", password: str = PASSWORD
    ) -> httpx.Response:
        """What a browser posts for a person."""
        fields = {
            "user_code": user_code,
            "user_name": user["userPrincipalName"],
            "password": password,
            "answer": answer,
        }
        return self.http.post("/device", data=fields)

    def poll(self, device_code: str, tenant: str | None = None, **fields: str) -> httpx.Response:
        """As MSAL does it, which gives the code under both names."""
        return self.token(
            tenant, grant_type=DEVICE_GRANT, client_id=AZURE_CLI, device_code=device_code, code=device_code, **fields
        )

    def refresh(self, token: str, **fields: str) -> httpx.Response:
        return self.token(grant_type="refresh_token", client_id=AZURE_CLI, refresh_token=token, **fields)


def refusal(reply: httpx.Response) -> tuple[int, str, int]:
    """Status, OAuth's error and Entra's number; the shape is checked besides."""
    fields = reply.json()
    assert fields["error_description"].startswith(f"AADSTS{fields['error_codes'][0]}: ")
    assert fields["trace_id"] == reply.headers["x-ms-request-id"]
    assert fields["correlation_id"] in fields["error_description"]
    return reply.status_code, fields["error"], fields["error_codes"][0]

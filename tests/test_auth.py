"""Who may call: tokens, roles and the endpoints that hand tokens out, through the real application.

No host runs here. What gets past authentication therefore answers 503, which is how these tests tell that it did.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from carrel import errors
from carrel.config import Config
from carrel.host.hostlink import HostLink
from carrel.models import PoolSpec
from carrel.server.access import Access
from carrel.server.app import build
from carrel.server.arm.group_deletion import Deletions
from carrel.server.auth import Verifier
from carrel.server.authorization.owners import seed
from carrel.server.drain import Drain
from carrel.server.instruments import Findings, Instruments
from carrel.server.issuers import OwnIssuer
from carrel.server.latecomers import Latecomers
from carrel.server.mcp.endpoint import Mcp
from carrel.server.peers import _listed, is_loopback, uid_of
from carrel.storage import AUDIENCES, SESSION_EXECUTOR, State
from carrel.store import Store
from carrel.tls import LiveCertificate
from kept_pools import pools_of

FILES = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/default/sessionPools/{}/files"
QUERY = {"identifier": "alice", "api-version": "2025-10-02-preview"}
PASSED = 503


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> State:
    return State(tmp_path_factory.mktemp("auth") / "state")


def verifier_of(state: State, **options: Any) -> Verifier:
    return Verifier([OwnIssuer(state.issuer, state.public_keys, ())], **options)


class Caller:
    """A client of the application, without a server in between, from an address of our choice."""

    def __init__(self, state: State, tmp_path: Path, **settings: Any) -> None:
        config = Config(state.path, tmp_path, pools=(PoolSpec("python"), PoolSpec("other")), **settings)
        link = HostLink(tmp_path / "nobody.sock")
        store = Store.open(config.store_url, state.store_keys())
        with store.transaction() as transaction:
            seed(transaction, state.object_id, state.client_id, config.subscription)
        pools = pools_of(config, link, store)
        mcp = Mcp(pools, link, state.digest, Latecomers(None))
        drain = Drain(config, store, link, pools)
        certificate = LiveCertificate(state.server_certificate().read_bytes())
        access, deletions = Access(config, store), Deletions(store, pools)
        instruments = Instruments(certificate, Findings())
        self._app = build(config, state, link, pools, mcp, store, access, deletions, drain, instruments)

    async def get(
        self, path: str, *, address: str = "127.0.0.1", params: dict[str, str] | None = None, headers: Any = None
    ) -> httpx.Response:
        transport = httpx.ASGITransport(self._app, client=(address, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080") as client:
            return await client.get(path, params=params, headers=headers)

    async def list_files(self, token: str | None, pool: str = "python", **headers: str) -> httpx.Response:
        authorization = {"Authorization": f"Bearer {token}"} if token is not None else {}
        return await self.get(FILES.format(pool), params=QUERY, headers=authorization | headers)


@pytest.fixture
def caller(state: State, tmp_path: Path) -> Caller:
    return Caller(state, tmp_path)


@pytest.fixture(params=["asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> Iterator[str]:
    yield request.param


pytestmark = pytest.mark.anyio


# ---- tokens ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("audience", [*AUDIENCES, *(f"{audience}/" for audience in AUDIENCES)])
async def test_both_audiences_are_good_with_and_without_a_slash(state: State, caller: Caller, audience: str) -> None:
    claims = jwt.decode(state.issue_token(), options={"verify_signature": False}) | {"aud": audience}

    assert (await caller.list_files(_signed(state, claims))).status_code == PASSED


async def test_no_token_is_401_and_says_what_is_wanted(caller: Caller) -> None:
    reply = await caller.list_files(None)

    assert reply.status_code == 401
    assert reply.headers["www-authenticate"] == 'Bearer realm="carrel"'
    assert reply.headers["x-ms-error-code"] == reply.json()["error"]["code"] == "Unauthorized"
    assert len(reply.json()["error"]["traceId"]) == 32


def _signed(state: State, claims: dict[str, Any], *, header: dict[str, Any] | None = None) -> str:
    """A token with the server's own key: only its claims can be wrong."""
    key = serialization.load_pem_private_key((state.path / "keys" / "signing" / "1.pem").read_bytes(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    return jwt.encode(claims, key, algorithm="RS256", headers=header)


def forgeries(state: State) -> dict[str, str]:
    claims = jwt.decode(state.issue_token(), options={"verify_signature": False})
    public = state.public_key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    head, body, signature = state.issue_token().split(".")
    unsigned = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').rstrip(b"=").decode()
    confused = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').rstrip(b"=").decode()
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    widened = base64.urlsafe_b64encode(json.dumps(claims | {"sub": "root"}).encode()).rstrip(b"=").decode()
    return {
        "nonsense": "nonsense",
        "three dots": "a.b.c",
        "another's key": jwt.encode(claims, stranger, algorithm="RS256"),
        "algorithm none": f"{unsigned}.{body}.",
        "public key as a secret": f"{confused}.{body}.{_hs256(public, f'{confused}.{body}')}",
        "other claims": f"{head}.{widened}.{signature}",
        "expired": state.issue_token(now=time.time() - 90_000),
        "not yet": state.issue_token(now=time.time() + 3_600),
        "another audience": state.issue_token("https://vault.azure.net"),
        "another issuer": _signed(state, claims | {"iss": "https://sts.windows.net/x"}),
        "no end": _signed(state, {name: value for name, value in claims.items() if name != "exp"}),
        "no audience": _signed(state, {name: value for name, value in claims.items() if name != "aud"}),
        "an audience that is no text": _signed(state, claims | {"aud": {"a": 1}}),
        "an issuer that is no text": ".".join([head, _b64(json.dumps(claims | {"iss": ["a"]}).encode()), signature]),
        "no issuer": _signed(state, {name: value for name, value in claims.items() if name != "iss"}),
        "a key that nobody has": _signed(state, claims, header={"kid": "nobody's"}),
        "nested without end": ".".join([unsigned, _b64(b"[" * 8_000), signature]),
        "nested in its head": ".".join([_b64(b'{"alg":' + b"[" * 8_000), body, signature]),
        "too long": "a" * 20_000,
    }


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _hs256(secret: bytes, text: str) -> str:
    return base64.urlsafe_b64encode(hmac.new(secret, text.encode(), hashlib.sha256).digest()).rstrip(b"=").decode()


async def test_no_forgery_gets_in(state: State, caller: Caller) -> None:
    for name, token in {**forgeries(state), "another plane": state.issue_token("https://management.azure.com")}.items():
        reply = await caller.list_files(token)
        assert reply.status_code == 401, name
        assert 'error="invalid_token"' in reply.headers["www-authenticate"], name
        assert token not in reply.text


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer ", "Basic abc", "Token abc", "abc"])
async def test_another_scheme_is_401(caller: Caller, authorization: str) -> None:
    assert (await caller.get(FILES.format("python"), headers={"Authorization": authorization})).status_code == 401


async def test_two_authorization_headers_are_401(state: State, caller: Caller) -> None:
    token = f"Bearer {state.issue_token()}"
    headers = [("Authorization", token), ("Authorization", token)]

    assert (await caller.get(FILES.format("python"), headers=headers)).status_code == 401


async def test_the_scheme_may_be_in_any_case(state: State, caller: Caller) -> None:
    headers = {"Authorization": f"bearer {state.issue_token()}"}

    assert (await caller.get(FILES.format("python"), params=QUERY, headers=headers)).status_code == PASSED


async def test_a_remembered_token_ends_when_it_says(state: State) -> None:
    """The cache answers for a token only as long as the token itself would."""
    clock = [time.time()]
    verifier = verifier_of(state, clock=lambda: clock[0])
    token = state.issue_token(ttl_s=100, now=time.time() - 120)  # 20 s past its end, within the leeway
    first = await verifier.verify(token)

    assert await verifier.verify(token) is first
    clock[0] = first.expires_at
    assert await verifier.verify(token) is not first  # looked at again; PyJWT's own clock still allows it

    expired = state.issue_token(ttl_s=100, now=time.time() - 140)
    with pytest.raises(errors.Unauthorized):
        await verifier.verify(expired)


async def test_the_cache_is_bounded(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carrel.server.auth._CACHE_SIZE", 3)
    verifier = verifier_of(state)
    tokens = [state.issue_token(subject=str(n)) for n in range(5)]

    kept = [await verifier.verify(token) for token in tokens]

    assert await verifier.verify(tokens[4]) is kept[4]
    assert await verifier.verify(tokens[0]) is not kept[0]


# ---- roles -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("roles", "pools", "pool", "status"),
    [
        ([SESSION_EXECUTOR], ["*"], "python", PASSED),
        ([SESSION_EXECUTOR], ["python"], "python", PASSED),
        ([SESSION_EXECUTOR], ["PYTHON"], "Python", PASSED),
        ([SESSION_EXECUTOR], ["other"], "python", 403),
        ([SESSION_EXECUTOR], [], "python", 403),
        ([], ["*"], "python", 403),
        (["Reader"], ["*"], "python", 403),
        ([""], ["*"], "python", 403),  # no role at all: most routes name no second one that would do
        ([SESSION_EXECUTOR], ["*"], "unknown", 404),
    ],
)
async def test_the_role_must_cover_the_pool(
    state: State, caller: Caller, roles: list[str], pools: list[str], pool: str, status: int
) -> None:
    reply = await caller.list_files(state.issue_token(roles=roles, pools=pools), pool)

    assert reply.status_code == status


async def test_a_pool_of_another_resource_group_is_another_pool(state: State, caller: Caller) -> None:
    headers = {"Authorization": f"Bearer {state.issue_token()}"}

    reply = await caller.get(FILES.format("python").replace("default", "other"), params=QUERY, headers=headers)

    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "SessionPoolNotFound")


async def test_health_needs_no_token_and_tells_of_the_host(caller: Caller) -> None:
    reply = await caller.get("/health")

    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "HostUnavailable")


async def test_the_form_without_a_secret_can_be_switched_off(state: State, tmp_path: Path) -> None:
    closed = Caller(state, tmp_path, instance_metadata=False)
    headers = {"X-IDENTITY-HEADER": state.identity_header, "Metadata": "true"}

    assert (await closed.get(IMDS, params=RESOURCE, headers=headers)).status_code == 404
    assert (await closed.get(MSI, params=RESOURCE, headers=headers)).status_code == 200


async def test_an_authority_that_is_switched_off_is_not_there(state: State, tmp_path: Path) -> None:
    """Its endpoints are 404 and its tokens refused; what the operator made, or one who may for one session, goes on."""
    closed = Caller(state, tmp_path, embedded_authority=False)
    for path in (
        MSI,
        IMDS,
        "/device",
        f"/{state.tenant}/v2.0/.well-known/openid-configuration",
        "/adfs/discovery/keys",
    ):
        headers = {"X-IDENTITY-HEADER": state.identity_header, "Metadata": "true"}
        assert (await closed.get(path, params=RESOURCE, headers=headers)).status_code == 404, path

    assert (await closed.list_files(state.issue_token(claims={}))).status_code == 401
    assert (await closed.list_files(state.issue_token())).status_code == PASSED
    path = "/subscriptions/00000000-0000-0000-0000-000000000000"
    for token, status in (
        (state.issue_token("https://management.azure.com", claims={}), 401),
        (state.issue_token("https://management.azure.com", roles=["Owner"]), 200),
    ):
        headers = {"Authorization": f"Bearer {token}"}
        assert (await closed.get(path, params={"api-version": "2022-12-01"}, headers=headers)).status_code == status


async def test_tokens_of_a_key_that_was_removed_are_refused_although_they_are_remembered(tmp_path: Path) -> None:
    state = State(tmp_path / "state")
    token, verifier = state.issue_token(), verifier_of(state)
    assert await verifier.verify(token)

    state.signing.rotate()
    state.adopt(state.signing.read())
    assert await verifier.verify(token)
    state.signing.rotate(is_final=True)
    state.adopt(state.signing.read())

    with pytest.raises(errors.Unauthorized):
        await verifier.verify(token)


# ---- managed identity ------------------------------------------------------------------------------------------------

MSI = "/msi/token"
IMDS = "/metadata/identity/oauth2/token"
RESOURCE = {"resource": "https://dynamicsessions.io"}


async def test_the_app_service_endpoint_gives_a_token_that_works(state: State, caller: Caller) -> None:
    headers = {"X-IDENTITY-HEADER": state.identity_header, "Metadata": "true"}
    params = {"api-version": "2019-08-01", "resource": "https://acasessions.io", "client_id": state.client_id}

    reply = await caller.get(MSI, params=params, headers=headers)

    assert reply.status_code == 200
    fields = reply.json()
    assert (fields["token_type"], fields["resource"]) == ("Bearer", "https://acasessions.io")
    assert int(fields["expires_on"]) > time.time() + 3_600
    assert isinstance(fields["expires_on"], str)
    assert (await caller.list_files(fields["access_token"])).status_code == PASSED


@pytest.mark.parametrize("given", [None, "", "wrong", "é"])
async def test_the_app_service_endpoint_wants_its_secret(caller: Caller, given: str | None) -> None:
    headers = {} if given is None else {"X-IDENTITY-HEADER": given.encode("latin-1")}

    assert (await caller.get(MSI, params=RESOURCE, headers=headers)).status_code == 401


@pytest.mark.parametrize(
    "resource", [None, "", "https://management.azure.com.evil.example", "https://dynamicsessions.io.evil.example"]
)
async def test_no_other_resource_is_served(state: State, caller: Caller, resource: str | None) -> None:
    params = {} if resource is None else {"resource": resource}

    reply = await caller.get(MSI, params=params, headers={"X-IDENTITY-HEADER": state.identity_header})

    assert (reply.status_code, reply.json()["error"]["target"]) == (400, "resource")


@pytest.mark.parametrize("path", [MSI, IMDS])
async def test_only_this_machine_is_served(state: State, caller: Caller, path: str) -> None:
    """Neither another machine nor a proxy on this one."""
    headers = {"X-IDENTITY-HEADER": state.identity_header, "Metadata": "true"}
    marks = ("X-Forwarded-For", "Forwarded", "Via", "X-Real-IP")
    passed_on = [("127.0.0.1", {mark: "for=127.0.0.1"}) for mark in marks]

    for address, more in (("192.0.2.1", {}), ("2001:db8::1", {}), *passed_on):
        reply = await caller.get(path, address=address, params=RESOURCE, headers=headers | more)
        assert reply.status_code == 403, (address, more)


@pytest.mark.parametrize("path", [MSI, IMDS])
@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example", ""]
)
async def test_a_page_whose_name_leads_here_has_no_token(state: State, caller: Caller, path: str, host: str) -> None:
    """DNS rebinding: a browser of the server's user sends whatever a page wants, under the name of the page."""
    headers = {"X-IDENTITY-HEADER": state.identity_header, "Metadata": "true", "Host": host}

    reply = await caller.get(path, params=RESOURCE, headers=headers)

    assert (reply.status_code, reply.json()["error"]["target"]) == (403, "Host")


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8080", "127.0.0.1:1", "[::1]:8080", "169.254.169.254", socket.gethostname()]
)
async def test_this_server_has_addresses_and_names(state: State, caller: Caller, host: str) -> None:
    reply = await caller.get(MSI, params=RESOURCE, headers={"X-IDENTITY-HEADER": state.identity_header, "Host": host})

    assert reply.status_code == 200


async def test_the_metadata_endpoint_wants_its_header_and_a_known_peer(caller: Caller) -> None:
    """The connection of this test is no real one, so the kernel does not know whose it is."""
    assert (await caller.get(IMDS, params=RESOURCE)).status_code == 400
    assert (await caller.get(IMDS, params=RESOURCE, headers={"Metadata": "true"})).status_code == 403


def test_the_kernel_knows_whose_connection_it_is() -> None:
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        try:
            server = socket.create_server((address, 0), family=family)
        except OSError:
            continue  # a machine without IPv6
        with server, socket.create_connection(server.getsockname()[:2]) as client, server.accept()[0]:
            assert uid_of(client.getsockname()[:2], server.getsockname()[:2]) == os.getuid()
            assert uid_of((address, 1), server.getsockname()[:2]) is None


@pytest.mark.parametrize("ask", [uid_of, _listed])
def test_a_connection_that_was_closed_is_nobodys(ask: Callable[..., int | None]) -> None:
    """The kernel says of what nobody holds any more that it is root's: nobody may pass for root by going away."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        peer = client.getsockname()
        with server.accept()[0]:
            assert ask(peer, server.getsockname()) == os.getuid()
            client.close()
            assert ask(peer, server.getsockname()) is None


def test_who_it_is_takes_no_longer_where_thousands_went_before() -> None:
    """Else whoever leaves connections behind stops the event loop for everybody."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        for _ in range(2000):
            with socket.create_connection(server.getsockname()), server.accept()[0]:
                pass
        with socket.create_connection(server.getsockname()) as client, server.accept()[0]:
            began = time.process_time()
            assert {uid_of(client.getsockname(), server.getsockname()) for _ in range(20)} == {os.getuid()}
            assert time.process_time() - began < 0.1  # by the list it is half a second


def test_loopback_is_told_from_the_rest() -> None:
    assert all(is_loopback((host, 1)) for host in ("127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"))
    assert not any(is_loopback((host, 1)) for host in ("10.0.0.1", "fe80::1%eth0", "::ffff:10.0.0.1", "localhost", ""))
    assert not is_loopback(None)


async def test_secrets_are_not_in_error_texts(state: State) -> None:
    """What an error says may be sent to anyone."""
    verifier = verifier_of(state)
    for token in (*forgeries(state).values(), secrets.token_hex(20)):
        with pytest.raises(errors.Unauthorized) as caught:
            await verifier.verify(token)
        assert token not in str(errors.to_dict(caught.value))

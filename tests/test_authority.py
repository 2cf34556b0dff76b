"""The authority over HTTP, asked as Azure's clients ask it: a real server, and requests as azure-identity and az were seen to send them."""

from __future__ import annotations

import base64
import os
import subprocess
import time
from urllib.parse import urlencode

import httpx
import pytest

from authority_client import AZURE_CLI, DATA, PASSWORD, SCOPE, Asker, refusal
from conftest import Server, SlimServer

pytestmark = pytest.mark.one_level


@pytest.fixture(scope="module")
def asker(server: Server) -> Asker:
    return Asker(server)


# ---- what clients read first ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tenant", [None, "organizations", "common", "adfs"])
def test_the_configuration_leads_to_the_authoritys_own_endpoints(asker: Asker, tenant: str | None) -> None:
    """MSAL reads issuer, authorization, token and device endpoints; all are absolute and at the address it called."""
    document = asker.configuration(tenant)

    for name in ("issuer", "authorization_endpoint", "token_endpoint", "device_authorization_endpoint", "jwks_uri"):
        assert document[name].startswith(asker.connection["https"] + "/")
    assert asker.http.get(document["jwks_uri"]).json()["keys"]
    assert asker.http.get(document["authorization_endpoint"]).status_code == 400


def test_the_keys_are_public_halves_only(asker: Asker) -> None:
    keys = asker.http.get(asker.configuration()["jwks_uri"]).json()["keys"]

    assert {frozenset(key) for key in keys} == {frozenset(["kty", "use", "alg", "kid", "n", "e"])}


def test_an_unknown_tenant_is_refused(asker: Asker) -> None:
    reply = asker.http.get("/11111111-1111-1111-1111-111111111111/v2.0/.well-known/openid-configuration")

    assert refusal(reply) == (400, "invalid_request", 90002)


# ---- client credentials --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tenant", [None, "organizations", "common", "adfs"])
def test_a_secret_gets_a_token_that_the_data_plane_takes(asker: Asker, server: Server, tenant: str | None) -> None:
    """ClientSecretCredential's form; the reply has what MSAL reads, and the token runs code."""
    reply = asker.token(tenant, **asker.secret())
    fields = reply.json()

    assert reply.status_code == 200
    assert (fields["token_type"], fields["expires_in"]) == ("Bearer", 3600)
    claims = asker.claims(fields["access_token"], DATA)
    assert (claims["tid"], claims["oid"]) == (asker.connection["tenant"], asker.connection["object_id"])
    assert (claims["appid"], claims["idtyp"], claims["ver"]) == (asker.connection["client_id"], "app", "1.0")
    listed = httpx.get(
        f"{server.endpoint}/files",
        params={"identifier": "test-authority", "api-version": "2025-10-02-preview"},
        headers={"Authorization": f"Bearer {fields['access_token']}"},
        trust_env=False,
        timeout=60,
    )
    assert listed.status_code == 200


def test_az_signs_in_as_a_service_principal(asker: Asker) -> None:
    """With the fields that az adds, and ARM's own address with the doubled slash that it makes of it."""
    fields = asker.secret(
        scope=f"{asker.connection['arm']}//.default",
        claims='{"access_token": {"xms_cc": {"values": ["CP1"]}}}',
        client_info="1",
    )

    token = asker.token(**fields).json()["access_token"]

    assert asker.claims(token, asker.connection["arm"])["oid"] == asker.connection["object_id"]


def test_a_client_may_use_basic_authentication(asker: Asker) -> None:
    """RFC 6749 §2.3.1: id and secret are form-encoded first."""
    own = asker.secret()
    pair = base64.b64encode(f"{own.pop('client_id')}:{own.pop('client_secret')}".encode()).decode()

    reply = asker.http.post(
        asker.configuration()["token_endpoint"], data=own, headers={"Authorization": f"Basic {pair}"}
    )

    assert reply.status_code == 200


def test_the_v1_endpoint_takes_a_resource(asker: Asker) -> None:
    own = asker.secret(resource=DATA)
    del own["scope"]

    fields = asker.http.post(f"/{asker.connection['tenant']}/oauth2/token", data=own).json()

    assert fields["resource"] == DATA
    assert abs(int(fields["expires_on"]) - time.time() - 3600) < 60


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"client_secret": "wrong"}, (401, "invalid_client", 7000215)),
        ({"client_secret": "пароль"}, (401, "invalid_client", 7000215)),
        ({"client_secret": ""}, (401, "invalid_client", 7000218)),
        ({"client_id": ""}, (400, "invalid_request", 900144)),
        ({"client_id": "11111111-1111-1111-1111-111111111111"}, (400, "unauthorized_client", 700016)),
        ({"client_id": AZURE_CLI}, (401, "invalid_client", 700025)),
        ({"grant_type": ""}, (400, "invalid_request", 900144)),
        ({"grant_type": "password"}, (400, "unsupported_grant_type", 70003)),
        ({"scope": ""}, (400, "invalid_request", 900144)),
        ({"scope": "https://example.com/.default"}, (400, "invalid_resource", 500011)),
        ({"scope": f"{SCOPE} https://graph.microsoft.com/.default"}, (400, "invalid_resource", 500011)),
        ({"scope": "x" * 20_000}, (400, "invalid_request", 90014)),
    ],
)
def test_what_is_wrong_is_said_in_entras_words(
    asker: Asker, changed: dict[str, str], expected: tuple[int, str, int]
) -> None:
    assert refusal(asker.token(**asker.secret(**changed))) == expected


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"grant_type=client_credentials&grant_type=client_credentials", "application/x-www-form-urlencoded", 400),
        (b"\xff\xfe=%ff", "application/x-www-form-urlencoded", 400),
        (b"&".join(b"a%d=1" % n for n in range(100)), "application/x-www-form-urlencoded", 400),
        (b"grant_type=client_credentials&client_id=a%00b", "application/x-www-form-urlencoded", 400),
        (b'{"grant_type": "client_credentials"}', "application/json", 400),
        (b"", "application/x-www-form-urlencoded", 400),
        (b"x" * 70_000, "application/x-www-form-urlencoded", 413),
    ],
)
def test_what_is_no_form_is_refused(asker: Asker, body: bytes, kind: str, status: int) -> None:
    reply = asker.http.post("/common/oauth2/v2.0/token", content=body, headers={"Content-Type": kind})

    assert reply.status_code == status


def test_secrets_are_never_said_again(asker: Asker) -> None:
    """Not in an error, where they would end in the logs of clients."""
    reply = asker.token(**asker.secret(client_secret="hunter2hunter2hunter2"))

    assert "hunter2" not in reply.text


def test_guessing_a_secret_is_slow_and_stops_nobody_else(asker: Asker) -> None:
    """After a handful of wrong ones even the right one has to wait; other applications of this peer sign in meanwhile, and so does
    another user of this machine as the very application."""
    made, other = asker.application(), asker.application()
    secrets = [
        asker.graph("POST", f"/servicePrincipals/{each['id']}/addPassword", {}).json()["secretText"]
        for each in (made, other)
    ]

    wrong = [
        asker.token(**asker.secret(client_id=made["appId"], client_secret=f"wrong {n}")).status_code for n in range(9)
    ]
    right = asker.token(**asker.secret(client_id=made["appId"], client_secret=secrets[0]))
    another = asker.token(**asker.secret(client_id=other["appId"], client_secret=secrets[1]))

    assert wrong == [401] * 8 + [429]
    assert refusal(right) == (429, "temporarily_unavailable", 50196)
    assert 1 <= int(right.headers["retry-after"]) <= 15
    assert another.status_code == 200
    if os.geteuid() == 0:
        assert '"access_token"' in as_nobody(asker, asker.secret(client_id=made["appId"], client_secret=secrets[0]))


def as_nobody(asker: Asker, fields: dict[str, str]) -> str:
    """The reply to a token request by another user of this machine."""
    address = f"{asker.connection['http']}/{asker.connection['tenant']}/oauth2/v2.0/token"
    command = ["curl", "-s", "--noproxy", "*", "-d", urlencode(fields), address]
    return subprocess.run(command, user=65_534, group=65_534, extra_groups=[], capture_output=True, text=True).stdout


# ---- managed identity ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("resource", ["ARM", "https://management.azure.com/", "https://graph.microsoft.com", SCOPE])
def test_a_managed_identity_has_tokens_for_every_plane(asker: Asker, resource: str) -> None:
    """`az login --identity` asks for ARM's, and needs a token that it can take apart."""
    wanted = f"{asker.connection['arm']}/" if resource == "ARM" else resource

    reply = httpx.get(
        asker.connection["identity_endpoint"],
        params={"api-version": "2019-08-01", "resource": wanted},
        headers={"X-IDENTITY-HEADER": asker.connection["identity_header"], "Metadata": "true"},
        trust_env=False,
    )

    token = reply.json()["access_token"]
    audience = wanted.removesuffix("/.default").rstrip("/")
    assert asker.claims(token, audience)["oid"] == asker.connection["object_id"]


# ---- what is kept quiet --------------------------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_no_secret_is_in_the_log(slim_server: SlimServer, capfd: pytest.CaptureFixture[str]) -> None:
    """At its most talkative, through every grant, right and wrong."""
    with slim_server("--log-level", "debug") as server:
        asker = Asker(server)
        user, application = asker.user(), asker.application()
        added = asker.graph("POST", f"/servicePrincipals/{application['id']}/addPassword", {}).json()["secretText"]
        token = asker.token(**asker.secret(client_id=application["appId"], client_secret=added)).json()["access_token"]
        wrong = "hunter2hunter2hunter2"
        asker.token(**asker.secret(client_secret=wrong))
        begun = asker.device()
        asker.answer(begun["user_code"], user, password=f"{wrong}x")
        asker.answer(begun["user_code"], user)
        fields = asker.poll(begun["device_code"]).json()
        fresh = asker.refresh(fields["refresh_token"]).json()
        asker.refresh(f"{fresh['refresh_token']}x")
        said = [PASSWORD, wrong, added, token, asker.connection["client_secret"], asker.connection["identity_header"]]
        said += [begun["device_code"], begun["user_code"], user["userPrincipalName"]]
        said += [each[name] for each in (fields, fresh) for name in ("access_token", "refresh_token", "id_token")]
    log = capfd.readouterr().err

    assert log.count("/{tenant}/oauth2/v2.0/token") >= 5, "the log was read"
    assert [each for each in said if each in log] == []

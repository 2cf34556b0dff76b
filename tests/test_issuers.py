"""External issuers: what an operator may write, and what an issuer may say. It hangs and lies here, on a real connection."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import hmac
import json
import ssl
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from carrel.audiences import Plane
from carrel.config import ConfigError
from carrel.errors import IssuerUnavailable, Unauthorized
from carrel.issuer_settings import DERIVED, GIVEN, IssuerSpec, parse_issuers
from carrel.server import outgoing
from carrel.server.access import Principal
from carrel.server.oidc import keyset
from carrel.server.oidc.issuer import ExternalIssuer, derived
from carrel.server.oidc.jwks import Malformed, matching, parse
from carrel.server.oidc.keyset import KeySet
from oidc import AUDIENCE, CONFIGURATION, KEYS, LocalIssuer, public

OURS = "5a5a5a5a-0000-4000-8000-000000000001"  # a principal of this server
TENANT_ID = "72f988bf-86f1-41af-91ab-2d7cd011db47"
ENTRA = {
    "issuer": "https://login.microsoftonline.com/{tenantid}/v2.0",
    "aliases": ["https://sts.windows.net/{tenantid}/"],
    "discovery": "https://login.microsoftonline.com/common/v2.0/.well-known/openid-configuration",
    "tenants": [TENANT_ID],
    "audiences": {AUDIENCE: "data", "api://carrel-arm": "arm"},
    "roles": {"Sessions.Execute": OURS},
}
SIMPLE = {"issuer": "https://issuer.example", "audiences": [AUDIENCE]}


@pytest.fixture
def anyio_backend() -> Iterator[str]:
    yield "asyncio"


# ---- settings ----------------------------------------------------------------------------------------------------------


def test_a_table_says_who_is_believed() -> None:
    (spec,) = parse_issuers({"entra": ENTRA})

    assert spec.issuers() == {
        f"https://login.microsoftonline.com/{TENANT_ID}/v2.0": TENANT_ID,
        f"https://sts.windows.net/{TENANT_ID}/": TENANT_ID,
    }
    assert spec.audiences == ((AUDIENCE, Plane.DATA), ("api://carrel-arm", Plane.ARM))
    assert (spec.principal_ids, parse_issuers({"a": {**SIMPLE, "principal-claim": "sub"}})[0].principal_ids) == (
        GIVEN,
        DERIVED,
    )
    assert IssuerSpec.from_json(json.loads(json.dumps(asdict(spec)))) == spec
    azures = parse_issuers(
        {"a": {**SIMPLE, "audiences": ["https://management.azure.com", "https://dynamicsessions.io"]}}
    )
    assert [plane for _, plane in azures[0].audiences] == [Plane.ARM, Plane.DATA]


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"issuer": None}, "needs issuer"),
        ({"audiences": []}, "needs audiences"),
        ({"issuer": "http://issuer.example"}, "https"),
        ({"issuer": "https://user@issuer.example"}, "https"),
        ({"issuer": "https://issuer.example:port"}, "https"),
        ({"issuer": 5}, "https"),
        ({"audience": []}, "did you mean audiences"),
        ({"audiences": {AUDIENCE: "everything"}}, "planes are data, arm, graph"),
        ({"audiences": [""]}, "list of audiences"),
        ({"tenants": ["common"]}, "GUID"),
        ({"issuer": "https://x.example/{tenantid}"}, "needs tenants"),
        ({"issuer": "https://x.example/{tenantid}", "tenants": [TENANT_ID]}, "needs discovery"),
        ({"discovery": "http://127.0.0.1/configuration"}, "must be https"),
        ({"roles": {"Reader": "everybody"}}, "GUID"),
        ({"algorithms": ["HS256"]}, "RS256"),
        ({"algorithms": ["none"]}, "RS256"),
        ({"leeway": 86_400}, "0 to 300"),
        ({"refetch": 0}, "1 to 3600"),
        ({"principal-ids": "trusted"}, "given, derived"),
        ({"ca": "relative.pem"}, "absolute"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(fields: dict[str, Any], why: str) -> None:
    table = {name: value for name, value in {**SIMPLE, **fields}.items() if value is not None}

    with pytest.raises(ConfigError, match=why):
        parse_issuers({"a": table})


def test_two_issuers_cannot_name_each_others_principals() -> None:
    other = {**SIMPLE, "issuer": "https://other.example"}
    with pytest.raises(ConfigError, match="only one issuer's ids"):
        parse_issuers({"a": SIMPLE, "b": other})
    with pytest.raises(ConfigError, match="is that of"):
        parse_issuers({"a": SIMPLE, "b": {**SIMPLE, "principal-ids": "derived"}})

    assert len(parse_issuers({"a": SIMPLE, "b": {**other, "principal-ids": "derived"}})) == 2


# ---- keys --------------------------------------------------------------------------------------------------------------


def test_only_usable_public_keys_are_taken() -> None:
    """A private key, a shared secret, a weak or giant key, another use: none of them verifies anything."""
    small = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - what is to be refused
    curve = ec.generate_private_key(ec.SECP256R1())
    good = public(curve)
    hostile: list[Any] = [
        {"kty": "oct", "k": "c2VjcmV0", "kid": "secret"},
        {**public(small), "kid": "weak"},
        {"kty": "RSA", "n": "A" * 100_000, "e": "AQAB", "kid": "giant"},
        {"kty": "RSA", "n": 5, "e": "AQAB"},
        {**public(curve), "use": "enc"},
        {**public(curve), "key_ops": ["encrypt"]},
        {**public(curve), "d": "AAAA"},
        {**public(curve), "x": "AAAA"},
        {**public(curve), "crv": "secp256k1"},
        {**public(curve), "alg": "none"},
        {**public(curve), "alg": "RS256"},
        {**public(curve), "kid": {"a": 1}},
        "no key", None, [], {},
    ]  # fmt: skip

    keys = parse(json.dumps({"keys": [*hostile, {**good, "kid": "good"}]}).encode())

    assert [(key.id, key.algorithms) for key in keys] == [("good", frozenset(["ES256"]))]
    assert (
        len(matching(keys, "good", "ES256")),
        matching(keys, "good", "RS256"),
        matching(keys, "other", "ES256"),
    ) == (1, [], [])


def test_a_token_without_a_key_id_is_held_against_an_only_key() -> None:
    two = parse(
        json.dumps(
            {"keys": [{**public(ec.generate_private_key(ec.SECP256R1())), "kid": name} for name in "ab"]}
        ).encode()
    )

    assert (len(matching(two[:1], None, "ES256")), matching(two, None, "ES256")) == (1, [])


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{}", b'{"keys": 5}', b"[" * 100_000, b"\xff", b'{"keys": [' + b"{}," * 2000 + b"{}]}"]
)
def test_what_is_no_key_set_is_malformed(text: bytes) -> None:
    with pytest.raises(Malformed):
        parse(text)


# ---- fetching ------------------------------------------------------------------------------------------------------------


def spec_of(issuer: LocalIssuer, /, **fields: Any) -> IssuerSpec:
    return parse_issuers({"local": {"issuer": issuer.issuer, "audiences": [AUDIENCE], "refetch": 1, **fields}})[0]


@asynccontextmanager
async def kept(spec: IssuerSpec) -> AsyncIterator[KeySet]:
    keys = KeySet(spec)
    async with outgoing.client(ssl.create_default_context(), 5.0, 4) as http:
        task = asyncio.create_task(keys.run(http))
        try:
            yield keys
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyset, "FETCH_S", 0.3)


@pytest.mark.anyio
async def test_a_new_key_is_fetched_when_its_first_token_comes_and_not_for_every_stranger(
    local_issuer: LocalIssuer,
) -> None:
    """All who wait do so for one fetch; a hundred made-up keys make one more, and are refused without waiting."""
    async with kept(spec_of(local_issuer)) as keys:
        assert len(await keys.find("first", "RS256")) == 1
        assert local_issuer.asked == {CONFIGURATION: 1, KEYS: 1}
        local_issuer.rotate("second", ec.generate_private_key(ec.SECP256R1()))
        assert await keys.find("second", "ES256") == []  # within `refetch` of the fetch before

        await asyncio.sleep(1.0)
        found = await asyncio.gather(*(keys.find("second", "ES256") for _ in range(50)))
        assert [len(each) for each in found] == [1] * 50
        assert local_issuer.asked[KEYS] == 2
        began = time.monotonic()
        assert await asyncio.gather(*(keys.find(f"made up {number}", "ES256") for number in range(100))) == [[]] * 100
        assert (local_issuer.asked[KEYS], time.monotonic() - began < 5) == (2, True)


@pytest.mark.anyio
@pytest.mark.thorough
async def test_strangers_who_keep_asking_while_it_answers_make_no_more_fetches(local_issuer: LocalIssuer) -> None:
    """Those who come in the middle of a fetch are answered by it, and it is not followed by another."""
    async with kept(spec_of(local_issuer)) as keys:
        await keys.find("first", "RS256")
        await asyncio.sleep(1.0)
        local_issuer.hangs(0.3)
        asking = [asyncio.create_task(keys.find("unknown", "RS256"))]
        for _ in range(10):
            await asyncio.sleep(0.02)
            asking.append(asyncio.create_task(keys.find("unknown too", "RS256")))
        assert await asyncio.gather(*asking) == [[]] * 11
        await asyncio.sleep(0.4)
        assert local_issuer.asked[CONFIGURATION] == 2


LIES: dict[str, tuple[str, int, bytes, dict[str, str]]] = {
    "another issuer's configuration": (CONFIGURATION, 200, b'{"issuer": "https://accounts.example", "jwks_uri": "JWKS"}', {}),
    "no JSON": (CONFIGURATION, 200, b"<html>", {}),
    "keys of another scheme": (CONFIGURATION, 200, b'{"issuer": "ISSUER", "jwks_uri": "file:///etc/passwd"}', {}),
    "keys elsewhere without TLS": (CONFIGURATION, 200, b'{"issuer": "ISSUER", "jwks_uri": "http://192.0.2.1/keys"}', {}),
    "no address of keys": (CONFIGURATION, 200, b'{"issuer": "ISSUER", "jwks_uri": {"a": 1}}', {}),
    "a redirect to elsewhere": (KEYS, 302, b"", {"location": "http://127.0.0.1:1/keys"}),
    "an error": (KEYS, 500, b"{}", {}),
    "no key at all": (KEYS, 200, b'{"keys": []}', {}),
    "megabytes": (KEYS, 200, b'{"keys": [' + b'"x",' * 200_000 + b'"x"]}', {}),
    "a bomb": (KEYS, 200, gzip.compress(b"[" * 10_000_000), {"content-encoding": "gzip"}),
    "a body cut short": (KEYS, 200, b"{", {"content-length": "100"}),
}  # fmt: skip


@pytest.mark.anyio
async def test_an_issuer_that_lies_or_fails_leaves_no_keys(local_issuer: LocalIssuer, quick: None) -> None:
    for name, (path, status, body, headers) in LIES.items():
        local_issuer.answers.clear()
        said = body.replace(b"ISSUER", local_issuer.issuer.encode()).replace(
            b"JWKS", (local_issuer.issuer + KEYS).encode()
        )
        local_issuer.says(path, said, status, **headers)
        async with kept(spec_of(local_issuer)) as keys:
            with pytest.raises(IssuerUnavailable):
                await keys.find("first", "RS256")
        assert keys.keys == (), name


@pytest.mark.anyio
@pytest.mark.thorough
async def test_one_that_hangs_holds_nobody_up_for_long_and_its_keys_go_on(
    local_issuer: LocalIssuer, quick: None
) -> None:
    async with kept(spec_of(local_issuer)) as keys:
        assert await keys.find("first", "RS256")
        local_issuer.hangs(3.0)
        await asyncio.sleep(1.0)
        began = time.monotonic()
        assert await keys.find("unknown", "RS256") == []
        assert time.monotonic() - began < 1.5
        assert await keys.find("first", "RS256")


@pytest.mark.anyio
async def test_keys_of_an_issuer_that_is_away_for_a_day_count_no_more(local_issuer: LocalIssuer) -> None:
    now = [1000.0]
    keys = KeySet(spec_of(local_issuer), clock=lambda: now[0])
    async with outgoing.client(ssl.create_default_context(), 5.0, 4) as http:
        task = asyncio.create_task(keys.run(http))
        assert await keys.find("first", "RS256")
        task.cancel()
    before = keys.keys
    now[0] += keyset.STALE_S - 1
    assert keys.keys is before
    now[0] += 2
    assert keys.keys == ()


# ---- tokens --------------------------------------------------------------------------------------------------------------


def issuer_of(issuer: LocalIssuer, spec: IssuerSpec, keys: KeySet, tenant: str = "") -> ExternalIssuer:
    return ExternalIssuer(issuer.issuer, tenant, spec, keys, lambda principal: principal == OURS)


def hs256(issuer: LocalIssuer) -> str:
    """The public key as a shared secret."""
    pem = (
        issuer.keys["first"]
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return raw(issuer, {"alg": "HS256", "kid": "first"}, lambda text: hmac.new(pem, text, hashlib.sha256).digest())


def raw(issuer: LocalIssuer, header: dict[str, Any], sign: Any = lambda _text: b"", claims: Any = None) -> str:
    parts = [json.dumps(part).encode() for part in (header, issuer.claims() if claims is None else claims)]
    text = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    return (text + b"." + base64.urlsafe_b64encode(sign(text)).rstrip(b"=")).decode()


def forgeries(issuer: LocalIssuer) -> dict[str, str]:
    now, stranger = int(time.time()), LocalIssuer()
    stranger.issuer, stranger.keys = (
        issuer.issuer,
        {"first": rsa.generate_private_key(public_exponent=65537, key_size=2048)},
    )
    return {
        "algorithm none": raw(issuer, {"alg": "none", "kid": "first"}),
        "public key as a secret": hs256(issuer),
        "another's key under this one's name": stranger.token(),
        "a key that it brings along": stranger.token(header={"jwk": public(stranger.keys["first"]), "jku": issuer.issuer}),
        "a key that is not published": stranger.token(header={"kid": "other"}),
        "a path as a key": issuer.token(header={"kid": "../../dev/null"}),
        "an extension that has to be understood": issuer.token(header={"crit": ["exp"], "exp": 1}),
        "a logout token": issuer.token(header={"typ": "logout+jwt"}),
        "another issuer": issuer.token(iss="https://issuer.example"),
        "another audience": issuer.token(aud="https://graph.microsoft.com"),
        "audiences of two planes": issuer.token(aud=[AUDIENCE, "api://arm"]),
        "no audience": issuer.token(aud=None),
        "an audience that is no text": issuer.token(aud={"a": AUDIENCE}),
        "expired": issuer.token(exp=now - 120),
        "not yet": issuer.token(nbf=now + 300),
        "no end": issuer.token(exp=None),
        "an endless end": issuer.token(exp=float("inf")),
        "an end that is no number": issuer.token(exp="soon"),
        "nobody": issuer.token(oid=None),
        "somebody who is no GUID": issuer.token(oid="administrator"),
        "somebody who is a list": issuer.token(oid=[OURS]),
        "one of ours": issuer.token(oid=OURS),
        "one of ours, shouted": issuer.token(oid=OURS.upper()),
        "another tenant": issuer.token(tid=str(uuid.uuid4())),
        "no tenant": issuer.token(tid=None),
        "all groups there are": issuer.token(groups=[str(uuid.uuid4()) for _ in range(201)]),
    }  # fmt: skip


@pytest.mark.anyio
async def test_no_forgery_is_taken(local_issuer: LocalIssuer) -> None:
    spec = spec_of(local_issuer, tenants=[TENANT_ID], audiences={AUDIENCE: "data", "api://arm": "arm"})
    async with kept(spec) as keys:
        issuer = issuer_of(local_issuer, spec, keys)
        local_issuer.usual = {"tid": TENANT_ID}
        assert await issuer.verify(local_issuer.token())  # all that is wrong with the others is what they are named for
        for name, token in forgeries(local_issuer).items():
            with pytest.raises(Unauthorized) as caught:
                await issuer.verify(token)
            assert token not in str(caught.value), name


@pytest.mark.anyio
async def test_what_a_token_says_grants_nothing_by_itself(local_issuer: LocalIssuer) -> None:
    """Not the names of roles, not our own claims, not a group that is a principal of ours; what an operator mapped does."""
    mapped, group, who = (str(uuid.uuid4()) for _ in range(3))
    spec = spec_of(local_issuer, roles={"Sessions.Execute": mapped})
    async with kept(spec) as keys:
        principal = await issuer_of(local_issuer, spec, keys).verify(
            local_issuer.token(
                oid=who.upper(),
                roles=["Owner", "Sessions.Execute", 5],
                groups=[group, OURS, "administrators", None],
                carrel_pools=["*"],
                carrel_identifier="alice",
                carrel_scope="/",
                preferred_username="ann@example.org",
                exp=int(time.time()) + 10**9,
            )
        )

    assert (principal.id, principal.ids) == (who, frozenset([who, group, mapped]))
    assert (principal.is_granted, principal.granted_roles, principal.granted_pools, principal.identifier) == (
        False,
        frozenset(),
        frozenset(),
        None,
    )
    assert (principal.name, principal.kind, principal.plane) == ("ann@example.org", "User", Plane.DATA)
    assert principal.expires_at < time.time() + 3600


@pytest.mark.anyio
async def test_an_issuer_of_many_tenants_speaks_for_those_that_are_let_in(local_issuer: LocalIssuer) -> None:
    """Entra's configuration for all of them, tokens of its version 1 and 2; neither claim may be of another tenant than the other."""
    base, other = local_issuer.issuer, str(uuid.uuid4())
    local_issuer.says(CONFIGURATION, local_issuer.configuration(issuer=f"{base}/{{tenantid}}/v2.0"))
    table = {
        "issuer": f"{base}/{{tenantid}}/v2.0",
        "aliases": [f"{base}/{{tenantid}}/"],
        "discovery": base + CONFIGURATION,
        "tenants": [TENANT_ID, other],
    }
    spec = spec_of(local_issuer, **table)
    async with kept(spec) as keys:
        issuers = {
            iss: ExternalIssuer(iss, tenant, spec, keys, lambda _: False) for iss, tenant in spec.issuers().items()
        }
        assert len(issuers) == 4
        for iss in (f"{base}/{TENANT_ID}/v2.0", f"{base}/{TENANT_ID}/"):
            principal = await issuers[iss].verify(local_issuer.token(iss=iss, tid=TENANT_ID, oid=TENANT_ID))
            assert (principal.id, principal.tenant) == (TENANT_ID, TENANT_ID)
            for tenant in (other, str(uuid.uuid4()), None):
                with pytest.raises(Unauthorized):
                    await issuers[iss].verify(local_issuer.token(iss=iss, tid=tenant))


@pytest.mark.anyio
async def test_derived_ids_are_an_issuers_own(local_issuer: LocalIssuer) -> None:
    """Whatever it calls somebody, groups as well, nobody else's id can come of it: no user has a group's rights by taking its name."""
    spec = spec_of(local_issuer, **{"principal-claim": "sub"})
    async with kept(spec) as keys:
        principal = await issuer_of(local_issuer, spec, keys).verify(
            local_issuer.token(sub=OURS, groups=[OURS, "admins"])
        )

    assert principal.id == derived(local_issuer.issuer, "", OURS) != OURS
    groups = {derived(local_issuer.issuer, "", name, is_group=True) for name in (OURS, "admins")}
    assert principal.ids == {principal.id} | groups and len(principal.ids) == 3
    assert derived("https://other.example", "", OURS) != principal.id


@pytest.mark.anyio
async def test_an_address_that_nobody_has_verified_is_nobodys(local_issuer: LocalIssuer) -> None:
    """At many issuers people write it themselves: whoever writes another's would be that person here."""
    spec = spec_of(local_issuer, **{"principal-claim": "email"})
    async with kept(spec) as keys:
        issuer = issuer_of(local_issuer, spec, keys)
        for verified in (False, "false", 0):
            with pytest.raises(Unauthorized):
                await issuer.verify(local_issuer.token(email="ann@example.org", email_verified=verified))
        for more in ({}, {"email_verified": True}, {"email_verified": "true"}):
            found = await issuer.verify(local_issuer.token(email="ann@example.org", **more))
            assert found.id == derived(local_issuer.issuer, "", "ann@example.org")


@pytest.mark.anyio
@pytest.mark.parametrize("alg", ["RS512", "PS256", "ES256", "ES384", "ES512"])
async def test_algorithms_are_the_keys(local_issuer: LocalIssuer, alg: str) -> None:
    curves = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
    if alg in curves:
        local_issuer.rotate("first", ec.generate_private_key(curves[alg]))
    spec = spec_of(local_issuer)
    async with kept(spec) as keys:
        assert await issuer_of(local_issuer, spec, keys).verify(local_issuer.token(alg=alg))
        if alg == "PS256":
            with pytest.raises(Unauthorized):
                await issuer_of(local_issuer, spec_of(local_issuer, algorithms=["RS256"]), keys).verify(
                    local_issuer.token(alg=alg)
                )


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from([OURS, AUDIENCE, TENANT_ID]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
CLAIMS = (
    "iss",
    "aud",
    "exp",
    "nbf",
    "iat",
    "oid",
    "sub",
    "tid",
    "groups",
    "roles",
    "upn",
    "idtyp",
    "appid",
    "scp",
    "jti",
)
HEADERS = ("kid", "typ", "crit", "b64", "cty", "zip")


@settings(max_examples=60, deadline=None)
@given(
    claims=st.dictionaries(st.sampled_from(CLAIMS), ANYTHING, max_size=4),
    header=st.dictionaries(st.sampled_from(HEADERS), ANYTHING, max_size=2),
)
def test_whatever_an_issuer_signs_is_a_principal_or_refused(claims: dict[str, Any], header: dict[str, Any]) -> None:
    """Never an error of ours, and never somebody of ours."""
    issuer = LocalIssuer()
    issuer.issuer, keys = "https://issuer.example", KeySet(parse_issuers({"a": SIMPLE})[0], clock=lambda: 0.0)
    keys._keys, keys._fetched_at, keys._attempted_at = parse(json.dumps(issuer.jwks()).encode()), 0.0, 0.0
    text = raw(issuer, {"alg": "RS256", "kid": "first", **header}, signed_by(issuer), issuer.claims() | claims)

    async def verified() -> Principal | None:
        with suppress(Unauthorized):
            return await issuer_of(issuer, parse_issuers({"a": SIMPLE})[0], keys).verify(text)
        return None

    principal = asyncio.run(verified())
    assert principal is None or (principal.id != OURS and OURS not in principal.ids and not principal.is_granted)


def signed_by(issuer: LocalIssuer) -> Callable[[bytes], bytes]:
    key = issuer.keys["first"]
    assert isinstance(key, rsa.RSAPrivateKey)
    return lambda text: key.sign(text, padding.PKCS1v15(), hashes.SHA256())

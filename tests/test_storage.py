"""The state folder: made once, kept, private, and refused rather than repaired in silence."""

from __future__ import annotations

import ssl
import stat
import subprocess
import sys
import time
from pathlib import Path
from subprocess import PIPE

import jwt
import pytest
from cryptography import x509

from carrel.certificates import Authority
from carrel.storage import AUDIENCES, SESSION_EXECUTOR, State, StateError
from handshakes import handshake

SECRETS = ("keys/signing/1.pem", "keys/ca.pem", "keys/names.json", "keys/store.key")
DAY = 86_400


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "state"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_first_start_makes_everything_and_keeps_it_private(folder: Path) -> None:
    state = State(folder)
    certificate = state.server_certificate()

    assert [mode(path) for path in (folder, folder / "keys", folder / "tls")] == [0o700] * 3
    assert [mode(folder / name) for name in SECRETS] == [0o600] * 4
    assert mode(certificate) == 0o600
    assert b"PRIVATE" not in state.ca.read_bytes() + state.ca_bundle.read_bytes()
    assert list(folder.rglob(".*")) == []


def test_a_second_start_changes_nothing(folder: Path) -> None:
    first = State(folder)
    certificate = first.server_certificate().read_bytes()
    second = State(folder)

    assert second.server_certificate().read_bytes() == certificate
    assert (first.key_id, first.tenant, first.identity_header) == (second.key_id, second.tenant, second.identity_header)
    assert first.store_keys() == second.store_keys()
    assert first.digest("alice") == second.digest("alice") != second.digest("Alice")


STARTER = """
import sys
from pathlib import Path
from carrel.storage import State
print("here", flush=True)
sys.stdin.readline()
state = State(Path(sys.argv[1]))
print(state.key_id, state.tenant, state.ca.read_bytes())
"""


def test_two_that_start_at_once_agree(folder: Path) -> None:
    command = [sys.executable, "-c", STARTER, str(folder)]
    starters = [subprocess.Popen(command, stdin=PIPE, stdout=PIPE, text=True) for _ in range(3)]
    for starter in starters:
        assert starter.stdout is not None
        assert starter.stdout.readline() == "here\n"
    for starter in starters:  # all are ready: now they race
        assert starter.stdin is not None
        starter.stdin.write("\n")
        starter.stdin.flush()
    results = {starter.communicate(timeout=60)[0] for starter in starters}

    assert len(results) == 1
    assert [starter.returncode for starter in starters] == [0, 0, 0]


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize(
    "content", [b"", b"damaged", b"{}", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_a_damaged_file_is_an_error_that_names_it_and_stays(folder: Path, name: str, content: bytes) -> None:
    State(folder)
    (folder / name).write_bytes(content)

    with pytest.raises(StateError, match=name):
        State(folder)
    assert (folder / name).read_bytes() == content


def test_a_ca_key_with_another_certificate_is_damage(folder: Path, tmp_path: Path) -> None:
    State(folder)
    State(tmp_path / "other")
    ours, other = ((path / "keys/ca.pem").read_bytes() for path in (folder, tmp_path / "other"))
    key, certificate = ours.split(b"-----BEGIN CERT")[0], b"-----BEGIN CERT" + other.split(b"-----BEGIN CERT")[1]
    (folder / "keys/ca.pem").write_bytes(key + certificate)

    with pytest.raises(StateError, match="belong together"):
        State(folder)


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_that_others_may_read_is_refused(folder: Path, name: str) -> None:
    State(folder)
    (folder / name).chmod(0o644)

    with pytest.raises(StateError, match="chmod 600"):
        State(folder)


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="cannot be used"):
        State(tmp_path / "file")


def test_an_open_folder_is_closed(folder: Path) -> None:
    folder.mkdir(parents=True)
    folder.chmod(0o755)
    State(folder)

    assert mode(folder) == 0o700


# ---- certificates ----------------------------------------------------------------------------------------------------


def agree(server_file: Path, ca: Path, name: str) -> None:
    """A TLS handshake in memory, the client as strict as Python 3.13 is by default."""
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(server_file)
    client_context = ssl.create_default_context(cafile=str(ca))
    client_context.verify_flags |= ssl.VERIFY_X509_STRICT
    assert handshake(client_context, server_context, name).version() == "TLSv1.3"


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1", "box.example", "192.0.2.7"])
@pytest.mark.parametrize("file", ["ca.pem", "ca-bundle.pem"])
def test_strict_clients_accept_the_server(folder: Path, name: str, file: str) -> None:
    state = State(folder)
    agree(state.server_certificate(["box.example", "192.0.2.7"]), folder / file, name)


def test_clients_that_trust_another_ca_do_not(folder: Path, tmp_path: Path) -> None:
    certificate = State(folder).server_certificate()
    with pytest.raises(ssl.SSLCertVerificationError):
        agree(certificate, State(tmp_path / "other").ca, "localhost")
    with pytest.raises(ssl.SSLCertVerificationError):
        agree(certificate, folder / "ca.pem", "elsewhere.example")


def test_the_bundle_holds_the_systems_cas_too(folder: Path) -> None:
    state = State(folder)

    assert state.ca_bundle.read_bytes().startswith(state.ca.read_bytes())
    assert state.ca_bundle.read_bytes().count(b"-----BEGIN CERTIFICATE-----") > 10


def test_the_server_certificate_is_renewed_in_time_and_not_before(folder: Path) -> None:
    state = State(folder)
    now = time.time()
    first = state.server_certificate(now=now).read_bytes()
    certificate = x509.load_pem_x509_certificate(first)

    assert (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days <= 398
    assert state.server_certificate(now=now + 365 * DAY).read_bytes() == first
    assert state.server_certificate(now=now + 367 * DAY).read_bytes() != first


def test_the_server_certificate_is_made_again_where_it_does_not_fit(folder: Path, tmp_path: Path) -> None:
    """For a new name, for another CA's, for damage: it can always be made again, so none of these is an error."""
    state = State(folder)
    first = state.server_certificate().read_bytes()
    second = state.server_certificate(["box.example"]).read_bytes()
    assert first != second == state.server_certificate().read_bytes()

    for wrong in (State(tmp_path / "other").server_certificate(["box.example"]).read_bytes(), b"damaged", b""):
        (folder / "tls/server.pem").write_bytes(wrong)
        assert Authority.load((folder / "keys/ca.pem").read_bytes()).covers(
            state.server_certificate().read_bytes(), frozenset(["localhost"]), time.time()
        )


# ---- tokens ----------------------------------------------------------------------------------------------------------


def test_a_token_says_who_may_do_what_where_until_when(folder: Path) -> None:
    state = State(folder)
    token = state.issue_token(AUDIENCES[1] + "/", ttl_s=60, pools=["python"], subject="someone", now=1_000)
    claims = jwt.decode(token, state.public_key, ["RS256"], options={"verify_exp": False, "verify_aud": False})

    assert jwt.get_unverified_header(token)["kid"] == state.key_id
    assert {name: claims[name] for name in ("iss", "aud", "iat", "exp", "sub", "tid", "roles", "carrel_pools")} == {
        "iss": state.issuer,
        "aud": AUDIENCES[1],
        "iat": 1_000,
        "exp": 1_060,
        "sub": "someone",
        "tid": state.tenant,
        "roles": [SESSION_EXECUTOR],
        "carrel_pools": ["python"],
    }


def test_a_digest_tells_nothing_without_the_folder(folder: Path, tmp_path: Path) -> None:
    assert State(folder).digest("alice") != State(tmp_path / "other").digest("alice")

"""HTTPS while a server runs: certificates are exchanged under its feet, and HTTP stays on loopback."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from carrel.certificates import Authority
from carrel.cli import banner
from carrel.cli.certificates import GivenCertificate, OwnCertificate, certificate
from carrel.cli.changes import LOOK_S, Changes
from carrel.cli.endpoints import connection
from carrel.cli.listeners import exposed_http, http_hosts, https_hosts
from carrel.cli.signs import Signs
from carrel.config import Config, load
from carrel.signing import MOST, PUBLISHED_S, SigningFolder, SigningKeys
from carrel.storage import State, StateError
from carrel.tls import LiveCertificate, context
from conftest import Server, SlimServer
from edged import issued
from handshakes import handshake
from processes import eventually

DAY = 86_400
LOOPBACK = ("127.0.0.1", "::1")
ALL = "0.0.0.0"  # noqa: S104 - nobody listens there: it is what settings say


def config(folder: Path, **fields: object) -> Config:
    return Config(folder, folder / "images", **fields)  # type: ignore[arg-type]


# ---- where -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "http", "https"),
    [
        (LOOPBACK, LOOPBACK, LOOPBACK),
        ((ALL,), ("127.0.0.1",), (ALL,)),
        ((ALL, "::"), LOOPBACK, (ALL, "::")),
        (("192.0.2.7",), LOOPBACK, ("192.0.2.7", *LOOPBACK)),
        (("127.0.0.1", "192.0.2.7"), ("127.0.0.1",), ("127.0.0.1", "192.0.2.7")),
    ],
)
def test_http_stays_on_loopback(tmp_path: Path, host: tuple[str, ...], http: object, https: object) -> None:
    """Whatever `host` says; with insecure-http it is where HTTPS is."""
    given = config(tmp_path, host=host)

    assert (http_hosts(given), https_hosts(given), exposed_http(given)) == (http, https, [])
    assert http_hosts(config(tmp_path, host=host, insecure_http=True)) == https


# ---- our own certificate -------------------------------------------------------------------------------------------------


def names_in(pem: bytes) -> set[str]:
    held = x509.load_pem_x509_certificate(pem).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(name.value) for name in held}


def test_our_certificate_holds_every_name_that_leads_here(tmp_path: Path) -> None:
    """On loopback the local ones and those that were given; listening everywhere, the machine's own besides."""
    local = OwnCertificate(config(tmp_path, tls_name=("carrel.example",)), State(tmp_path))
    everywhere = OwnCertificate(config(tmp_path, host=(ALL,)), State(tmp_path))

    assert names_in(local.pem) >= {"localhost", *LOOPBACK, "carrel.example"}
    assert names_in(everywhere.pem) >= {"localhost", socket.gethostname()}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return  # a machine without a way out
        assert probe.getsockname()[0] in names_in(everywhere.pem)


def test_our_certificate_is_made_again_in_time_by_itself(tmp_path: Path) -> None:
    """A month before its end, or at once where its file is spoiled; the CA long before its own, with the same key."""
    state = State(tmp_path)
    own = OwnCertificate(config(tmp_path), state)
    first, trusted, now = own.pem, state.ca.read_bytes(), time.time()

    assert not own.look(now)
    assert not own.look(now + 300 * DAY)
    assert own.look(now + 370 * DAY)
    (tmp_path / "tls/server.pem").write_bytes(b"spoiled")
    assert own.look(now)
    assert own.pem != first
    assert own.look(now + 9 * 365 * DAY)
    renewed = x509.load_pem_x509_certificate(state.ca.read_bytes())
    x509.load_pem_x509_certificate(own.pem).verify_directly_issued_by(x509.load_pem_x509_certificate(trusted))
    assert renewed.not_valid_after_utc.timestamp() > now + 18 * 365 * DAY
    assert State(tmp_path).ca.read_bytes() == state.ca.read_bytes() != trusted


@pytest.mark.parametrize(
    ("host", "where"),
    [(("192.0.2.7",), "127.0.0.1"), (("192.0.2.7", "::1"), "[::1]"), ((ALL,), "127.0.0.1"), (("::",), "[::1]")],
)
def test_who_may_have_a_token_by_being_here_is_told_an_address_of_here(
    tmp_path: Path, host: tuple[str, ...], where: str
) -> None:
    """The managed-identity endpoint answers on loopback only, also where HTTP is served elsewhere first."""
    given = config(tmp_path, host=host, insecure_http=True)

    assert connection(given, State(tmp_path), [], 80, 443, {})["identity_endpoint"] == f"http://{where}:80/msi/token"


# ---- the operator's -------------------------------------------------------------------------------------------------------


def encrypted(pem: bytes) -> bytes:
    key = serialization.load_pem_private_key(pem, None)
    kind = serialization.BestAvailableEncryption(b"secret")
    locked = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, kind)
    return locked + pem[pem.index(b"-----BEGIN CERT") :]


def broken(operators_root: Authority) -> dict[str, tuple[bytes, str]]:
    whole, other = issued(operators_root), issued(operators_root)
    cut = whole.index(b"-----BEGIN CERT")
    return {
        "nothing": (b"", "no key"),
        "half of it": (whole[: cut + 400], "damaged"),
        "no certificate": (whole[:cut], "no certificate"),
        "no key": (whole[cut:], "no key"),
        "another's key": (other[: other.index(b"-----BEGIN CERT")] + whole[cut:], "belong together"),
        "a locked key": (encrypted(whole), "encrypted"),
        "ended": (issued(operators_root, now=time.time() - 500 * DAY), "ended on"),
        "no text": (b"\xff\x00" * 1000, "no key"),
        "huge": (whole + b"#" * 64 * 1024, "64 KiB"),
    }


def test_the_largest_certificate_and_the_most_keys_are_handed_over(tmp_path: Path, operators_root: Authority) -> None:
    """A message that is too long for its socket is not sent at all: a revoked key would go on in the gateway, and nobody be told."""
    good, files = issued(operators_root), (tmp_path / "chain.pem", tmp_path / "key.pem")
    cut = good.index(b"-----BEGIN CERT")
    for file, part in zip(files, (good[cut:], good[:cut]), strict=True):
        file.write_bytes(part.ljust(64 * 1024, b"\n"))
    state = State(tmp_path / "state")
    changes = Changes(config(state.path, tls_cert=files[0], tls_key=files[1]), state)
    state.adopt(SigningKeys(replace(state.keys.newest, number=number) for number in range(1, MOST + 1)))

    with changes.connect() as theirs:
        changes.send()
        theirs.setblocking(False)
        message = json.loads(theirs.recv(1024 * 1024))
    changes.close()

    assert len(message["keys"]["keys"]) == MOST
    assert message["certificate"] == changes.pem.decode()


def test_what_cannot_be_served_does_not_start_a_server_and_stops_none(
    tmp_path: Path, operators_root: Authority
) -> None:
    file, good = tmp_path / "server.pem", issued(operators_root)
    given = config(tmp_path / "state", tls_cert=file)
    state = State(given.state)
    with pytest.raises(StateError, match=r"server\.pem: No such file"):
        certificate(given, state)
    file.write_bytes(good)
    running = certificate(given, state)

    for name, (pem, why) in broken(operators_root).items():
        file.write_bytes(pem)
        assert not running.look(time.time()), name
        assert running.pem.strip() == good.strip(), name
        with pytest.raises(StateError, match=why):
            GivenCertificate(given, state)
    file.unlink()
    os.mkfifo(file)  # to read one would hang
    assert not running.look(time.time())
    with pytest.raises(StateError, match="no regular file"):
        certificate(given, state)
    with pytest.raises(StateError, match="--tls-cert"):
        certificate(config(given.state, tls_key=file), state)


def test_a_pair_that_is_replaced_file_by_file_is_served_when_it_fits(tmp_path: Path, operators_root: Authority) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"

    def put(file: Path, text: bytes) -> None:
        file.with_suffix(".new").write_bytes(text)
        file.with_suffix(".new").replace(file)

    first, second = issued(operators_root), issued(operators_root)
    cuts = [pem.index(b"-----BEGIN CERT") for pem in (first, second)]
    put(cert, first[cuts[0] :])
    put(key, first[: cuts[0]])
    running = certificate(config(tmp_path / "state", tls_cert=cert, tls_key=key), State(tmp_path / "state"))

    put(cert, second[cuts[1] :])
    assert not running.look(time.time())
    put(key, second[: cuts[1]])
    assert running.look(time.time())
    assert shown(LiveCertificate(running.pem)) == leaf(second)


def test_a_key_that_everybody_can_read_is_told_of(
    tmp_path: Path, operators_root: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "server.pem"
    file.write_bytes(issued(operators_root))
    for mode, told in ((0o640, 0), (0o644, 1)):
        caplog.clear()
        file.chmod(mode)
        certificate(config(tmp_path / "state", tls_cert=file), State(tmp_path / "state"))
        assert len([each for each in caplog.records if "can read the key" in each.message]) == told


def test_a_certificate_that_nobody_renews_is_warned_of_each_day(
    tmp_path: Path, operators_root: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "server.pem"
    file.write_bytes(issued(operators_root))
    running, now = certificate(config(tmp_path / "state", tls_cert=file), State(tmp_path / "state")), time.time()

    def warnings(days: float) -> int:
        caplog.clear()
        running.look(now + days * DAY)
        return len([each for each in caplog.records if "ends soon" in each.message])

    assert [warnings(days) for days in (0, 380, 391, 391.1, 392.2)] == [0, 0, 1, 0, 1]


def test_what_is_written_twice_in_one_tick_is_read_twice(tmp_path: Path) -> None:
    """The second time may leave no sign: same length, same time."""
    file = tmp_path / "file"
    file.write_bytes(b"first")
    signs = Signs([file])
    assert signs.have_changed()
    stamp = file.stat().st_mtime_ns
    file.write_bytes(b"other")
    os.utime(file, ns=(stamp, stamp))

    assert signs.have_changed()
    os.utime(file, ns=(stamp - 5 * 10**9, stamp - 5 * 10**9))
    assert signs.have_changed()
    assert not signs.have_changed()


def test_clients_here_are_told_to_trust_the_operators_root(tmp_path: Path, operators_root: Authority) -> None:
    """Where it stands in the file: ours, and what the machine trusts, are there as well. Opening the folder does not take it back."""
    file = tmp_path / "server.pem"
    file.write_bytes(issued(operators_root))
    state = State(tmp_path / "state")
    certificate(config(state.path, tls_cert=file), state)

    for text in (state.ca.read_bytes(), State(state.path).ca_bundle.read_bytes()):
        assert operators_root.certificate_pem in text
        assert text.startswith(state.ca.read_bytes()[: len(operators_root.certificate_pem) - 100])


# ---- exchanged -------------------------------------------------------------------------------------------------------------


def leaf(pem: bytes) -> bytes:
    return x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER)


def shown(live: LiveCertificate, name: str | None = "localhost") -> bytes | None:
    """What somebody who connects now is shown."""
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
    return handshake(trust, live.front, name).getpeercert(binary_form=True)


@pytest.mark.parametrize("name", ["localhost", None], ids=["by name", "by address"])
def test_who_connects_next_is_shown_the_next_one(operators_root: Authority, name: str | None) -> None:
    """Of whatever kind of key; one that cannot be served changes nothing."""
    first, second = issued(operators_root), issued(operators_root)
    live = LiveCertificate(first)
    assert shown(live, name) == leaf(first)

    live.replace(second)
    with pytest.raises(ValueError, match="damaged"):
        live.replace(second[:900])

    assert shown(live, name) == leaf(second)


def test_no_old_protocol_is_spoken(operators_root: Authority) -> None:
    assert context(issued(operators_root)).minimum_version == ssl.TLSVersion.TLSv1_2


# ---- in a running server ----------------------------------------------------------------------------------------------------


def connected(server: Server) -> ssl.SSLSocket:
    port = int(server.connection["https"].rsplit(":", 1)[1])
    trust = ssl.create_default_context(cafile=server.connection["ca"])
    return trust.wrap_socket(socket.create_connection(("127.0.0.1", port), 5), server_hostname="localhost")


def asked(connection: ssl.SSLSocket) -> bytes:
    connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return connection.recv(65_536).partition(b"\r\n")[0]


def test_a_running_server_takes_the_operators_next_certificate(
    edge_server: Server, operators_file: Path, operators_root: Authority
) -> None:
    """Within a second, as another user without a right to the file; who is connected stays connected."""
    with connected(edge_server) as before:
        assert asked(before) == b"HTTP/1.1 200 OK"
        following = issued(operators_root)
        operators_file.write_bytes(following[:300])  # half of it
        time.sleep(0.6)
        with connected(edge_server) as meanwhile:
            assert meanwhile.getpeercert(binary_form=True) == before.getpeercert(binary_form=True)
        operators_file.write_bytes(following)

        def is_new() -> bool:
            with connected(edge_server) as after:
                return after.getpeercert(binary_form=True) == leaf(following)

        assert eventually(is_new, 3)
        assert asked(before) == b"HTTP/1.1 200 OK"


@pytest.mark.thorough
def test_the_next_gateway_serves_what_the_last_one_was_handed(
    edge_server: Server, operators_file: Path, operators_root: Authority
) -> None:
    """Certificate and keys, without a pause in which it has the older ones."""
    following = issued(operators_root)
    operators_file.write_bytes(following)
    token, before = edge_server.connection["token"], edge_server.pids["gateway"]
    SigningFolder(edge_server.state / "keys/signing", edge_server.state / "none").rotate()
    time.sleep(3 * LOOK_S)
    os.kill(before, signal.SIGKILL)
    assert eventually(lambda: edge_server.pids["gateway"] != before, 15)

    with connected(edge_server) as after:
        assert after.getpeercert(binary_form=True) == leaf(following)
    time.sleep(PUBLISHED_S)
    for each in (token, State(edge_server.state).issue_token()):
        headers = {"Authorization": f"Bearer {each}"}
        query = {"api-version": "2025-10-02-preview"}
        reply = httpx.get(f"{edge_server.endpoint}/metadata", params=query, headers=headers, trust_env=False)
        assert reply.status_code == 200


@pytest.mark.one_level
def test_a_running_server_renews_its_own_certificate(server: Server) -> None:
    """As it would a month before the end of the one that there is: the new one is of the same CA, and served within a second."""
    file = server.state / "tls/server.pem"
    authority = Authority.load((server.state / "keys/ca.pem").read_bytes())
    with connected(server) as before:
        file.write_bytes(issued(authority, now=time.time() - 380 * DAY))  # as its own will be a year from now

        def is_new() -> bool:
            with connected(server) as after:
                return after.getpeercert(binary_form=True) != before.getpeercert(binary_form=True)

        assert eventually(is_new, 3)
        assert asked(before) == b"HTTP/1.1 200 OK"
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.thorough
def test_beyond_loopback_only_https_is_served(slim_server: SlimServer) -> None:
    """On an address that others reach; with insecure-http HTTP as well, and that is said aloud."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no address but loopback")
        address = probe.getsockname()[0]
    for options in ([], ["--insecure-http"]):
        with slim_server("--host", ALL, *options) as server:
            http, https = (int(server.connection[name].rsplit(":", 1)[1]) for name in ("http", "https"))
            trust = ssl.create_default_context(cafile=server.connection["ca"])
            with trust.wrap_socket(socket.create_connection((address, https), 5), server_hostname=address) as end:
                assert asked(end) == b"HTTP/1.1 200 OK"
            if options:
                socket.create_connection((address, http), 5).close()
            else:
                with pytest.raises(ConnectionRefusedError):
                    socket.create_connection((address, http), 5)
            assert server.connection["http"].startswith("http://127.0.0.1:")


def test_http_beyond_loopback_is_announced(tmp_path: Path) -> None:
    """Above everything else in the start-up text."""
    ready: dict[str, Any] = {"pools": {}, "passed_over": [], "warnings": []}
    text = banner._alarm(config(tmp_path, host=(ALL,), insecure_http=True), ready)

    assert "HTTP WITHOUT ENCRYPTION is served on " + ALL in "\n".join(text)
    assert banner._alarm(config(tmp_path, host=(ALL,)), ready) == []


def test_settings_of_tls_are_parsed_at_the_door() -> None:
    assert load({"tls-name": ["A.example", "*.b.example", "192.0.2.1"]}, {}).tls_name == (
        "a.example",
        "*.b.example",
        "192.0.2.1",
    )

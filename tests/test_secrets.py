"""Secrets of pools: where they may be found, and that nothing ever shows one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from carrel import pool_secrets
from carrel.config import ConfigError, load
from carrel.errors import CarrelError, RequestInvalid
from carrel.models import PoolSpec
from carrel.pool_secrets import PoolSecrets
from carrel.wire.environments import decode_environment

SECRET = "s3cr3t-v4lue"


def pool(tmp_path: Path, text: str) -> PoolSpec:
    file = tmp_path / "carrel.toml"
    file.write_text(f"[pools.python.carrel]\n{text}\n")
    return load({"config": str(file)}, {}).pools[0]


def test_secrets_come_from_files_and_from_the_environment(tmp_path: Path) -> None:
    """Without the line end that an editor leaves; everything else is kept."""
    (tmp_path / "key").write_bytes(b" grue\xc3\x9fe \n\r\n")
    spec = pool(
        tmp_path,
        f'secrets.a = {{file = "{tmp_path}/key"}}\nsecrets.b = {{environment = "B"}}\n'
        f'webhook = {{url = "https://example.org/x", secret = {{environment = "HOOK"}}}}',
    )

    environment = {"B": SECRET, "HOOK": "signs", "PATH": "/bin"}
    found = pool_secrets.read([spec, PoolSpec("other")], environment)
    pool_secrets.forget([spec], environment)
    assert environment == {"PATH": "/bin"}, "what is started afterwards does not inherit them"
    assert list(found) == ["python"]
    secrets = PoolSecrets.from_json(json.loads(json.dumps(found["python"].to_json())))
    assert (secrets.get("a"), secrets.get("b"), secrets.get("c")) == (" grueße \n", SECRET, None)
    assert secrets.webhook == "signs"
    assert SECRET not in f"{secrets!r} {secrets} {spec}"


@pytest.mark.parametrize(
    "text",
    [
        f'secrets.a = "{SECRET}"',
        f'secrets = "{SECRET}"',
        f'secrets.a = {{value = "{SECRET}"}}',
        f'secrets.a = {{file = "{SECRET}"}}',
        f'secrets.a = {{file = "/x", environment = "{SECRET}"}}',
        f'secrets.a = {{environment = "{SECRET} x"}}',
        f'secrets.a = ["{SECRET}"]',
        f'webhook = {{url = "https://example.org", secret = "{SECRET}"}}',
        f'webhook = {{url = "ftp://example.org/{SECRET}", secret = {{environment = "X"}}}}',
        f'webhook = {{url = "https://user:{SECRET}@example.org", secret = {{environment = "X"}}}}',
    ],
)
def test_what_was_written_in_place_of_a_source_is_not_repeated(tmp_path: Path, text: str) -> None:
    """It may be the secret itself, and the message goes to logs."""
    with pytest.raises(ConfigError) as refused:
        pool(tmp_path, text)
    assert SECRET not in str(refused.value)
    assert "carrel" in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        'webhook.url = "https://example.org"',
        'webhook.secret = {environment = "X"}',
        'webhook = {url = "ftp://example.org", secret = {environment = "X"}}',
        'webhook = {url = "https:///path", secret = {environment = "X"}}',
        'webhook = {url = 5, secret = {environment = "X"}}',
        'secrets."a b" = {environment = "X"}',
        "expiryNotice = -1",
        "expiryNotice = true",
        'logs.records = "everything"',
        "logs.records = true",
        'logs.retention = "7 days"',
        'logs.retention = "0d"',
        'logs.retention = "30s"',
        'logs.retention = "4000d"',
        'logs.retention = "\u0667d"',
        "logs.retention = 7",
        "logs = 7",
    ],
)
def test_settings_that_cannot_be(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError):
        pool(tmp_path, text)


@pytest.mark.parametrize("content", [None, b"", b"\n", b"\xff", b"x\0y", b"x" * 65_537])
def test_a_secret_that_cannot_be_had_stops_the_start(tmp_path: Path, content: bytes | None) -> None:
    """With its place and the reason, before anybody counts on it."""
    if content is not None:
        (tmp_path / "key").write_bytes(content)
    spec = pool(tmp_path, f'secrets.a = {{file = "{tmp_path}/key"}}')

    with pytest.raises(ConfigError, match=r"\[pools.python\] carrel.secrets.a"):
        pool_secrets.read([spec], {})


# ---- the environment of a session ------------------------------------------------------------------------------------------------


def decoded(body: Any) -> dict[str, str]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return dict(decode_environment(raw, {"key": SECRET}.get))


def test_an_environment_is_texts_and_secrets() -> None:
    assert decoded(b"") == decoded({}) == decoded({"environment": {}}) == {}
    assert decoded({"environment": {"A": "1", "_b2": "", "C": "ü = \n", "K": {"secretRef": "key"}}}) == {
        "A": "1",
        "_b2": "",
        "C": "ü = \n",
        "K": SECRET,
    }
    assert len(decoded({"environment": {f"N{n}": "x" * 1000 for n in range(64)}})) == 64


@pytest.mark.parametrize(
    "environment",
    [
        None,
        [],
        "A=1",
        {"": "x"},
        {"1A": "x"},
        {"A=B": "x"},
        {"A\0": "x"},
        {"Ä": "x"},
        {"A" * 129: "x"},
        {"A": None},
        {"A": 5},
        {"A": ["x"]},
        {"A": f"{SECRET}\0"},
        {"A": f"{SECRET}\ud800"},
        {"A": {"secretRef": SECRET}},
        {"A": {"secretRef": 5}},
        {"A": {"secretRef": ["key"]}},
        {"A": {"secretRef": "key", "value": SECRET}},
        {"A": {"value": SECRET}},
        {"A": {}},
        {f"N{n}": "" for n in range(65)},
        {"A": SECRET * 6000},
    ],
)
def test_an_environment_that_is_none(environment: Any) -> None:
    with pytest.raises(RequestInvalid) as refused:
        decoded({"environment": environment})
    assert (refused.value.target or "").startswith("environment")
    assert SECRET not in refused.value.message + str(refused.value.target)


@pytest.mark.parametrize(
    "body", [b"[]", b"{", b'{"environment": {"A": "' + SECRET.encode(), b"\xff", {"env": {}}, b'{"a":' * 10_000]
)
def test_a_body_that_is_none(body: Any) -> None:
    with pytest.raises(CarrelError) as refused:
        decoded(body)
    assert refused.value.status == 400
    assert SECRET not in refused.value.message

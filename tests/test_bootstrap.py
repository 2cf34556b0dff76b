"""From nothing to `.venv`: the package index is found as uv and pip would find it, and only a file with a locked hash is taken."""

from __future__ import annotations

import hashlib
import platform
from pathlib import Path

import pytest

import bootstrap
from carrel import registry
from carrel.registry import PUBLIC_INDEX, Sources

ROOT = Path(__file__).parent.parent


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """An environment without settings."""
    return {
        "HOME": str(tmp_path),
        "PIP_CONFIG_FILE": str(tmp_path / "pip.conf"),
        "UV_CONFIG_FILE": str(tmp_path / "uv.toml"),
    }


def wheel_name(version: str) -> str:
    return f"uv-{version}-py3-none-manylinux_2_17_{platform.machine()}.whl"


def index(folder: Path, version: str, content: bytes) -> str:
    """A package index in a folder, as PEP 503 has it."""
    pages = folder / "simple/uv"
    pages.mkdir(parents=True)
    (folder / wheel_name(version)).write_bytes(content)
    links = f'<a href="../../{wheel_name(version)}#sha256=00">x</a><a href="uv-{version}-py3-none-win32.whl">x</a>'
    (pages / "index.html").write_text(links)
    return (folder / "simple").as_uri()


def test_without_settings_the_public_index_is_used(home: dict[str, str]) -> None:
    assert registry.sources(home).indexes == (PUBLIC_INDEX,)


def test_pips_settings_are_translated_for_uv(home: dict[str, str]) -> None:
    """A machine that was pointed at a mirror for pip needs nothing else."""
    Path(home["PIP_CONFIG_FILE"]).write_text(
        "[global]\nindex-url = https://mirror.test/simple\nextra-index-url = https://b.test/s\n"
    )

    environment = registry.uv_environment(home)

    assert environment["UV_DEFAULT_INDEX"] == "https://mirror.test/simple"
    assert environment["UV_INDEX"] == "https://b.test/s"
    assert environment["UV_PYTHON_DOWNLOADS"] == "never"


def test_npm_knows_the_machines_certificates(tmp_path: Path) -> None:
    """Node has a list of its own: behind a company's proxy nothing could be fetched that pip and curl can."""
    bundle = tmp_path / "ca.pem"
    bundle.write_text("-----BEGIN CERTIFICATE-----\n")

    assert registry.node_environment({"SSL_CERT_FILE": str(bundle)})["NODE_EXTRA_CA_CERTS"] == str(bundle)
    own = {"SSL_CERT_FILE": str(bundle), "NODE_EXTRA_CA_CERTS": "/own"}
    assert registry.node_environment(own)["NODE_EXTRA_CA_CERTS"] == "/own"
    found = registry.node_environment({}).get("NODE_EXTRA_CA_CERTS")
    assert found is None or Path(found).is_file()


def test_environment_beats_file(home: dict[str, str]) -> None:
    Path(home["PIP_CONFIG_FILE"]).write_text("[global]\nindex-url = https://file.test/simple\n")

    assert (
        registry.sources(home | {"PIP_INDEX_URL": "https://variable.test/simple"}).index
        == "https://variable.test/simple"
    )


def test_uvs_own_settings_are_left_alone(home: dict[str, str]) -> None:
    """Who has set up uv meant it, and pip's settings do not interfere."""
    environment = registry.uv_environment(
        home | {"UV_DEFAULT_INDEX": "https://uv.test/simple", "PIP_INDEX_URL": "https://pip.test"}
    )

    assert environment["UV_DEFAULT_INDEX"] == "https://uv.test/simple"
    assert "UV_INDEX" not in environment


def test_uv_toml_is_read(home: dict[str, str]) -> None:
    Path(home["UV_CONFIG_FILE"]).write_text('[[index]]\nurl = "https://toml.test/simple"\ndefault = true\n')

    assert registry.sources(home).index == "https://toml.test/simple"


def test_the_locked_wheel_is_taken_from_the_index(tmp_path: Path) -> None:
    address = index(tmp_path, "1.2", b"wheel")
    digest = hashlib.sha256(b"wheel").hexdigest()

    assert bootstrap.download_wheel("uv", "1.2", {digest}, Sources(index=address)) == b"wheel"


def test_a_wheel_in_a_folder_will_do(tmp_path: Path) -> None:
    """pip's find-links: a machine without any index."""
    (tmp_path / wheel_name("1.2")).write_bytes(b"wheel")
    where = Sources(index=(tmp_path / "none").as_uri(), links=(str(tmp_path),))

    assert bootstrap.download_wheel("uv", "1.2", {hashlib.sha256(b"wheel").hexdigest()}, where) == b"wheel"


def test_a_wheel_with_another_hash_is_refused(tmp_path: Path) -> None:
    """An index that was tampered with installs nothing."""
    address = index(tmp_path, "1.2", b"evil")

    with pytest.raises(OSError, match="its hash is not in the lock"):
        bootstrap.download_wheel("uv", "1.2", {"0" * 64}, Sources(index=address))


def test_a_password_is_not_shown(tmp_path: Path) -> None:
    """What goes wrong with a private mirror is said without its credentials."""
    where = Sources(index=f"file://user:secret@{tmp_path}/simple")

    with pytest.raises(OSError) as caught:
        bootstrap.download_wheel("uv", "1.2", {"0" * 64}, where)

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("lock", ["server.lock", "dev.lock"])
def test_locks_name_every_file_by_hash_and_no_place(lock: str) -> None:
    text = (ROOT / "requirements" / lock).read_text()
    pinned = [line for line in text.replace("\\\n", " ").splitlines() if line and not line.lstrip().startswith("#")]

    assert all("==" in line and "--hash=sha256:" in line for line in pinned)
    assert not any(mark in text for mark in ("://", "--index", "--find-links", " @ ", "file:"))
    assert bootstrap.locked(text, "uv")[1]

"""Where this machine takes Python packages from, and what uv must be told so that it takes them from there too.

People point a machine at a mirror in pip's settings more often than in uv's, and uv reads only its own. So: uv's settings count where
there are any, else pip's are translated, else the public index. Every file that is installed is named by its hash in a lock of ours,
so where it comes from decides nothing about what it is.

Standard library only and free of imports from Carrel: `tools/bootstrap.py` loads this file before anything is installed.
"""

from __future__ import annotations

import configparser
import os
import ssl
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# The default that pip and uv both have built in. It stands here, and only here, because a machine without either has nobody to ask.
PUBLIC_INDEX = "https://pypi.org/simple"

_SYSTEM_BUNDLE = (
    "/etc/ssl/certs/ca-certificates.crt"  # Debian's, where Python's own OpenSSL was built to look elsewhere
)
_UV_INDEX_VARIABLES = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS")


@dataclass(frozen=True, slots=True)
class Sources:
    """Simple-API addresses (PEP 503), best first, and folders or pages of wheels. Empty where nothing was set."""

    index: str | None = None
    extra: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    certificates: str | None = None  # a CA bundle to trust, where one is set

    @property
    def indexes(self) -> tuple[str, ...]:
        return (self.index or PUBLIC_INDEX, *self.extra)


def sources(environ: Mapping[str, str] = os.environ) -> Sources:
    """What this machine is set to: uv's settings where there are any, else pip's."""
    from_uv = _uv_settings(environ)
    return from_uv if from_uv != Sources(certificates=from_uv.certificates) else _pip_settings(environ)


def uv_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """`environ` for a uv process: its own settings untouched, or pip's translated; never the download of an interpreter."""
    result = {**environ, "UV_PYTHON_DOWNLOADS": "never", "UV_NO_PROGRESS": environ.get("UV_NO_PROGRESS", "1")}
    found = sources(environ)
    if found.certificates:
        result.setdefault("SSL_CERT_FILE", found.certificates)
    elif has_system_certificates():
        # uv brings its own list of CAs; the machine's also holds a company's own, as pip and curl would find there.
        result.setdefault("UV_SYSTEM_CERTS", "true")
    return result if _has_uv_settings(environ) else result | _translated(found)


def node_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """`environ` for Node and npm, which bring their own list of CAs as uv does, and take one file with more (NODE_EXTRA_CA_CERTS)."""
    result = dict(environ)
    known = (environ.get("SSL_CERT_FILE"), ssl.get_default_verify_paths().cafile, _SYSTEM_BUNDLE)
    file = next((each for each in known if each and Path(each).is_file()), None)
    if file is not None:
        result.setdefault("NODE_EXTRA_CA_CERTS", file)
    return result


def has_system_certificates() -> bool:
    """Whether this machine knows any CA (a minimal Debian does not)."""
    paths = ssl.get_default_verify_paths()
    folder = Path(paths.capath) if paths.capath else None
    has_files = folder is not None and folder.is_dir() and any(folder.iterdir())
    return has_files or bool(ssl.create_default_context().cert_store_stats()["x509_ca"])


def _translated(found: Sources) -> dict[str, str]:
    """pip's settings as uv's."""
    result = {}
    if found.index:
        result["UV_DEFAULT_INDEX"] = found.index
    if found.extra:
        result["UV_INDEX"] = " ".join(found.extra)
    if found.links:
        result["UV_FIND_LINKS"] = ",".join(found.links)
    # pip looks at all its indexes for a version, uv stops at the first that knows the name. Safe for us: the locks name hashes.
    if result:
        result["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    return result


def _has_uv_settings(environ: Mapping[str, str]) -> bool:
    return any(environ.get(name) for name in _UV_INDEX_VARIABLES) or _uv_file(environ) != Sources()


def _uv_settings(environ: Mapping[str, str]) -> Sources:
    file = _uv_file(environ)
    return Sources(
        index=_bare(environ.get("UV_DEFAULT_INDEX") or environ.get("UV_INDEX_URL")) or file.index,
        extra=tuple(_bare(each) or "" for each in _words(environ, "UV_INDEX", "UV_EXTRA_INDEX_URL")) or file.extra,
        links=tuple(filter(None, (environ.get("UV_FIND_LINKS") or "").split(","))) or file.links,
        certificates=environ.get("SSL_CERT_FILE") or None,
    )


def _uv_file(environ: Mapping[str, str]) -> Sources:
    """The indexes of the first uv.toml that exists (the user's, then the system's)."""
    for path in _uv_paths(environ):
        try:
            settings: dict[str, Any] = tomllib.loads(path.read_text("utf-8"))
        except (OSError, ValueError):
            continue  # uv itself says what is wrong with its file
        tables = [each for each in settings.get("index", []) if isinstance(each, dict) and "url" in each]
        default = next((str(each["url"]) for each in tables if each.get("default")), settings.get("index-url"))
        extra = [str(each["url"]) for each in tables if not each.get("default")] + settings.get("extra-index-url", [])
        return Sources(default, tuple(extra), tuple(settings.get("find-links", [])))
    return Sources()


def _uv_paths(environ: Mapping[str, str]) -> list[Path]:
    if named := environ.get("UV_CONFIG_FILE"):
        return [Path(named)]
    home = environ.get("XDG_CONFIG_HOME") or f"{environ.get('HOME', '')}/.config"
    return [Path(home, "uv/uv.toml"), Path("/etc/uv/uv.toml")]


def _pip_settings(environ: Mapping[str, str]) -> Sources:
    """pip's environment variables, then its files: https://pip.pypa.io/en/stable/topics/configuration/."""
    parser = configparser.RawConfigParser()
    for path in _pip_paths(environ):
        try:
            parser.read(path, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError):
            continue  # pip itself says what is wrong with its file

    def value(name: str) -> str:
        variable = "PIP_" + name.upper().replace("-", "_")
        in_files = parser.get("install", name, fallback="") or parser.get("global", name, fallback="")
        return environ.get(variable) or in_files

    return Sources(
        index=value("index-url") or None,
        extra=tuple(value("extra-index-url").split()),
        links=tuple(value("find-links").split()),
        certificates=environ.get("SSL_CERT_FILE") or value("cert") or None,
    )


def _pip_paths(environ: Mapping[str, str]) -> list[Path]:
    """Weakest first, as configparser overrides."""
    if named := environ.get("PIP_CONFIG_FILE"):
        return [Path(named)]
    home = environ.get("HOME", "")
    config = environ.get("XDG_CONFIG_HOME") or f"{home}/.config"
    return [
        Path("/etc/xdg/pip/pip.conf"),
        Path("/etc/pip.conf"),
        Path(home, ".pip/pip.conf"),
        Path(config, "pip/pip.conf"),
    ]


def _words(environ: Mapping[str, str], *names: str) -> list[str]:
    return [word for name in names for word in (environ.get(name) or "").split()]


def _bare(index: str | None) -> str | None:
    """uv takes `name=https://…`; the name is its own business."""
    if index and "=" in index.split("://", 1)[0]:
        return index.split("=", 1)[1]
    return index or None

"""Sessions, pool metadata and errors as they stand in replies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from carrel.errors import CarrelError
from carrel.models import PoolStatus, SessionView
from carrel.wire import jsons
from carrel.wire.times import timestamp


@dataclass(frozen=True, slots=True)
class Software:
    """What runs in a pool's sessions, for `metadata`: names with versions."""

    runtimes: tuple[tuple[str, str], ...]
    packages: tuple[tuple[str, str], ...]
    kernel_version: str


def encode_session(view: SessionView) -> bytes:
    return jsons.encode(_session(view))


def encode_sessions(views: list[SessionView], next_link: str | None) -> bytes:
    return jsons.encode({"sessions": [_session(view) for view in views], "nextLink": next_link})


def encode_metadata(status: PoolStatus, software: Software) -> bytes:
    created = timestamp(status.created_at)
    return jsons.encode(
        {
            "runtimes": _versions(software.runtimes),
            "preInstalledPackages": _versions(software.packages),
            "createdAt": created,
            "lastUpdatedAt": created,
            "jupyterKernel": {
                "name": "ipython",
                "version": software.kernel_version,
                "projectUrl": "https://github.com/ipython/ipython",
                "description": "IPython's shell, used as a library; runs Python with top-level await and magics",
            },
            "carrel": {
                "isolation": status.isolation,
                "weaknesses": list(status.weaknesses),
                "error": status.error,
            },
        }
    )


def encode_error(error: CarrelError, trace_id: str) -> bytes:
    """The body of every error of ours. Full pools answer un-nested on the live service: 429 has both forms."""
    fields = {"code": error.code, "message": error.message, "target": error.target, "traceId": trace_id}
    body: dict[str, Any] = {"error": fields}
    if error.status == 429:
        body |= {"code": error.code, "message": error.message}
    return jsons.encode(body)


def _session(view: SessionView) -> dict[str, Any]:
    return {
        "identifier": view.identifier,
        "createdAt": timestamp(view.created_at),
        "lastAccessedAt": timestamp(view.last_used_at),
        "expireAt": timestamp(view.expires_at),
        "etag": view.guid,
    }


def _versions(pairs: tuple[tuple[str, str], ...]) -> list[dict[str, str]]:
    return [{"name": name, "version": version} for name, version in pairs]

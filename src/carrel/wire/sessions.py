"""Sessions, pool metadata and errors as they stand in replies."""

from __future__ import annotations

from typing import Any

from carrel.errors import CarrelError
from carrel.models import ImageInfo, Notice, PoolStatus, SessionView, Software
from carrel.wire import jsons
from carrel.wire.times import timestamp

# `jupyterKernel` is a required field of Azure's; what runs the code stands in it, by the image's runtime.
_KERNELS = {
    "python": (
        "ipython",
        "https://github.com/ipython/ipython",
        "IPython's shell, used as a library; runs Python with top-level await and magics",
    ),
    "node": ("node", "https://nodejs.org", "Node.js with top-level await; const, let and class may be declared again"),
    "shell": (
        "bash",
        "https://www.gnu.org/software/bash/",
        "Each command is a fresh process; exported variables are kept",
    ),
}


def encode_session(view: SessionView) -> bytes:
    return jsons.encode(_session(view))


def encode_sessions(views: list[SessionView], next_link: str | None) -> bytes:
    return jsons.encode({"sessions": [_session(view) for view in views], "nextLink": next_link})


def encode_managed_session(view: SessionView) -> bytes:
    """The shape of `.management/getSession`, which spells the end of life otherwise."""
    return jsons.encode(_managed(view))


def encode_managed_sessions(views: list[SessionView], next_link: str | None) -> bytes:
    return jsons.encode({"value": [_managed(view) for view in views], "count": len(views), "nextLink": next_link})


def encode_stopped(identifier: str, pool: str) -> bytes:
    """Plain text, which Azure's own command line prints as it is."""
    return f"Session {identifier} in session pool {pool} stopped.".encode()


def encode_metadata(status: PoolStatus, image: ImageInfo | None) -> bytes:
    """`image` is None as long as it is not built."""
    software = image.software if image else Software("")
    created = timestamp(status.created_at)
    return jsons.encode(
        {
            "runtimes": _versions(software.runtimes),
            "preInstalledPackages": _versions(software.packages),
            "createdAt": created,
            "lastUpdatedAt": created,
            "jupyterKernel": _kernel(software),
            "carrel": {
                "isolation": status.isolation,
                "weaknesses": list(status.weaknesses),
                "error": status.error,
                "preparing": status.preparing,
                "containerType": status.spec.container_type,
                "image": image.reference if image else None,
            },
        }
    )


def _kernel(software: Software) -> dict[str, str]:
    versions = {**dict(software.packages), **dict(software.runtimes)}
    plain = (software.runtime, "", software.description)
    name, url, description = _KERNELS.get(software.runtime, plain)
    return {"name": name, "version": versions.get(name, ""), "projectUrl": url, "description": description}


def encode_notice(notice: Notice) -> bytes:
    """As an event of `session/events`."""
    return jsons.encode(_notice(notice))


def encode_webhook(pool: str, notice: Notice) -> bytes:
    """As a webhook is told: `id` is the same each time that one is told again."""
    head = {"id": f"{notice.session.guid}-{notice.number}", "type": f"session.{notice.kind}", "pool": pool}
    return jsons.encode({**head, **_notice(notice)})


def _notice(notice: Notice) -> dict[str, Any]:
    reason = {"reason": notice.reason} if notice.reason else {}
    return {"time": timestamp(notice.at), "session": _session(notice.session), **reason}


def encode_error(error: CarrelError, trace_id: str) -> bytes:
    """The body of every error of ours. Full pools answer un-nested on the live service: 429 has both forms."""
    fields: dict[str, Any] = _error(error)
    if error.details:
        fields["details"] = [_error(each) for each in error.details]
    body: dict[str, Any] = {"error": fields | {"traceId": trace_id}}
    if error.status == 429:
        body |= {"code": error.code, "message": error.message}
    return jsons.encode(body)


def _error(error: CarrelError) -> dict[str, Any]:
    return {"code": error.code, "message": error.message, "target": error.target}


def _session(view: SessionView) -> dict[str, Any]:
    return {
        "identifier": view.identifier,
        "createdAt": timestamp(view.created_at),
        "lastAccessedAt": timestamp(view.last_used_at),
        "expireAt": timestamp(view.expires_at),
        "etag": view.guid,
    }


def _managed(view: SessionView) -> dict[str, Any]:
    fields = _session(view)
    fields["expiresAt"] = fields.pop("expireAt")
    return fields


def _versions(pairs: tuple[tuple[str, str], ...]) -> list[dict[str, str]]:
    return [{"name": name, "version": version} for name, version in pairs]

"""Operations as their tables have them, and how they stand in an OpenAPI 3.1 document."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

JSON = "application/json"
EVENTS = "text/event-stream"
ANY = "*/*"

_REASONS = {
    200: "Done.",
    201: "Made, or begun.",
    202: "Accepted: it goes on, or has still to be waited for.",
    204: "Done; nothing to tell.",
    206: "The part that was asked for.",
    302: "Elsewhere.",
    304: "As you know it.",
    400: "The request is not what the route takes; `error.target` names the part at fault.",
    401: "No token, or one that is not valid here.",
    403: "The caller may not do this.",
    404: "There is no such thing.",
    405: "Not this method; `Allow` names the ones there are.",
    406: "Nothing of what the caller accepts.",
    408: "The body did not come.",
    409: "It collides with what is there.",
    412: "If-Match or If-None-Match does not hold.",
    413: "The body, or a part of it, is too large.",
    415: "Not a content type that the route takes.",
    416: "The range lies outside the file.",
    429: "Too much at once; `Retry-After` says when to try again.",
    500: "A fault of ours, or the session was lost during the call.",
    503: "What the call needs is not there now: the session host, a sandbox, the database.",
    507: "The session's disk is full.",
}


@dataclass(frozen=True, slots=True)
class Content:
    """What a reply or a body consists of: the names of schemas by media type."""

    schemas: Mapping[str, str]
    is_required: bool = True  # of a body


def json_of(schema: str) -> Content:
    return Content({JSON: schema})


NOTHING = Content({})


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one route. `parameters` and `security` are names of components; `errors` statuses with the error body."""

    summary: str
    replies: Mapping[int, Content]
    parameters: tuple[str, ...] = ()
    body: Content | None = None
    errors: tuple[int, ...] = ()
    security: tuple[str, ...] = ("bearer",)  # any one of them; none where it is empty
    error: str = "Error"  # the schema of its errors


def encode_operation(
    operation: Operation, identity: str, tag: str, parameters: Iterable[dict[str, Any]]
) -> dict[str, Any]:
    """As it stands in the document. `parameters` are those of the path and the api-version, which come before its own."""
    told: dict[str, Any] = {
        "operationId": identity,
        "summary": operation.summary,
        "tags": [tag],
        "parameters": [*parameters, *(_reference("parameters", name) for name in operation.parameters)],
        "responses": {
            **{str(status): _reply(status, content) for status, content in operation.replies.items()},
            **{str(status): _error(status, operation.error) for status in sorted(operation.errors)},
        },
        "security": [{name: []} for name in operation.security],
    }
    if operation.body is not None:
        told["requestBody"] = {"required": operation.body.is_required, "content": _content(operation.body)}
    return told


def _reply(status: int, content: Content) -> dict[str, Any]:
    told: dict[str, Any] = {"description": _REASONS[status]}
    return told | ({"content": _content(content)} if content.schemas else {})


def _error(status: int, schema: str) -> dict[str, Any]:
    if schema == "Error":
        return _reference("responses", f"Error{status}")
    return {"description": _REASONS[status], "content": {JSON: {"schema": _reference("schemas", schema)}}}


def error_responses(statuses: Iterable[int]) -> dict[str, Any]:
    """The components that `errors` refer to."""
    header = {"x-ms-error-code": {"description": "`error.code` once more.", "schema": {"type": "string"}}}
    body = {JSON: {"schema": _reference("schemas", "Error")}}
    return {f"Error{each}": {"description": _REASONS[each], "headers": header, "content": body} for each in statuses}


def _content(content: Content) -> dict[str, Any]:
    return {media: {"schema": _reference("schemas", name)} for media, name in content.schemas.items()}


def _reference(kind: str, name: str) -> dict[str, str]:
    return {"$ref": f"#/components/{kind}/{name}"}

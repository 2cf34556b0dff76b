"""Operations outside every plane. But for the metrics, none of them needs a bearer token."""

from __future__ import annotations

from collections.abc import Mapping

from carrel.wire.openapi.model import Content, Operation, json_of
from carrel.wire.openapi.schemas import OBJECT, TEXT, Schema, array, header, query, record

_TOKEN = ("resource", "token-api-version", "client_id", "object_id", "mi_res_id")

OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("GET", "/health"): Operation(
        "Whether gateway and host answer.", {200: json_of("Message")}, errors=(503,), security=()
    ),
    ("GET", "/openapi.json"): Operation("This document.", {200: json_of("Document")}, security=()),
    ("GET", "/metrics"): Operation(
        "Numbers for Prometheus; open or off where the operator says so.",
        {200: Content({"text/plain": "Text", "application/openmetrics-text": "Text"})},
        errors=(401, 403, 404),
    ),
    ("GET", "/metadata/endpoints"): Operation(
        "Where control plane, authority and Graph are: for `az cloud register` and Terraform.",
        {200: json_of("Cloud")},
        ("token-api-version",),
        errors=(400,),
        security=(),
    ),
    ("GET", "/extensions/index.json"): Operation(
        "The operator's own extensions of Azure's command line.",
        {200: json_of("ExtensionIndex")},
        errors=(400,),
        security=(),
    ),
    ("GET", "/extensions/{file}"): Operation(
        "One of their wheels.",
        {200: Content({"application/octet-stream": "Bytes"})},
        errors=(401, 404),
        security=(),
    ),
    ("GET", "/console"): Operation("To the web console, `/console/`.", {302: Content({})}, security=()),
    ("GET", "/console/{file}"): Operation(
        "A file of the web console.",
        {200: Content(dict.fromkeys(("text/html", "text/css", "text/javascript"), "Bytes"))},
        errors=(400, 401, 404),
        security=(),
    ),
    ("GET", "/msi/token"): Operation(
        "A token for a process on this machine, as App Service's managed identity.",
        {200: json_of("IdentityToken")},
        _TOKEN,
        errors=(400, 401, 403),
        security=("identityHeader",),
    ),
    ("GET", "/metadata/identity/oauth2/token"): Operation(
        "A token for a process on this machine, as a virtual machine's managed identity.",
        {200: json_of("IdentityToken")},
        ("metadata", *_TOKEN),
        errors=(400, 403),
        security=(),
    ),
}
PATHS = tuple(pattern for _method, pattern in OPERATIONS)

_CLOUD = record(
    {
        "name": TEXT,
        "portal": TEXT,
        "authentication": OBJECT,
        "resourceManager": TEXT,
        "graphAudience": TEXT,
        "microsoftGraphResourceId": TEXT,
        "suffixes": OBJECT,
    }
)

SCHEMAS: dict[str, Schema] = {
    "Document": record({"openapi": TEXT, "info": OBJECT, "paths": OBJECT}),
    "ExtensionIndex": record(
        {
            "formatVersion": TEXT,
            "extensions": {
                "type": "object",
                "additionalProperties": array(
                    record({"downloadUrl": TEXT, "filename": TEXT, "metadata": OBJECT, "sha256Digest": TEXT})
                ),
            },
        }
    ),
    "Cloud": {"anyOf": [_CLOUD, array(_CLOUD)]},
    "IdentityToken": record(
        {"access_token": TEXT, "expires_on": TEXT, "resource": TEXT, "token_type": TEXT},
        client_id=TEXT,
        expires_in=TEXT,
    ),
}
PARAMETERS = {
    "resource": query("resource", TEXT, is_required=True),
    "token-api-version": query("api-version", TEXT),
    "client_id": query("client_id", TEXT),
    "object_id": query("object_id", TEXT),
    "mi_res_id": query("mi_res_id", TEXT),
    "metadata": header("Metadata", {"type": "string", "enum": ["true"]}, is_required=True),
}

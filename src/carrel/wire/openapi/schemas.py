"""Schemas and parameters of the data plane, in the words of JSON Schema 2020-12."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
WHOLE: Schema = {"type": "integer", "minimum": 0}
NUMBER: Schema = {"type": "number", "minimum": 0}
FLAG: Schema = {"type": "boolean"}
TIME: Schema = {"type": "string", "format": "date-time"}
ANY: Schema = {}
OBJECT: Schema = {"type": "object"}


def record(required: dict[str, Schema], **optional: Schema) -> Schema:
    """An object that has all of `required`; further fields may come with any release."""
    return {"type": "object", "properties": {**required, **optional}, "required": list(required)}


def or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def array(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


_SOFTWARE = array(record({"name": TEXT, "version": TEXT}))
_SESSION = {"identifier": TEXT, "createdAt": TIME, "lastAccessedAt": TIME, "etag": TEXT}
_FILE_PROPERTIES = record({"$id": TEXT, "filename": TEXT, "size": WHOLE, "lastModifiedTime": TIME})
_OLD_RESULT = {"status": TEXT, "stdout": TEXT, "stderr": TEXT, "result": ANY}
_PROGRAM: dict[str, Schema] = {
    "code": {"type": "string", "examples": ["1 + 1"]},
    "codeInputType": {"type": "string", "enum": ["Inline", "inline", "InlineBase64", "InlineText"]},
    "executionType": {"type": "string", "enum": ["Synchronous", "synchronous", "Asynchronous", "asynchronous"]},
    "timeoutInSeconds": {"type": "integer", "minimum": 1, "maximum": 220},
    "outputStreamsMaxLength": {"type": "integer", "minimum": 1},
    "shellCommand": TEXT,
    "execCommandAndArgs": {"type": "array", "items": TEXT, "minItems": 1},
    "shellType": {"type": "string", "enum": ["bash", "sh"]},
    "stdin": TEXT,
    "variables": OBJECT,
    "returnVariables": {"type": "array", "items": {"type": "string", "pattern": "^[A-Za-z_]\\w*$"}, "maxItems": 1000},
    "identifier": TEXT,
}
_EXECUTION = {"id": TEXT, "identifier": TEXT, "executionType": TEXT, "status": TEXT}

SCHEMAS: dict[str, Schema] = {
    "Error": record(
        {"error": record({"code": TEXT, "message": TEXT}, target=or_null(TEXT), traceId=TEXT, details=array(ANY))},
        code=TEXT,
        message=TEXT,
    ),
    "Object": OBJECT,
    "Text": TEXT,
    "Bytes": {},
    "Event": record({"data": TEXT}, event=TEXT, id=TEXT),
    "Message": record({"message": TEXT}),
    "ExecuteRequest": {
        "description": "Either code or a shell command, here or in `properties`; null counts as absent.",
        "type": "object",
        "properties": {**_PROGRAM, "properties": {"type": "object", "properties": _PROGRAM}},
        "examples": [{"properties": {"codeInputType": "inline", "executionType": "synchronous", "code": "1 + 1"}}],
    },
    "OldExecution": record(
        {
            "$id": TEXT,
            "properties": record(
                {"$id": TEXT, **_OLD_RESULT, "executionResult": ANY, "executionTimeInMilliseconds": WHOLE}
            ),
        },
        **_OLD_RESULT,
    ),
    "Execution": record(
        _EXECUTION,
        result=record(
            {"stdout": TEXT, "stderr": TEXT, "executionTimeInMilliseconds": WHOLE},
            executionResult=ANY,
            outcome=TEXT,
            usage=OBJECT,
            outputs=array(record({"data": OBJECT, "metadata": OBJECT})),
            droppedOutputs=WHOLE,
            variables=OBJECT,
        ),
    ),
    "Executions": record(
        {
            "value": array(record({**_EXECUTION, "outcome": or_null(TEXT), "executionTimeInMilliseconds": ANY})),
            "nextLink": or_null(TEXT),
        }
    ),
    "File": record(
        {"name": TEXT, "directory": TEXT, "type": {"enum": ["file", "directory"]}, "lastModifiedAt": TIME},
        contentType=TEXT,
        sizeInBytes=WHOLE,
    ),
    "Files": record({"value": array(ref("File")), "nextLink": or_null(TEXT)}),
    "OldFiles": record({"$id": TEXT, "value": array(record({"$id": TEXT, "properties": _FILE_PROPERTIES}))}),
    "FileByVersion": {
        "description": "The second up to 2024-08-02-preview.",
        "anyOf": [ref("File"), ref("OldFiles")],
    },
    "FilesByVersion": {
        "description": "The second up to 2024-08-02-preview.",
        "anyOf": [ref("Files"), ref("OldFiles")],
    },
    "Upload": record({"file": {"type": "string", "contentMediaType": "application/octet-stream"}}),
    "Rename": {**record({"to": TEXT}, overwrite=FLAG), "additionalProperties": False},
    "Session": record({**_SESSION, "expireAt": TIME}),
    "Sessions": record({"sessions": array(ref("Session")), "nextLink": or_null(TEXT)}),
    "ManagedSession": record({**_SESSION, "expiresAt": TIME}),
    "ManagedSessions": record({"value": array(ref("ManagedSession")), "count": WHOLE, "nextLink": or_null(TEXT)}),
    "SessionRequest": {
        **record({}, environment={"type": "object", "additionalProperties": {"anyOf": [TEXT, ref("SecretRef")]}}),
        "additionalProperties": False,
    },
    "SecretRef": {**record({"secretRef": TEXT}), "additionalProperties": False},
    "Variables": {"description": "Values by name, or a summary.", "anyOf": [ref("VariableSummaries"), OBJECT]},
    "VariableSummaries": record({"value": array(ref("VariableSummary")), "total": WHOLE}),
    "VariableSummary": record(
        {
            "name": TEXT,
            "type": TEXT,
            "size": or_null(WHOLE),
            "shape": or_null(array(WHOLE)),
            "preview": TEXT,
        }
    ),
    "Canceled": record({"canceled": WHOLE}),
    "Metadata": record(
        {
            "runtimes": _SOFTWARE,
            "preInstalledPackages": _SOFTWARE,
            "createdAt": TIME,
            "lastUpdatedAt": TIME,
            "jupyterKernel": record({"name": TEXT, "version": TEXT, "projectUrl": TEXT, "description": TEXT}),
        },
        carrel=OBJECT,
    ),
    "PoolStatus": record(
        {
            "name": TEXT,
            "runtime": TEXT,
            "isolation": or_null(TEXT),
            "weaknesses": array(TEXT),
            "error": or_null(TEXT),
            "preparing": or_null(TEXT),
            "network": {"enum": ["none", "listed", "open"]},
            **dict.fromkeys(("warm", "starting", "live", "failed", "maximum", "ready"), WHOLE),
            "createdAt": TIME,
            "totals": record(dict.fromkeys(("executions", "failures", "sessions", "bytesIn", "bytesOut"), WHOLE)),
            "minutes": array(
                record(
                    {
                        "at": TIME,
                        **dict.fromkeys(("executions", "failures", "sessions"), WHOLE),
                        **dict.fromkeys(
                            ("firstCallMs", "executionMs"), or_null(record({"p50": NUMBER, "p99": NUMBER}))
                        ),
                    }
                )
            ),
        }
    ),
    "SessionTable": record(
        {
            "value": array(
                record(
                    {
                        "identifier": TEXT,
                        **dict.fromkeys(("createdAt", "lastUsedAt", "expiresAt"), TIME),
                        "state": TEXT,
                        "executions": WHOLE,
                        "lastStatus": or_null(TEXT),
                        "cpuMs": or_null(NUMBER),
                        **dict.fromkeys(("memoryBytes", "diskBytes"), or_null(WHOLE)),
                    }
                )
            ),
            "nextLink": or_null(TEXT),
        }
    ),
    "SessionLog": record(
        {
            "value": array(
                record(
                    {
                        **dict.fromkeys(("record", "identifier", "principal", "status", "id", "session", "kind"), TEXT),
                        "at": TIME,
                        "outcome": TEXT,
                        "isAsynchronous": FLAG,
                        "exitCode": or_null(WHOLE),
                        **dict.fromkeys(("queuedMs", "wallMs"), NUMBER),
                        "cpuMs": or_null(NUMBER),
                        **dict.fromkeys(("bytesIn", "bytesOut"), WHOLE),
                        **dict.fromkeys(("codeSha256", "trace"), or_null(TEXT)),
                    },
                    **dict.fromkeys(("code", "stdout", "stderr"), TEXT),
                    result=or_null(TEXT),
                    cut=array(TEXT),
                )
            ),
            "nextLink": or_null(TEXT),
            "records": TEXT,
            "retentionInSeconds": WHOLE,
        }
    ),
    "Image": record(
        {"image": or_null(TEXT), "reference": or_null(TEXT), "runtime": or_null(TEXT), "runtimes": _SOFTWARE}
    ),
    "ImageRequest": record({"image": {"type": "string", "minLength": 1, "maxLength": 100}}),
    "Egress": record({"status": TEXT, "allow": or_null(array(TEXT)), "connections": WHOLE, "refusals": WHOLE}),
    "EgressRequest": record({"allow": array(TEXT)}),
    "EgressTarget": record({"host": TEXT}, port={"type": "integer", "minimum": 1, "maximum": 65535}),
    "BoundTokenRequest": record({"identifier": TEXT}, ttlInSeconds={"type": "integer", "minimum": 1, "maximum": 86400}),
    "BoundToken": record({"identifier": TEXT, "token": TEXT, "expiresAt": TEXT}),
    "EgressVerdict": record(
        {
            "target": TEXT,
            "allowed": FLAG,
            "rule": or_null(TEXT),
            "reason": or_null(TEXT),
            "addresses": array(record({"address": TEXT, "allowed": FLAG, "reason": or_null(TEXT)})),
        }
    ),
}

_NAME: Schema = {"type": "string", "minLength": 1, "maxLength": 255}
_GUID: Schema = {"type": "string", "format": "uuid"}
_GUIDS = ("assignment",)  # names in paths that are nothing else
_IDENTIFIER: Schema = {"type": "string", "minLength": 4, "maxLength": 128, "pattern": "^[ -~]+$", "examples": ["alice"]}


def query(name: str, schema: Schema, *, is_required: bool = False) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": is_required, "schema": schema}


def header(name: str, schema: Schema = TEXT, *, is_required: bool = False) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": is_required, "schema": schema}


def in_path(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": _GUID if name in _GUIDS else _NAME}


def api_version(known: Iterable[str]) -> dict[str, Any]:
    return query("api-version", {"type": "string", "enum": list(known)}, is_required=True)


PARAMETERS: dict[str, dict[str, Any]] = {
    "identifier": query("identifier", _IDENTIFIER, is_required=True),
    "identifier-anywhere": query("identifier", _IDENTIFIER),
    "path": query("path", TEXT),
    "filename": query("filename", _NAME, is_required=True),
    "recursive": query("recursive", FLAG),
    "skip": query("skip", {"type": "integer", "minimum": 0, "maximum": 1_000_000}),
    "log-status": query("status", {"type": "string", "enum": ["Succeeded", "Failed", "Canceled"]}),
    "log-from": query("from", TIME),
    "log-to": query("to", TIME),
    "wait": query("wait", {"type": "integer", "minimum": 0, "maximum": 30}),
    "variable-names": query("name", TEXT),
    "summary": query("summary", FLAG),
    "operation-id": header("operation-id", {"type": "string", "pattern": "^[A-Za-z0-9._~:@=+-]{1,128}$"}),
    "last-event-id": header("Last-Event-ID", {"type": "string", "pattern": "^[0-9]{1,15}$"}),
    "range": header("Range"),
    "if-range": header("If-Range"),
    "if-match": header("If-Match"),
    "if-none-match": header("If-None-Match"),
    "mcp-session-id": header("Mcp-Session-Id"),
}

SECURITY: dict[str, dict[str, Any]] = {
    "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
    "mcpKey": {"type": "apiKey", "in": "header", "name": "x-ms-apikey"},
    "identityHeader": {"type": "apiKey", "in": "header", "name": "X-IDENTITY-HEADER"},
}

"""Every spelling of an execution: paths, api-versions, wrapping, casing; and what comes back in each envelope."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import quote

import pytest

from endpoint import NEW_FILES, V24_02, V24_10, V25_10, VERSIONS, Endpoint, error_of

pytestmark = pytest.mark.one_level

OLD_PATHS = ("code/execute", "python/execute", "execute")
WRAPPED = {"properties": {"codeInputType": "inline", "executionType": "synchronous", "code": "6 * 7"}}
UNWRAPPED = {"codeInputType": "Inline", "executionType": "Synchronous", "code": "6 * 7"}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path", OLD_PATHS)
def test_the_old_envelope_belongs_to_its_paths(shared: Endpoint, path: str, version: str) -> None:
    """The three old paths answer in the old envelope on every api-version, with every key there."""
    reply = shared.send("POST", path, version=version, json=WRAPPED)

    assert reply.status_code == 200
    body = reply.json()
    properties = body["properties"]
    assert (body["$id"], properties["$id"]) == ("1", "2")
    assert (properties["status"], properties["stdout"], properties["stderr"]) == ("Success", "", "")
    assert properties["result"] == properties["executionResult"] == 42
    assert isinstance(properties["executionTimeInMilliseconds"], int)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_new_envelope_belongs_to_executions(shared: Endpoint, version: str) -> None:
    """`executions` answers unwrapped on every api-version; 2024-10-02-preview with 202 and scalars as text."""
    reply = shared.send("POST", "executions", version=version, json=UNWRAPPED)

    body = reply.json()
    assert reply.status_code == (202 if version == V24_10 else 200)
    assert (body["identifier"], body["status"], body["executionType"]) == (
        shared.identifier,
        "Succeeded",
        "Synchronous",
    )
    assert body["result"]["executionResult"] == ("42" if version == V24_10 else 42)
    assert body["id"] == reply.headers["operation-id"]


@pytest.mark.parametrize("path", [*OLD_PATHS, "executions"])
@pytest.mark.parametrize("body", [WRAPPED, UNWRAPPED, {"code": "6 * 7"}, {"properties": {"code": "6 * 7"}}])
def test_bodies_come_wrapped_and_unwrapped(shared: Endpoint, path: str, body: dict[str, Any]) -> None:
    """Every path takes both forms, and only `code` is required."""
    reply = shared.send("POST", path, json=body)

    assert reply.status_code == 200
    answer = reply.json()
    result = answer["result"]["executionResult"] if path == "executions" else answer["properties"]["result"]
    assert result == 42


@pytest.mark.parametrize("kind", ["inline", "Inline", "INLINE", "inlineText", "InlineText"])
@pytest.mark.parametrize("execution", ["synchronous", "Synchronous", "SYNCHRONOUS"])
def test_enum_values_match_in_any_case(shared: Endpoint, kind: str, execution: str) -> None:
    """The reply echoes the caller's own casing of the execution type."""
    body = shared.run("'as is'", codeInputType=kind, executionType=execution)

    assert (body["executionType"], body["result"]["executionResult"]) == (execution, "as is")


def test_code_may_come_as_base64(shared: Endpoint) -> None:
    """InlineBase64 holds the program's UTF-8 text."""
    text = base64.b64encode("'grüße'".encode()).decode()

    assert shared.result(text, codeInputType="InlineBase64") == "grüße"


def test_the_oldest_clients_field_and_top_level_keys(shared: Endpoint) -> None:
    """`pythonCode` runs, and `python/execute` repeats status, streams and result outside `properties`."""
    reply = shared.send("POST", "python/execute", version=V24_02, json={"properties": {"pythonCode": "print('x'); 5"}})

    body = reply.json()
    assert (body["status"], body["stdout"], body["stderr"], body["result"]) == ("Success", "x\n", "", 5)


@pytest.mark.parametrize(
    "path",
    ["executions/", "/executions", "//executions//", "Executions", "code//execute", "CODE/Execute/", "//code/execute"],
)
def test_slashes_and_casing_of_the_path_do_not_matter(shared: Endpoint, path: str) -> None:
    """Clients join URLs carelessly: doubled and trailing slashes and other casing find the same route."""
    status, _, body = shared.raw(
        "POST", shared.target(path), json.dumps({"code": "6 * 7"}).encode(), {"Content-Type": "application/json"}
    )

    assert status == 200, body
    assert b"42" in body


def test_the_identifier_may_stand_in_the_path(shared: Endpoint) -> None:
    """`identifier/{id}/` names the session, alone or agreeing with the query; disagreement is a 400."""
    path = f"identifier/{quote(shared.identifier, safe='')}/code/execute"
    body = json.dumps({"properties": {"code": "6 * 7"}}).encode()
    bare = shared.target(path).replace(f"&identifier={shared.identifier}", "")

    assert shared.raw("POST", bare, body)[0] == 200
    assert shared.raw("POST", shared.target(path), body)[0] == 200
    assert shared.raw("POST", shared.target(path.replace("test-", "toast-", 1)), body)[0] == 400


def test_the_identifier_may_stand_in_the_body_only(shared: Endpoint) -> None:
    """As the oldest .NET client sends it."""
    bare = shared.target("python/execute").replace(f"&identifier={shared.identifier}", "")
    body = {"properties": {"identifier": shared.identifier, "pythonCode": "6 * 7"}}

    assert shared.raw("POST", bare, json.dumps(body).encode())[0] == 200
    other = {"properties": {"identifier": "somebody-else", "code": "6 * 7"}}
    assert shared.raw("POST", shared.target("python/execute"), json.dumps(other).encode())[0] == 400


@pytest.mark.parametrize(
    "identifier", ["a b c d", "x" * 128, "|-&^%$#(){}[];<>", "o/../p", "a+b%41c", '"quo\'tes"', "AbCd"]
)
def test_identifiers_are_printable_ascii(shared: Endpoint, identifier: str) -> None:
    """Any 4 to 128 printable characters, percent-encoded in the query, come back as they were."""
    query = {"identifier": identifier}
    try:
        reply = shared.send("POST", "executions", query=query, json={"code": "1"})

        assert reply.json()["identifier"] == identifier
    finally:
        shared.send("DELETE", "session", query=query)


def test_identifiers_are_case_sensitive(endpoint: Endpoint) -> None:
    """Two casings are two sessions."""
    endpoint.run("x = 1")
    other = {"identifier": endpoint.identifier.upper()}
    try:
        reply = endpoint.send("POST", "executions", query=other, json={"code": "'x' in globals()"})

        assert reply.json()["result"]["executionResult"] is False
    finally:
        endpoint.send("DELETE", "session", query=other)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_failing_program_is_a_result(shared: Endpoint, version: str) -> None:
    """HTTP succeeds; `Failed` in executions, `Failure` in the old envelope; stdout is kept, the traceback is in stderr without colours."""
    new = shared.run("print('kept'); {}['sales_amount']", version=version)
    old = shared.send("POST", "code/execute", version=version, json={"properties": {"code": "print('kept'); 1/0"}})

    assert (new["status"], new["result"]["stdout"]) == ("Failed", "kept\n")
    assert new["result"]["stderr"].rstrip().endswith("KeyError: 'sales_amount'")
    properties = old.json()["properties"]
    assert (old.status_code, properties["status"], properties["stdout"]) == (200, "Failure", "kept\n")
    assert "ZeroDivisionError" in properties["stderr"]
    assert "\x1b[" not in new["result"]["stderr"] + properties["stderr"]
    assert (properties["result"], new["result"]["executionResult"]) == ("", "")


@pytest.mark.parametrize("path", ["executions", "code/execute"])
def test_execute_replies_carry_azures_headers(shared: Endpoint, path: str) -> None:
    """Ids, timings and versions, one of each."""
    reply = shared.send("POST", path, json={"code": "1"})

    headers = reply.headers
    for name in ("x-ms-execution-request-time", "x-ms-total-execution-service-time", "x-ms-preparation-time"):
        assert float(headers[name]) >= 0
    assert int(headers["x-ms-container-execution-duration"]) >= 0
    assert headers["x-ms-overall-execution-time"].endswith("s")
    assert headers["x-ms-new-allocation"] in ("true", "false")
    assert headers["content-type"].startswith("application/json")
    assert V25_10 in headers["api-supported-versions"]
    assert headers["x-content-type-options"] == "nosniff"
    assert {"date", "operation-id", "x-ms-session-guid"} <= set(headers)
    assert len(headers.get_list("date")) == 1


def test_a_new_allocation_says_so(endpoint: Endpoint) -> None:
    """x-ms-new-allocation is true on the first call of an identifier only, and the session's guid stays."""
    first = endpoint.send("POST", "executions", json={"code": "1"})
    second = endpoint.send("POST", "executions", json={"code": "1"})

    assert (first.headers["x-ms-new-allocation"], second.headers["x-ms-new-allocation"]) == ("true", "false")
    assert first.headers["x-ms-session-guid"] == second.headers["x-ms-session-guid"]


def test_https_answers_like_http(shared: Endpoint) -> None:
    """The same session over TLS, by a certificate of our own CA."""
    import ssl

    import httpx

    connection = shared.server.connection
    url = shared.url.replace(connection["http"], connection["https"])
    context = ssl.create_default_context(cafile=connection["ca"])
    with httpx.Client(verify=context, trust_env=False) as http:
        reply = http.post(
            f"{url}/executions",
            params=shared.query(),
            headers={"Authorization": f"Bearer {shared.token}"},
            json={"code": "6 * 7"},
        )

    assert (reply.status_code, reply.json()["result"]["executionResult"]) == (200, 42)


@pytest.mark.parametrize(
    "fields",
    [
        {"code": 5},
        {"code": "1", "timeoutInSeconds": 0},
        {"code": "1", "timeoutInSeconds": 221},
        {"code": "1", "timeoutInSeconds": "5"},
        {"code": "1", "timeoutInSeconds": True},
        {"code": "1", "timeoutInSeconds": 1.5},
        {"code": "1", "outputStreamsMaxLength": 0},
        {"code": "1", "outputStreamsMaxLength": -1},
        {"code": "1", "codeInputType": "carrierPigeon"},
        {"code": "1", "executionType": "sometimes"},
        {"code": "%%%", "codeInputType": "inlineBase64"},
        {"properties": []},
        {"properties": "code"},
        {"code": "'\ud800'"},
    ],
)
@pytest.mark.parametrize("path", ["executions", "code/execute"])
def test_a_wrong_field_is_a_400_that_names_it(shared: Endpoint, path: str, fields: dict[str, Any]) -> None:
    reply = shared.send("POST", path, content=json.dumps(fields), headers={"Content-Type": "application/json"})

    assert reply.status_code == 400
    assert error_of(reply)["target"] in {*fields, "$"}


@pytest.mark.parametrize(
    "body", [{}, {"properties": {}}, {"properties": None}, {"timeoutInSeconds": 5}, {"code": None}]
)
def test_a_body_with_nothing_to_run_says_so(shared: Endpoint, body: dict[str, Any]) -> None:
    reply = shared.send("POST", "executions", json=body)

    assert (reply.status_code, error_of(reply)["code"]) == (400, "SessionPropertiesMissing")


@pytest.mark.parametrize("version", NEW_FILES)
def test_nulls_count_as_absent(shared: Endpoint, version: str) -> None:
    """Clients send every field of their model, empty ones as null."""
    fields = {"timeoutInSeconds": None, "codeInputType": None, "executionType": None, "outputStreamsMaxLength": None}

    assert shared.run("6 * 7", version=version, **fields)["result"]["executionResult"] in (42, "42")


@pytest.mark.parametrize("code", ["", "# nothing", "\n\n", "   "])
def test_code_that_does_nothing_succeeds(shared: Endpoint, code: str) -> None:
    """Empty code is code: there is no value, and no error."""
    body = shared.run(code)

    assert (body["status"], body["result"]["executionResult"], body["result"]["stderr"]) == ("Succeeded", "", "")

"""Traces of calls, as a real collector gets them: from the gateway through the host to the code, and nothing in them that is secret."""

from __future__ import annotations

import secrets
from pathlib import Path

import httpx
import pytest

from carrel.config import ConfigError
from carrel.otlp_headers import VARIABLE, forget, read
from conftest import fresh_identifier
from processes import eventually
from traced import KEY, VERSION, Traced

pytestmark = pytest.mark.one_level

SPAN = "00f067aa0ba902b7"
NEW_SESSION = {
    "POST executions",
    "authenticate",
    "hostlink stream",
    "hostlink execute",
    "host execute",
    "allocate",
    "queue",
    "execute",
}


def fresh_trace() -> tuple[str, str]:
    trace = secrets.token_hex(16)
    return trace, f"00-{trace}-{SPAN}-01"


def test_a_call_is_seen_from_the_gateway_to_the_code(traced: Traced) -> None:
    """Each span below the one that caused it, and within its time."""
    trace, parent = fresh_trace()

    traced.execute("import time; time.sleep(0.05)", traceparent=parent, tracestate="vendor=value")

    wanted = NEW_SESSION - {"hostlink stream"}
    assert eventually(lambda: wanted <= traced.collector.named(trace).keys()), traced.collector.named(trace).keys()
    found = traced.collector.named(trace)
    parents = {name: span.parent for name, span in found.items()}
    assert parents["POST executions"] == SPAN
    assert parents["authenticate"] == parents["hostlink execute"] == found["POST executions"].id
    assert parents["host execute"] == found["hostlink execute"].id
    assert parents["allocate"] == parents["queue"] == parents["execute"] == found["host execute"].id
    assert {span.resource["carrel.part"] for span in found.values()} == {"gateway", "host"}
    assert {span.resource["service.name"] for span in found.values()} == {"carrel"}
    assert {span.state for span in found.values()} == {"vendor=value"}
    assert found["execute"].end - found["execute"].begin >= 50_000_000
    outer = found["POST executions"]
    assert all(outer.begin <= span.begin <= span.end <= outer.end + 5_000_000 for span in found.values())
    assert outer.attributes["http.route"] == "executions"
    assert outer.attributes["http.response.status_code"] == 200
    assert outer.attributes["carrel.pool"] == "python"


def test_what_is_not_to_be_seen_is_in_no_span(traced: Traced) -> None:
    """No code, no output, no identifier, no token, no file's name; nor the collector's key, which goes to it alone."""
    trace, parent = fresh_trace()
    identifier, word, name = (f"secret-{secrets.token_hex(8)}" for _ in range(3))
    traced.execute(f"print('{word}'); raise ValueError('{word}')", identifier, traceparent=parent)
    query = {"api-version": VERSION, "identifier": identifier}
    headers = {"Authorization": f"Bearer {traced.server.connection['token']}", "traceparent": parent}
    httpx.get(f"{traced.server.endpoint}/files/{name}", params=query, headers=headers, trust_env=False)

    assert eventually(lambda: {"GET files/{name}", "execute"} <= traced.collector.named(trace).keys())
    token = traced.server.connection["token"]
    for sent, content in traced.collector.requests:
        assert not any(each.encode() in content for each in (identifier, word, name, token, KEY))
        assert (sent["authorization"], sent["x-tenant"]) == (f"Bearer {KEY}", "one")
        assert sent["content-type"] == "application/x-protobuf"
    assert traced.collector.named(trace)["execute"].error == "error"
    command = Path(f"/proc/{traced.server.pids['supervisor']}/cmdline").read_bytes()
    assert KEY.encode() not in command + traced.log.read_bytes()


def test_a_caller_that_records_nothing_is_not_recorded(traced: Traced) -> None:
    """Nor one that says nothing, since the part of those that are is 0 here."""
    trace, _ = fresh_trace()
    traced.execute(traceparent=f"00-{trace}-{SPAN}-00")
    silent = traced.execute().headers["x-ms-request-id"]
    last, parent = fresh_trace()
    traced.execute(traceparent=parent)

    assert eventually(lambda: "execute" in traced.collector.named(last))
    assert traced.collector.of(trace) == traced.collector.of(silent) == []


def test_an_execution_that_nobody_waits_for_is_recorded_to_its_end(traced: Traced) -> None:
    trace, parent = fresh_trace()
    body = {"code": "import time; time.sleep(0.3)", "executionType": "Asynchronous"}

    assert traced.post("executions", body, traceparent=parent).status_code == 202

    assert eventually(lambda: "execute" in traced.collector.named(trace))
    found = traced.collector.named(trace)
    assert found["execute"].end > found["POST executions"].end


def test_refusals_are_recorded_too(traced: Traced) -> None:
    """With the code of the error, and without any word of the caller's."""
    trace, parent = fresh_trace()
    headers = {"traceparent": parent, "Authorization": "Bearer nonsense"}

    httpx.get(f"{traced.server.endpoint}/session", headers=headers, trust_env=False)

    assert eventually(lambda: "authenticate" in traced.collector.named(trace))
    found = traced.collector.named(trace)
    assert found["authenticate"].error == "Unauthorized"
    assert found["GET"].attributes["error.type"] == "Unauthorized"
    assert found["GET"].error == "", "a mistake of the caller's is no error of the server's"


@pytest.mark.thorough
def test_a_method_that_is_not_https_own_is_not_repeated(traced: Traced) -> None:
    trace, parent = fresh_trace()

    httpx.request("PROPFIND", traced.server.endpoint, headers={"traceparent": parent}, trust_env=False)

    assert eventually(lambda: bool(traced.collector.of(trace)))
    assert "_OTHER" in {span.name for span in traced.collector.of(trace)}


@pytest.mark.thorough
def test_mcp_calls_are_recorded_under_the_call_that_made_them(traced: Traced) -> None:
    trace, parent = fresh_trace()
    traced.used.append(fresh_identifier())
    arguments = {"environmentId": traced.used[-1], "pythonCode": "1"}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
    message["params"] = {"name": "runPythonCodeInRemoteEnvironment", "arguments": arguments}
    headers = {"Authorization": f"Bearer {traced.server.connection['token']}", "traceparent": parent}
    headers["accept"] = "application/json, text/event-stream"

    httpx.post(f"{traced.server.endpoint}/mcp", json=message, headers=headers, trust_env=False, timeout=60)

    assert eventually(lambda: "execute" in traced.collector.named(trace)), traced.collector.of(trace)


# ---- the collector's headers -----------------------------------------------------------------------------------------


def test_headers_come_from_the_file_and_from_the_environment_and_are_forgotten(tmp_path: Path) -> None:
    file = tmp_path / "headers"
    file.write_text("# comment\nAuthorization:  Bearer a:b=c \nX-Two:\n\n")
    environment = {VARIABLE: "authorization=Bearer%20other,x-three=3,,"}

    assert read(file, environment) == {"authorization": "Bearer a:b=c", "x-two": "", "x-three": "3"}
    forget(environment)
    assert environment == {}
    assert read(None, {}) == {}


@pytest.mark.parametrize(
    "content",
    [
        b"no colon",
        b"bad name: x",
        b": x",
        "naïve: x".encode(),
        "a: ünïcode".encode(),
        b"a: \x00",
        b"\xff\xfe",
        b"Content-Type: text/plain",
        b"a: " + b"x" * 70_000,
    ],
)
def test_what_is_no_header_is_refused_without_being_repeated(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "headers"
    file.write_bytes(b"Authorization: topsecret\n" + content)

    with pytest.raises(ConfigError) as caught:
        read(file, {})
    assert "topsecret" not in str(caught.value)
    assert "x" * 100 not in str(caught.value)


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read(tmp_path / "nowhere", {})

"""Executions, sessions and errors: what callers may send, in every spelling, and what they get."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel import errors
from carrel.client.values import Metadata
from carrel.models import (
    Execution,
    Level,
    Outcome,
    Output,
    PoolSpec,
    PoolStatus,
    SessionView,
    ShellCommand,
    Status,
    Usage,
    Value,
    ValueKind,
)
from carrel.wire import executions, jsons, programs, sessions, times
from carrel.wire.versions import VERSIONS, Version, decode_version

OLDEST, SECOND, TEXTUAL, SPEC_25, NEWEST = VERSIONS.values()


def decode(body: Any, **more: Any) -> programs.ExecuteRequest:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return programs.decode_execution(raw, default_stream=4096, **more)


# ---- api-versions -----------------------------------------------------------------------------------------------------


def test_every_published_version_is_served_and_no_other() -> None:
    assert [decode_version(name).name for name in VERSIONS] == list(VERSIONS)
    for text in (None, "", "2024-01-01", "2024-02-02", "latest"):
        with pytest.raises(errors.ApiVersionInvalid) as caught:
            decode_version(text)
        assert caught.value.target == "api-version"


def test_versions_are_rows_of_one_table() -> None:
    """Nothing but the shape of files and of `executions` depends on the version."""
    assert [version.has_old_files for version in VERSIONS.values()] == [True, True, False, False, False]
    assert Version("x") == replace(NEWEST, name="x")


# ---- execute requests -------------------------------------------------------------------------------------------------


def test_every_spelling_of_a_request_says_the_same() -> None:
    """Wrapped or not, enums in any case, base64, the pre-GA name of the code, nulls and unknown fields."""
    encoded = base64.b64encode(b"1+1").decode()
    for body in (
        {"code": "1+1"},
        {"pythonCode": "1+1"},
        {"properties": {"codeInputType": "inline", "executionType": "synchronous", "code": "1+1"}},
        {"codeInputType": "Inline", "executionType": "Synchronous", "code": "1+1", "timeoutInSeconds": None},
        {"codeInputType": "inlineText", "code": "1+1", "networkStatus": "EgressEnabled", "useEmptyKernel": 3},
        {"codeInputType": "InlineBase64", "code": encoded + "\n"},
        {"properties": None, "code": "1+1"},
    ):
        spec = decode(body).spec
        assert (spec.code, spec.timeout, spec.is_asynchronous, spec.stream_limit) == ("1+1", 60.0, False, 4096)


def test_a_request_keeps_its_casing_its_identifier_and_its_id() -> None:
    body = {"properties": {"identifier": "alice", "executionType": "ASYNCHRONOUS", "code": ""}}

    request = decode(body, operation_id="op-1")

    assert (request.identifier, request.execution_type) == ("alice", "ASYNCHRONOUS")
    assert (request.spec.operation_id, request.spec.is_asynchronous, request.spec.code) == ("op-1", True, "")


@pytest.mark.parametrize(
    ("fields", "target"),
    [
        ({"code": 3}, "code"),
        ({"code": ["1"]}, "code"),
        ({"code": "x", "codeInputType": "file"}, "codeInputType"),
        ({"code": "x", "codeInputType": 1}, "codeInputType"),
        ({"code": "x", "executionType": "later"}, "executionType"),
        ({"code": "x", "timeoutInSeconds": 0}, "timeoutInSeconds"),
        ({"code": "x", "timeoutInSeconds": 221}, "timeoutInSeconds"),
        ({"code": "x", "timeoutInSeconds": 10**30}, "timeoutInSeconds"),
        ({"code": "x", "timeoutInSeconds": "60"}, "timeoutInSeconds"),
        ({"code": "x", "timeoutInSeconds": True}, "timeoutInSeconds"),
        ({"code": "x", "timeoutInSeconds": 1.5}, "timeoutInSeconds"),
        ({"code": "x", "timeoutInSeconds": float("nan")}, "timeoutInSeconds"),
        ({"code": "x", "outputStreamsMaxLength": 0}, "outputStreamsMaxLength"),
        ({"code": "x", "outputStreamsMaxLength": {}}, "outputStreamsMaxLength"),
        ({"code": "x", "identifier": 4}, "identifier"),
        ({"code": "\ud800"}, "code"),
        ({"code": "!", "codeInputType": "inlineBase64"}, "code"),
        ({"code": "/w==", "codeInputType": "inlineBase64"}, "code"),
        ({"code": "é", "codeInputType": "inlineBase64"}, "code"),
        ({"properties": []}, "properties"),
        ({"code": "x", "shellCommand": "ls"}, "shellCommand"),
        ({"pythonCode": "x", "execCommandAndArgs": ["ls"]}, "execCommandAndArgs"),
        ({"shellCommand": "ls", "execCommandAndArgs": ["ls"]}, "execCommandAndArgs"),
        ({"shellCommand": ["ls"]}, "shellCommand"),
        ({"shellCommand": "a\0b"}, "shellCommand"),
        ({"shellCommand": "\ud800"}, "shellCommand"),
        ({"execCommandAndArgs": "ls"}, "execCommandAndArgs"),
        ({"execCommandAndArgs": []}, "execCommandAndArgs"),
        ({"execCommandAndArgs": [""]}, "execCommandAndArgs"),
        ({"execCommandAndArgs": ["ls", 1]}, "execCommandAndArgs"),
        ({"execCommandAndArgs": ["ls", "\0"]}, "execCommandAndArgs"),
        ({"shellCommand": "ls", "shellType": "zsh"}, "shellType"),
        ({"shellCommand": "ls", "stdin": 3}, "stdin"),
        ({"shellCommand": "ls", "stdin": "\udfff"}, "stdin"),
        ({"code": "x", "variables": ["x"]}, "variables"),
        ({"code": "x", "variables": {"": 1}}, "variables"),
        ({"code": "x", "variables": {"a b": 1}}, "variables"),
        ({"code": "x", "variables": {"a\n": 1}}, "variables"),
        ({"code": "x", "variables": {"1a": 1}}, "variables"),
        ({"code": "x", "variables": {"a" * 256: 1}}, "variables"),
        ({"code": "x", "variables": {"a": float("nan")}}, "variables"),
        ({"code": "x", "variables": {"a": [{"b": float("-inf")}]}}, "variables"),
        ({"code": "x", "variables": {f"v{n}": n for n in range(1001)}}, "variables"),
        ({"code": "x", "returnVariables": "a"}, "returnVariables"),
        ({"code": "x", "returnVariables": [1]}, "returnVariables"),
        ({"code": "x", "returnVariables": ["a.b"]}, "returnVariables"),
        ({"code": "x", "returnVariables": ["a", "b; c"]}, "returnVariables"),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, Any], target: str) -> None:
    with pytest.raises(errors.RequestInvalid) as caught:
        decode(fields)
    assert caught.value.target == target


@pytest.mark.parametrize("body", [{}, {"properties": {}}, {"code": None}, {"shellCommand": None}, {"stdin": "x"}])
def test_a_request_without_code_says_so(body: dict[str, Any]) -> None:
    with pytest.raises(errors.PropertiesMissing):
        decode(body)


def test_a_shell_command_is_a_line_or_a_list() -> None:
    """In any spelling of the envelope; what is meant for code says nothing about it."""
    for body, command in (
        ({"shellCommand": "ls -l"}, ShellCommand("ls -l")),
        ({"properties": {"shellCommand": "", "shellType": "SH"}}, ShellCommand("", None, "sh")),
        ({"execCommandAndArgs": ["ls", "", "é"]}, ShellCommand(argv=("ls", "", "é"))),
        (
            {"shellCommand": "cat", "stdin": "a\0b", "codeInputType": None, "code": None},
            ShellCommand("cat", stdin="a\0b"),
        ),
    ):
        spec = decode(body).spec
        assert (spec.shell, spec.code, spec.timeout) == (command, "", 60.0)
    assert decode({"code": "x", "stdin": "unknown here", "shellType": 7}).spec.shell is None


def test_a_shell_command_has_the_limit_of_code() -> None:
    for body in (
        {"shellCommand": "x" * (programs.MAX_CODE_BYTES + 1)},
        {"execCommandAndArgs": ["x" * (programs.MAX_CODE_BYTES // 2)] * 3},
        {"shellCommand": "cat", "stdin": "x" * (programs.MAX_CODE_BYTES + 1)},
    ):
        with pytest.raises(errors.ContentTooLarge):
            decode(body)


def test_variables_are_values_and_names() -> None:
    values = {"a": [1, {"b": None}], "größe": 1.5, "$jquery": "x", "_": True}

    spec = decode({"code": "x", "variables": values, "returnVariables": ["a", "b", "a"]}).spec

    assert (spec.variables, spec.wanted) == (values, ("a", "b"))
    assert (decode({"code": "x"}).spec.variables, decode({"code": "x", "variables": {}}).spec.variables) == (None, {})
    assert programs.decode_variables(b'{"a": 1}') == {"a": 1}


def test_a_variable_is_bounded_in_depth() -> None:
    """Deeper than any reader of ours goes; what is at the bound passes."""

    def nested(levels: int) -> bytes:
        return b'{"code":"x","variables":{"a":' + b"[" * levels + b"]" * levels + b"}}"

    assert decode(nested(programs.MAX_DEPTH)).spec.variables
    with pytest.raises(errors.RequestInvalid) as caught:
        decode(nested(programs.MAX_DEPTH + 1))
    assert caught.value.target == "variables"


def test_what_nobody_waits_for_may_take_longer_where_the_pool_allows() -> None:
    body = {"code": "x", "executionType": "Asynchronous", "timeoutInSeconds": 3600}
    assert decode(body, asynchronous_maximum_s=3600).spec.timeout == 3600
    for refused in ({"asynchronous_maximum_s": 3599}, {}):
        with pytest.raises(errors.RequestInvalid):
            decode(body, **refused)
    with pytest.raises(errors.RequestInvalid):
        decode(body | {"executionType": "Synchronous"}, asynchronous_maximum_s=3600)


def test_timeouts_keep_to_the_pool() -> None:
    assert decode({"code": "x", "timeoutInSeconds": 220}).spec.timeout == 220
    assert decode({"code": "x", "timeoutInSeconds": 30.0}).spec.timeout == 30
    assert decode({"code": "x"}, pool_maximum_s=20).spec.timeout == 20
    with pytest.raises(errors.RequestInvalid):
        decode({"code": "x", "timeoutInSeconds": 21}, pool_maximum_s=20)


def test_stream_limits_above_the_server_maximum_are_clamped() -> None:
    assert decode({"code": "x", "outputStreamsMaxLength": 20_000}).spec.stream_limit == 20_000
    assert decode({"code": "x", "outputStreamsMaxLength": 10**9}).spec.stream_limit == 1_048_576


def test_code_has_a_limit_in_bytes_however_it_is_written() -> None:
    limit = programs.MAX_CODE_BYTES
    assert len(decode({"code": "x" * limit}).spec.code) == limit
    for body in (
        {"code": "x" * (limit + 1)},
        {"code": "é" * (limit // 2 + 1)},
        {"code": base64.b64encode(b"x" * (limit + 1)).decode(), "codeInputType": "inlineBase64"},
    ):
        with pytest.raises(errors.ContentTooLarge):
            decode(json.dumps(body, ensure_ascii=False).encode())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"x"',
        b"\xff\xfe",
        b'{"code": "x"',
        b'"codeInputType": "inline", "code": "1"',  # the published JavaScript sample, which lost its braces
        b"[" * 50_000,
        b'{"a":' * 2_000,
        b'{"a":[' + b"[]," * 40_000 + b"1]}",
        b'{"a":' + b"9" * 5_000 + b"}",
    ],
)
def test_a_bad_body_is_a_clean_400(body: bytes) -> None:
    with pytest.raises(errors.RequestInvalid) as caught:
        decode(body)
    assert caught.value.target == "$"


def test_a_huge_body_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(errors.ContentTooLarge):
        decode(b" " * (jsons.MAX_BODY + 1))


def test_a_string_that_never_ends_is_refused_at_once() -> None:
    """Escaped quotes in it: tried again from each of them, 130 kB held the event loop for a minute."""
    began = time.monotonic()
    with pytest.raises(errors.RequestInvalid):
        decode(b'{"code":"' + b'\\"' * 200_000)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32-le"])
def test_another_encoding_hides_no_bomb(encoding: str) -> None:
    """In UTF-16 half of a character may look like a quote, behind which all seemed to be text."""
    assert jsons.decode_object('{"a": "x\u2201"}'.encode(encoding)) == {"a": "x\u2201"}
    with pytest.raises(errors.RequestInvalid, match="elements"):
        jsons.decode_object(('{"a": ["\u2201",' + "[]," * 40_000 + "1]}").encode(encoding))
    with pytest.raises(errors.RequestInvalid):
        jsons.decode_object(b"\xff\xfe" + b"\x00\xd8" * 40_000 + b"{")


@pytest.mark.parametrize("element", ['"",', '"\\\\",', '"\\"",'])
def test_millions_of_texts_are_refused_at_once(element: str) -> None:
    began = time.monotonic()
    with pytest.raises(errors.RequestInvalid):
        decode(('{"a":[' + element * (12_000_000 // len(element)) + "1]}").encode())
    assert time.monotonic() - began < 8


def test_code_full_of_brackets_and_quotes_is_not_a_bomb() -> None:
    code = '[{"a": "\\\\"}, [1, 2]],\n' * 20_000
    assert decode({"code": code}).spec.code == code


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda leaf: st.lists(leaf) | st.dictionaries(st.text(), leaf),
    )
)
def test_whatever_is_encoded_is_valid_json(value: Any) -> None:
    """NaN, infinities and lone surrogates from a guest included."""

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    json.loads(jsons.encode(value), parse_constant=refuse)


# ---- execution replies ------------------------------------------------------------------------------------------------


USED = Usage(
    8.2, 7.125, None, 5, 4, {"wall_ms": "host clock", "cpu_ms": "c", "written_bytes": "w", "printed_bytes": "agent"}
)
DONE = Execution("id-1", "alice", False, Status.SUCCEEDED, "out\n", "", Value(), 0, Outcome.OK, USED)
NUMBER = Value(ValueKind.SCALAR, 42, "42")
NONE = Value(ValueKind.SCALAR, None, "None")
IMAGE = Value(ValueKind.IMAGE, {"type": "image", "format": "png", "base64_data": "iVBO"})
LIST = Value(ValueKind.CONTAINER, [1, 2], "[1,\n 2]")
OBJECT = Value(ValueKind.TEXT, None, "<object>")


@pytest.mark.parametrize(
    ("value", "old", "new", "textual"),
    [
        (Value(), "", "", ""),
        (NONE, None, None, None),
        (NUMBER, 42, 42, "42"),
        (Value(ValueKind.SCALAR, True, "True"), True, True, "True"),
        (Value(ValueKind.SCALAR, "text", "'text'"), "text", "text", "text"),
        (Value(ValueKind.SCALAR, "nan", "nan"), "nan", "nan", "nan"),
        (IMAGE, IMAGE.json, IMAGE.json, IMAGE.json),
        (LIST, "[1,\n 2]", [1, 2], [1, 2]),
        (OBJECT, "<object>", "<object>", "<object>"),
    ],
)
def test_a_value_is_shown_by_envelope_and_version(value: Value, old: object, new: object, textual: object) -> None:
    done = replace(DONE, value=value)
    properties = json.loads(executions.encode_old(done))["properties"]

    assert (properties["result"], properties["executionResult"]) == (old, old)
    for version in (OLDEST, SECOND, SPEC_25, NEWEST):
        assert json.loads(executions.encode_execution(done, version))["result"]["executionResult"] == new
    assert json.loads(executions.encode_execution(done, TEXTUAL))["result"]["executionResult"] == textual


def test_the_old_envelope_has_every_key_and_azures_numbering() -> None:
    assert json.loads(executions.encode_old(replace(DONE, value=NUMBER))) == {
        "$id": "1",
        "properties": {
            "$id": "2",
            "status": "Success",
            "stdout": "out\n",
            "stderr": "",
            "result": 42,
            "executionResult": 42,
            "executionTimeInMilliseconds": 8,
        },
    }


def test_the_oldest_route_repeats_four_keys_at_the_top() -> None:
    failed = replace(DONE, status=Status.FAILED, stderr="ValueError")

    envelope = json.loads(executions.encode_old(failed, with_top_level=True))

    assert {key: envelope[key] for key in ("status", "stdout", "stderr", "result")} == {
        "status": "Failure",
        "stdout": "out\n",
        "stderr": "ValueError",
        "result": "",
    }


def test_an_execution_has_its_result_once_it_is_over() -> None:
    running = json.loads(
        executions.encode_execution(replace(DONE, status=Status.RUNNING, is_asynchronous=True), NEWEST)
    )
    over = json.loads(executions.encode_execution(DONE, NEWEST, "synchronous"))

    assert running == {"id": "id-1", "identifier": "alice", "executionType": "Asynchronous", "status": "Running"}
    assert over == {
        "id": "id-1",
        "identifier": "alice",
        "executionType": "synchronous",
        "status": "Succeeded",
        "result": {
            "stdout": "out\n",
            "stderr": "",
            "executionResult": "",
            "executionTimeInMilliseconds": 8,
            "outcome": "ok",
            "usage": {
                "wallMs": 8.2,
                "cpuMs": 7.125,
                "peakMemoryBytes": None,
                "writtenBytes": 5,
                "printedBytes": 4,
                "sources": {
                    "wallMs": "host clock",
                    "cpuMs": "c",
                    "peakMemoryBytes": None,
                    "writtenBytes": "w",
                    "printedBytes": "agent",
                },
            },
        },
    }


def test_a_canceled_execution_says_so_in_both_envelopes() -> None:
    canceled = replace(DONE, status=Status.CANCELED, outcome=Outcome.CANCELED, usage=None)

    new = json.loads(executions.encode_execution(canceled, NEWEST))
    assert (new["status"], new["result"]["outcome"], new["result"]["stdout"]) == ("Canceled", "canceled", "out\n")
    assert json.loads(executions.encode_old(canceled))["properties"]["status"] == "Canceled"


@pytest.mark.parametrize(
    ("outcome", "exit_code", "status", "stdout", "milliseconds"),
    [
        (Outcome.OK, 0, "0", "out\n", 2008),
        (Outcome.ERROR, 3, "3", "out\n", 2008),
        (Outcome.ERROR, 137, "137", "out\n", 2008),
        (Outcome.TIMEOUT, None, "-1", "", 2000),
        (Outcome.KILLED, None, "-1", "out\n", 2008),
    ],
)
def test_a_shell_commands_status_is_its_exit_code(
    outcome: Outcome, exit_code: int | None, status: str, stdout: str, milliseconds: int
) -> None:
    """LangChain takes int() of it. At its limit a command has printed nothing, and taken just so long, as on the live service."""
    ended = Status.SUCCEEDED if exit_code == 0 else Status.FAILED
    used = replace(USED, wall_ms=2008.4)
    command = replace(DONE, status=ended, outcome=outcome, exit_code=exit_code, usage=used, command_timeout=2.0)

    envelope = json.loads(executions.encode_execution(command, NEWEST))

    assert (envelope["status"], envelope["result"]["stdout"]) == (status, stdout)
    assert envelope["result"]["executionTimeInMilliseconds"] == milliseconds
    assert "executionResult" not in envelope["result"]
    assert (
        json.loads(executions.encode_execution(replace(command, status=Status.RUNNING), NEWEST))["status"] == "Running"
    )


def test_displays_and_variables_come_after_azures_fields() -> None:
    shown = Output({"text/html": "<b>1</b>", "text/plain": "1"}, {"isolated": True})
    done = replace(DONE, outputs=(shown,), dropped_outputs=2, variables={"a": [1]})

    result = json.loads(executions.encode_execution(done, OLDEST))["result"]

    assert result["outputs"] == [{"data": dict(shown.data), "metadata": {"isolated": True}}]
    assert (result["droppedOutputs"], result["variables"]) == (2, {"a": [1]})
    assert not {"outputs", "droppedOutputs", "variables"} & set(
        json.loads(executions.encode_execution(DONE, OLDEST))["result"]
    )


def test_a_list_of_executions_has_no_output() -> None:
    running = replace(DONE, id="id-2", status=Status.RUNNING, outcome=None, usage=None, is_asynchronous=True)

    page = json.loads(executions.encode_executions([DONE, running], "http://next"))

    head = {"identifier": "alice", "executionType": "Synchronous"}
    assert page == {
        "value": [
            {"id": "id-1", **head, "status": "Succeeded", "outcome": "ok", "executionTimeInMilliseconds": 8},
            {
                "id": "id-2",
                "identifier": "alice",
                "executionType": "Asynchronous",
                "status": "Running",
                "outcome": None,
                "executionTimeInMilliseconds": 0,
            },
        ],
        "nextLink": "http://next",
    }


def test_executions_answers_202_at_one_version_only() -> None:
    assert [version.executions_status for version in VERSIONS.values()] == [200, 200, 202, 200, 200]


def test_metadata_tells_what_a_pool_without_a_sandbox_is_waiting_for() -> None:
    status = PoolStatus(PoolSpec("node"), 0, 1, 0, 0.0, None, Level.NAMESPACE, (), "installing Node packages")

    told = Metadata.parse(json.loads(sessions.encode_metadata(status, None)))
    assert (told.preparing, told.image, told.error, told.isolation) == (
        "installing Node packages",
        None,
        None,
        "namespace",
    )


# ---- sessions, errors, times ------------------------------------------------------------------------------------------


def test_a_session_has_the_five_fields() -> None:
    view = SessionView("alice", "guid", 0, 1.5, 300)

    assert json.loads(sessions.encode_session(view)) == {
        "identifier": "alice",
        "createdAt": "1970-01-01T00:00:00.0000000Z",
        "lastAccessedAt": "1970-01-01T00:00:01.5000000Z",
        "expireAt": "1970-01-01T00:05:00.0000000Z",
        "etag": "guid",
    }


def test_management_spells_the_end_of_a_session_otherwise() -> None:
    view = SessionView("alice", "guid", 0.0, 1.0, 2.0)
    plain = json.loads(sessions.encode_session(view))

    managed = json.loads(sessions.encode_managed_session(view))

    assert managed == {**{key: plain[key] for key in plain if key != "expireAt"}, "expiresAt": plain["expireAt"]}
    page = json.loads(sessions.encode_managed_sessions([view, view], None))
    assert page == {"value": [managed, managed], "count": 2, "nextLink": None}
    assert sessions.encode_stopped("user 1", "python") == b"Session user 1 in session pool python stopped."


def test_errors_have_one_body_and_full_pools_two() -> None:
    missing = json.loads(sessions.encode_error(errors.FileMissing("gone", target="name"), "trace"))
    full = json.loads(sessions.encode_error(errors.PoolFull("full"), "trace"))

    assert missing == {"error": {"code": "FileNotFound", "message": "gone", "target": "name", "traceId": "trace"}}
    assert (
        (full["code"], full["message"])
        == ("SessionsCountExceedsLimit", "full")
        == (full["error"]["code"], full["error"]["message"])
    )


@given(st.floats() | st.integers(-(2**63), 2**63).map(float))
def test_any_time_a_guest_sets_can_be_written(unix_s: float) -> None:
    assert len(times.timestamp(unix_s)) == len("2024-05-02T07:21:07.9922617Z")
    assert times.http_date(unix_s).endswith(" GMT")


def test_durations_look_like_gos() -> None:
    assert [times.go_duration(s) for s in (0.005, 1.5, 61, 3723.25)] == [
        "5.000000ms",
        "1.500000000s",
        "1m1.000000000s",
        "1h2m3.250000000s",
    ]

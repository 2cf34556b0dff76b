"""Shell commands and variables over HTTP, in a Python pool: every pool takes both."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from carrel.client import Client, ShellResult
from endpoint import V24_02, V25_02, V25_10, Endpoint, error_of

pytestmark = pytest.mark.one_level


def command(endpoint: Endpoint, line: str | list[str], version: str = V25_02, **fields: Any) -> dict[str, Any]:
    name = "shellCommand" if isinstance(line, str) else "execCommandAndArgs"
    reply = endpoint.send("POST", "executions", version=version, json={name: line, **fields})
    assert reply.status_code == 200, reply.text
    return dict(reply.json())


@pytest.mark.parametrize("version", [V24_02, V25_02, V25_10])
def test_a_commands_status_is_its_exit_code(shared: Endpoint, version: str) -> None:
    for line, status, stdout, stderr in (
        ("echo hello", "0", "hello\n", ""),
        ("echo é☕ >&2; exit 3", "3", "", "é☕\n"),
        ("kill -KILL $$", "137", "", ""),
        ("", "0", "", ""),
        (["printf", "%s|", "a b", "$HOME", "'"], "0", "a b|$HOME|'|", ""),
    ):
        body = command(shared, line, version)
        assert (body["status"], body["result"]["stdout"], body["result"]["stderr"]) == (status, stdout, stderr), line
        assert body["identifier"] == shared.identifier
        assert "executionResult" not in body["result"]
        assert command(shared, line, version)["result"]["executionTimeInMilliseconds"] < 5000


def test_a_command_is_a_fresh_process_in_the_data_folder(endpoint: Endpoint) -> None:
    """Beside the interpreter, not in it: its variables stay, and files are shared."""
    endpoint.run("x = 1; open('made', 'w').write('by code')")

    assert command(endpoint, "pwd; cat made; echo more >> made; cd /")["result"]["stdout"] == "/mnt/data\nby code"
    assert endpoint.result("x, open('made').read()") == [1, "by codemore\n"]


def test_what_a_command_reads(shared: Endpoint) -> None:
    """Nothing, or what the request brings; megabytes pass."""
    assert command(shared, "cat; echo end")["result"]["stdout"] == "end\n"
    assert command(shared, "tr a-z A-Z", stdin="größe\0x")["result"]["stdout"] == "GRößE\0X"
    assert command(shared, "wc -c", stdin="x" * 3_000_000)["result"]["stdout"].strip() == "3000000"
    assert command(shared, "true", stdin="x" * 3_000_000)["status"] == "0"


def test_the_shell_can_be_chosen(shared: Endpoint) -> None:
    assert command(shared, "echo ${BASH_VERSION:+bash}")["result"]["stdout"] == "bash\n"
    assert command(shared, "echo ${BASH_VERSION:-sh} $0", shellType="sh")["result"]["stdout"].startswith("sh")


def test_a_command_past_its_deadline_is_minus_one(endpoint: Endpoint) -> None:
    """As the live service answers: no output, and the deadline as its time; the session goes on."""
    endpoint.run("x = 1")
    began = time.monotonic()
    body = command(endpoint, "echo before; trap '' INT; while :; do sleep 0.1; done", timeoutInSeconds=1)

    assert (body["status"], body["result"]["outcome"]) == ("-1", "timeout")
    assert (body["result"]["stdout"], body["result"]["executionTimeInMilliseconds"]) == ("", 1000)
    assert time.monotonic() - began < 6
    by_id = endpoint.send("GET", f"executions/{body['id']}").json()
    assert (by_id["status"], by_id["result"]) == ("-1", body["result"])
    assert command(endpoint, "echo on")["result"]["stdout"] == "on\n"


def test_a_command_is_told_and_canceled_like_code(endpoint: Endpoint) -> None:
    """Its output as it is written; what is canceled is `Canceled`, with what it had printed."""
    with Client.from_connection(endpoint.server.state, identifier=endpoint.identifier) as client:
        seen: list[str] = []
        result = client.shell("echo one; echo two >&2; exit 4", on_output=lambda event: seen.append(event.kind))
        assert (result.exit_code, result.stdout, result.stderr, result.is_ok) == (4, "one\n", "two\n", False)
        assert sorted(seen) == ["result", "started", "stderr", "stdout"]
        kinds = []
        body = {"shellCommand": "echo on; sleep 30", "executionType": "Asynchronous"}
        endpoint.send("POST", "executions", json=body, headers={"operation-id": "long"})
        for event in client.follow("long"):
            kinds.append(event.kind)
            if event.kind == "stdout":
                client.cancel("long")
        canceled = client.execution("long")
    assert kinds[-1] == "result"
    assert (canceled.status, canceled.stdout) == ("Canceled", "on\n")


def test_only_one_thing_can_be_asked_for(shared: Endpoint) -> None:
    requests: list[dict[str, Any]] = [
        {"code": "1", "shellCommand": "ls"},
        {"shellCommand": "ls", "execCommandAndArgs": ["ls"]},
        {"execCommandAndArgs": []},
        {"shellCommand": "ls", "shellType": "fish"},
        {"shellCommand": "a\0b"},
    ]
    for fields in requests:
        reply = shared.send("POST", "executions", json=fields)
        assert (reply.status_code, error_of(reply)["code"]) == (400, "SessionRequestValidationFailed"), fields


def test_a_program_that_is_not_there_is_an_exit_code(shared: Endpoint) -> None:
    body = command(shared, ["/no/such/program"])

    assert body["status"] == "127"
    assert body["result"]["stderr"]


def test_the_old_envelope_has_its_own_words_for_a_command(shared: Endpoint) -> None:
    for line, status in (("echo x", "Success"), ("exit 1", "Failure")):
        reply = shared.send("POST", "code/execute", version=V24_02, json={"properties": {"shellCommand": line}})
        assert reply.json()["properties"]["status"] == status


def test_the_client_runs_programs_without_a_shell(shared: Endpoint) -> None:
    with Client.from_connection(shared.server.state, identifier=shared.identifier) as client:
        result = client.shell(["cat", "-"], stdin="$x; `y`")

    assert isinstance(result, ShellResult)
    assert (result.exit_code, result.stdout, result.is_ok) == (0, "$x; `y`", True)


# ---- variables -----------------------------------------------------------------------------------------------------------


VALUES: dict[str, Any] = {
    "text": "quote ' \" \\ \n ☕ \u2028",
    "numbers": [1, 2.5, -3],
    "nested": {"a": {"b": [None, True]}},
    "_": {},
}


def test_variables_go_in_and_out_with_code(endpoint: Endpoint) -> None:
    """As values, whatever they look like: nothing of them is ever run."""
    code = "text = text[::-1]; numbers.append(4); mine = {'x': 1}; class_ = object()"
    body = endpoint.run(code, variables=VALUES, returnVariables=["text", "numbers", "mine", "class_", "absent"])

    assert body["result"]["variables"] == {"text": VALUES["text"][::-1], "numbers": [1, 2.5, -3, 4], "mine": {"x": 1}}
    assert endpoint.result("nested") == VALUES["nested"]
    assert "variables" not in endpoint.run("1")["result"]


def test_variables_are_told_where_code_fails(endpoint: Endpoint) -> None:
    body = endpoint.run("seen = 1; 1/0", variables={"x": 1}, returnVariables=["seen", "x"])

    assert (body["status"], body["result"]["variables"]) == ("Failed", {"seen": 1, "x": 1})


def test_variables_by_their_own_route(endpoint: Endpoint) -> None:
    assert endpoint.send("GET", "session/variables", query={"name": "x"}).status_code == 404
    assert endpoint.send("GET", "session").status_code == 404
    assert endpoint.send("PUT", "session/variables", json=VALUES).status_code == 204
    assert endpoint.result("text, numbers") == [VALUES["text"], VALUES["numbers"]]
    reply = endpoint.send("GET", "session/variables", query={"name": "text,numbers,nested,_,absent"})
    assert reply.json() == VALUES
    target = endpoint.target("session/variables") + "&name=text&name=numbers"
    assert json.loads(endpoint.raw("GET", target)[2]) == {name: VALUES[name] for name in ("text", "numbers")}
    with Client.from_connection(endpoint.server.state, identifier=endpoint.identifier) as client:
        client.set_variables({"x": 41})
        assert client.variables("x", "absent") == {"x": 41}
        done = client.execute("y = x + 1", variables={"x": 1}, return_variables=["y"])
        assert done.variables == {"y": 2}


def test_what_variables_there_are(endpoint: Endpoint) -> None:
    """Told by name, with nothing said of those that the code did not make; a look that makes no session."""
    assert endpoint.send("GET", "session/variables", query={"summary": "true"}).status_code == 404
    assert endpoint.send("GET", "session").status_code == 404
    endpoint.run("import json; b = 'text'; a = [1, 2, 3]; _c = 1")
    reply = endpoint.send("GET", "session/variables", query={"summary": "true"})

    assert reply.status_code == 200
    found = reply.json()
    assert [(each["name"], each["type"], each["shape"], each["preview"]) for each in found["value"]] == [
        ("a", "list", [3], "[1, 2, 3]"),
        ("b", "str", [4], "'text'"),
    ]
    assert found["total"] == 2
    assert found["value"][0]["size"] > 0
    with Client.from_connection(endpoint.server.state, identifier=endpoint.identifier) as client:
        assert [each.name for each in client.list_variables()] == ["a", "b"]
    for query in ({"summary": "true", "name": "a"}, {"summary": "yes"}, {"summary": "false"}):
        assert endpoint.send("GET", "session/variables", query=query).status_code == 400


def test_a_look_at_variables_is_no_execution(endpoint: Endpoint) -> None:
    """It is not listed, and makes none of those that are there be forgotten."""
    endpoint.run("x = 1", headers={"operation-id": "first"})
    for _ in range(120):
        assert endpoint.send("GET", "session/variables", query={"name": "x"}).json() == {"x": 1}
    endpoint.send("PUT", "session/variables", json={"x": 2})

    assert [each["id"] for each in endpoint.send("GET", "executions").json()["value"]] == ["first"]
    assert endpoint.send("GET", "executions/first").json()["status"] == "Succeeded"


def test_variables_take_their_turn(endpoint: Endpoint) -> None:
    body = {"code": "import time; time.sleep(0.5); x = 'after'", "executionType": "Asynchronous"}
    endpoint.run("x = 'before'")
    endpoint.send("POST", "executions", json=body)

    assert endpoint.send("GET", "session/variables", query={"name": "x"}).json() == {"x": "after"}


@pytest.mark.parametrize("name", ["", "a b", "a;b", "1a", "x" * 256, "a.b", "__import__('os')"])
def test_what_is_no_name_is_refused(shared: Endpoint, name: str) -> None:
    shared.run("0")
    for reply in (
        shared.send("GET", "session/variables", query={"name": name}),
        shared.send("PUT", "session/variables", json={name: 1}),
        shared.send("POST", "executions", json={"code": "1", "variables": {name: 1}}),
    ):
        assert (reply.status_code, error_of(reply)["code"]) == (400, "SessionRequestValidationFailed")


def test_a_keyword_is_refused_in_the_interpreters_words(endpoint: Endpoint) -> None:
    reply = endpoint.send("PUT", "session/variables", json={"class": 1})

    assert reply.status_code == 400
    assert "'class' cannot be a variable" in error_of(reply)["message"]
    assert endpoint.result("1 + 1") == 2


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'{"a": NaN}', b'{"a": 1e999}', b'{"a":' + b"[" * 90 + b"]" * 90 + b"}"]
)
def test_a_body_that_is_no_object_of_values_is_refused(shared: Endpoint, body: bytes) -> None:
    reply = shared.send("PUT", "session/variables", content=body)

    assert (reply.status_code, error_of(reply)["code"]) == (400, "SessionRequestValidationFailed")


def test_a_variable_of_megabytes_passes(endpoint: Endpoint) -> None:
    text = "é☕" * 500_000

    assert endpoint.send("PUT", "session/variables", json={"text": text}).status_code == 204
    assert endpoint.result("len(text)") == len(text)
    assert endpoint.send("GET", "session/variables", query={"name": "text"}).json() == {"text": text}

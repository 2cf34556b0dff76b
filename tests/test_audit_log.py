"""The audit log from the front door: what is recorded of real calls, who may read it, and that it holds nothing that it should not."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from carrel.cli import cli
from carrel.client import ApiError, Management
from carrel.server.arm import routes as arm_routes
from carrel.server.audit.actions import ACTIONS, UNRECORDED
from carrel.server.graph import routes as graph_routes
from carrel.server.routes import FIXED, MCP_METHODS, NAMED
from carrel.storage import ARM_AUDIENCE, State
from conftest import Server, fresh_identifier

READER = "acdd72a7-3385-48ef-bd42-f606fba81ae7"
WORDS = "swordfish"  # of code, output and names: nothing of it may be in the log


@pytest.fixture
def management(managed_server: Server) -> Iterator[Management]:
    with Management.from_connection(managed_server.state) as client:
        yield client


def get(server: Server, query: dict[str, str], token: str | None = None) -> httpx.Response:
    fields = server.connection
    headers = {"Authorization": f"Bearer {token or fields['arm_token']}"}
    return httpx.get(f"{fields['http']}/.carrel/audit", params=query, headers=headers, trust_env=False, timeout=20)


def found(server: Server, **query: str) -> list[dict[str, Any]]:
    """The newest first."""
    reply = get(server, query)
    assert reply.status_code == 200, reply.text
    return list(reply.json()["value"])


def text_of(server: Server) -> str:
    return "".join(file.read_text() for file in sorted((server.state / "audit").glob("audit-*.jsonl")))


def test_every_route_that_changes_anything_is_recorded_or_says_why_not() -> None:
    """A route that is added later fails here until somebody has thought about it."""
    served = {(route.pattern, method) for route in [*FIXED.values(), *NAMED.values()] for method in route.methods}
    served |= {("mcp", method) for method in MCP_METHODS}
    served |= {(route.pattern.text, method) for route in arm_routes.ROUTES for method in route.methods}
    served |= {(route.pattern.text, method) for route in graph_routes.ROUTES for method in route.methods}

    missing = {key for key in served if key[1] not in ("GET", "HEAD")} - {*ACTIONS, *UNRECORDED}
    gone = {key for key in UNRECORDED if key not in served}

    assert not missing
    assert not gone


def test_a_change_is_recorded_with_who_made_it(managed_server: Server, management: Management) -> None:
    """A role that is given and taken: whose, which, by whom, from where, and under which trace."""
    principal = str(uuid.uuid4())
    made = management.assign_role("Reader", principal, kind="ServicePrincipal")
    management.remove_assignment(made.id)

    records = found(managed_server, action="roleAssignments")[:2]

    assert [each["action"] for each in records] == ["roleAssignments/delete", "roleAssignments/write"]
    state = State(managed_server.state)
    for each in records:
        assert each["principal"] == state.object_id and each["peer"] == "127.0.0.1" and each["outcome"] == "Succeeded"
        assert each["details"]["role"] == "Reader" and each["details"]["of"] == principal
        assert each["resource"].startswith("/subscriptions/") and len(each["trace"]) == 32


def test_nobody_hides_a_change_by_how_its_path_is_written(managed_server: Server, management: Management) -> None:
    """Letters that are percent-encoded and slashes too many: records say what was meant, and are found by it."""
    fields, name = managed_server.connection, f"hidden-{uuid.uuid4().hex[:6]}"
    group = f"/subscriptions/{fields['subscription']}/resourceGroups/{fields['resource_group']}"
    path = f"{group}/providers/Microsoft.App/sessionPools/{name}"
    written = (
        path.replace("hidden", "h%69dden").replace("Microsoft.App", "Microsoft.%41pp").replace("/session", "//session")
    )
    reply = httpx.delete(
        f"{fields['http']}{written.replace('/resource', '/' * 600 + 'resource')}?api-version=2025-07-01",
        headers={"Authorization": f"Bearer {fields['arm_token']}"},
        trust_env=False,
    )
    (record, *_) = found(managed_server, trace=reply.headers["x-ms-request-id"])

    assert reply.status_code == 204
    assert record["resource"] == path
    assert record["pool"] == f"{fields['resource_group']}/{name}".lower()
    assert found(managed_server, pool=name)[0]["trace"] == record["trace"]


def test_a_secret_is_recorded_and_not_told(managed_server: Server, management: Management) -> None:
    """That an application has a new secret, and never which."""
    application = management.identities.create_application("audited")
    secret = management.identities.add_secret(application)
    told = text_of_all(managed_server)

    assert "secrets/add" in told and "principals/create" in told
    assert (secret.text or "none") not in told
    management.identities.delete(application)


def text_of_all(server: Server) -> str:
    """With all that was recorded before: the question is answered once that is written."""
    get(server, {})
    return text_of(server)


def refused(server: Server, call: Callable[[], httpx.Response]) -> tuple[httpx.Response, dict[str, Any]]:
    """A refused call and its record. Other tests' refused calls may have used up what is recorded of them in ten seconds."""
    for _ in range(30):
        reply = call()
        if records := found(server, trace=reply.headers["x-ms-request-id"]):
            return reply, records[0]
        time.sleep(1)
    raise AssertionError("it was never recorded")


def test_tokens_are_recorded_by_number(managed_server: Server) -> None:
    """Given and refused: for whom and for what, with the reason; neither token nor secret."""
    fields = managed_server.connection
    url = f"{fields['http']}/{fields['tenant']}/oauth2/v2.0/token"
    form = {"grant_type": "client_credentials", "client_id": fields["client_id"], "scope": f"{ARM_AUDIENCE}/.default"}

    given = httpx.post(url, data={**form, "client_secret": fields["client_secret"]}, trust_env=False)
    good = found(managed_server, trace=given.headers["x-ms-request-id"])[0]
    other = {
        **form,
        "client_id": str(uuid.uuid4()),
        "client_secret": f"{WORDS}-wrong",
    }  # one that nobody is locked out by
    wrong, bad = refused(managed_server, lambda: httpx.post(url, data=other, trust_env=False))

    assert (given.status_code, wrong.status_code) == (200, 400)
    assert bad["outcome"] == "Refused" and bad["code"] == "unauthorized_client"
    assert good["outcome"] == "Succeeded" and good["details"]["for"] == fields["object_id"]
    assert good["details"]["tokenId"] and good["details"]["audience"] == ARM_AUDIENCE
    told = text_of(managed_server)
    assert given.json()["access_token"] not in told and fields["client_secret"] not in told and WORDS not in told


def test_a_refused_call_is_recorded(managed_server: Server) -> None:
    """Without a token, and with one that gives no right: with the pool that was meant, and who meant it."""
    url = f"{managed_server.connection['pools']['python']['endpoint']}/executions"
    query = {"api-version": "2025-10-02-preview", "identifier": fresh_identifier()}
    stranger = State(managed_server.state).issue_token(subject=str(uuid.uuid4()), claims={"idtyp": "app"})

    def call(**headers: str) -> httpx.Response:
        return httpx.post(url, params=query, json={"code": WORDS}, headers=headers, trust_env=False)

    nobody, first = refused(managed_server, call)
    somebody, second = refused(managed_server, lambda: call(Authorization=f"Bearer {stranger}"))

    assert (nobody.status_code, somebody.status_code) == (first["status"], second["status"]) == (401, 403)
    assert {first["action"], second["action"]} == {"calls/other"}
    assert second["pool"] == "default/python" and "principal" in second and "principal" not in first
    assert WORDS not in text_of(managed_server)


@pytest.mark.one_level
def test_what_runs_is_recorded_and_what_it_says_is_not(server: Server) -> None:
    """An execution, an upload and a download: sizes, status and digests; no code, no output, no name, no identifier."""
    identifier = f"{WORDS}-{uuid.uuid4().hex[:8]}"
    with server.client(identifier) as client:
        ran = client.execute(f"print('{WORDS}')")
        streamed = [event.kind for event in client.stream("1 / 0")]
        client.upload(f"{WORDS}.csv", b"x" * 10)
        client.download(f"{WORDS}.csv")
        client.end()
    session = State(server.state).digest(identifier)

    records = found(server, session=session, order="asc")

    actions = [each["action"] for each in records]
    assert actions[:2] == ["sessions/begin", "executions/run"] and actions[-1] == "sessions/end"
    assert {"files/upload", "files/download"} <= set(actions) and "result" in streamed
    runs = [each["details"] for each in records if each["action"] == "executions/run"]
    assert [each["status"] for each in runs] == ["Succeeded", "Failed"]
    assert runs[0]["execution"] == ran.id and runs[0]["codeBytes"] == len(f"print('{WORDS}')")
    assert runs[0]["outputBytes"] == len(WORDS) + 1
    upload = next(each["details"] for each in records if each["action"] == "files/upload")
    assert upload == {"file": State(server.state).digest(f"{WORDS}.csv"), "extension": "csv", "bytes": 10}
    assert WORDS not in text_of(server)


@pytest.mark.one_level
def test_tools_of_mcp_are_recorded_as_what_they_do(server: Server) -> None:
    """Code and files by way of a model: the same actions, by the key's bearer; nothing of what was said."""
    environment = f"{WORDS}-{uuid.uuid4().hex[:8]}"
    pool = server.connection["pools"]["python"]
    calls = [
        ("runPythonCodeInRemoteEnvironment", {"environmentId": environment, "pythonCode": f"print('{WORDS}')"}),
        ("uploadFile", {"environmentId": environment, "path": f"{WORDS}.txt", "content": WORDS}),
        ("downloadFile", {"environmentId": environment, "path": f"{WORDS}.txt"}),
        ("downloadFile", {"environmentId": environment, "path": f"{WORDS}-none.txt"}),
        ("stopEnvironment", {"environmentId": environment}),
    ]
    for name, arguments in calls:
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "arguments": arguments}}
        headers = {"x-ms-apikey": pool["mcp_key"], "accept": "*/*"}
        assert httpx.post(pool["mcp"], json=message, headers=headers, trust_env=False, timeout=60).status_code == 200

    records = found(server, session=State(server.state).digest(environment), order="asc")

    actions = ["sessions/begin", "executions/run", "files/upload", "files/download", "files/download", "sessions/end"]
    assert [each["action"] for each in records] == actions
    assert {each["kind"] for each in records} == {"Key"}
    assert records[1]["details"]["status"] == "Succeeded" and records[2]["details"]["bytes"] == len(WORDS)
    assert [each["outcome"] for each in records][3:5] == ["Succeeded", "Failed"]
    assert records[4]["details"]["error"] == "FileNotFound"
    assert WORDS not in text_of(server)


def test_pages_lead_from_one_to_the_next(managed_server: Server, management: Management) -> None:
    """In both directions, without one twice or left out."""
    for _ in range(3):
        made = management.assign_role("Reader", str(uuid.uuid4()), kind="ServicePrincipal")
        management.remove_assignment(made.id)
    forward = list(management.audit(action="roleAssignments", is_newest_first=False))
    backward = list(management.audit(action="roleAssignments"))

    assert [each.seq for each in forward] == [each.seq for each in backward][::-1]
    assert len({each.seq for each in forward}) == len(forward) >= 6

    seen, reply = [], get(managed_server, {"action": "roleAssignments", "limit": "2"})
    while (link := reply.json()["nextLink"]) is not None:
        seen += reply.json()["value"]
        headers = {"Authorization": f"Bearer {managed_server.connection['arm_token']}"}
        reply = httpx.get(link, headers=headers, trust_env=False)
    assert [each["seq"] for each in [*seen, *reply.json()["value"]]][: len(backward)] == [each.seq for each in backward]


@pytest.mark.parametrize(
    ("query", "target"),
    [
        ({"since": "yesterday"}, "since"),
        ({"until": "2026-13-01"}, "until"),
        ({"until": "9999-12-31T23:59:59-23:59"}, "until"),
        ({"order": "random"}, "order"),
        ({"limit": "0"}, "limit"),
        ({"limit": "301"}, "limit"),
        ({"limit": "٣"}, "limit"),
        ({"cursor": "-1"}, "cursor"),
        ({"cursor": "9" * 40}, "cursor"),
        ({"pool": "x" * 513}, "pool"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_what_is_no_question_is_refused(managed_server: Server, query: dict[str, str], target: str) -> None:
    """400, naming the parameter."""
    reply = get(managed_server, query)

    assert (reply.status_code, reply.json()["error"]["target"]) == (400, target)


@pytest.mark.parametrize("text", ["ünïcödé", "'; drop table", "..", "\u202e", "%00", "x" * 512])
def test_a_question_may_be_anything(managed_server: Server, text: str) -> None:
    """It is compared, and nothing else."""
    for name in ("pool", "principal", "action", "session", "trace", "outcome"):
        assert found(managed_server, **{name: text}) == []


def test_a_reader_of_one_group_reads_of_that_group(managed_server: Server, management: Management) -> None:
    """What belongs to others, or to nobody, is not told; who may read nothing is told so."""
    principal, group = str(uuid.uuid4()), f"audit-{uuid.uuid4().hex[:6]}"
    token = State(managed_server.state).issue_token(ARM_AUDIENCE, subject=principal, claims={"idtyp": "app"})
    assert get(managed_server, {}, token).status_code == 403

    management.create_group(group)
    management.assign_role("Reader", principal, scope=management.scope(resource_group=group), kind="ServicePrincipal")
    management.create_group(group, tags={"a": "b"})
    records = get(managed_server, {}, token).json()["value"]

    assert records and all(group in each["resource"] for each in records)
    assert {each["action"] for each in records} == {"groups/write", "roleAssignments/write"}
    management.delete_group(group)


def test_one_who_runs_code_does_not_read_the_log(managed_server: Server, management: Management) -> None:
    """Session Executor sees the pool, and not who else uses it."""
    principal = str(uuid.uuid4())
    management.assign_role("Azure ContainerApps Session Executor", principal, kind="ServicePrincipal")
    token = State(managed_server.state).issue_token(ARM_AUDIENCE, subject=principal, claims={"idtyp": "app"})

    assert get(managed_server, {}, token).status_code == 403


def test_the_commands(managed_server: Server, management: Management, tmp_path: Path) -> None:
    """`show`, `export`, `verify` and `digest`, as the guide has them."""
    management.create_group("audit-shown")
    management.delete_group("audit-shown")
    state, run = ["--state", str(managed_server.state)], CliRunner().invoke

    shown = run(cli, ["audit", "show", "--since", "2h", "--action", "groups", "-n", "2", *state])
    assert shown.exit_code == 0 and "groups/delete" in shown.output and "groups/write" in shown.output, shown.output
    exported = run(cli, ["audit", "export", "--since", "7d", "-f", str(tmp_path / "week.jsonl"), *state])
    assert exported.exit_code == 0, exported.output
    lines = [json.loads(line) for line in (tmp_path / "week.jsonl").read_text().splitlines()]
    assert [each["seq"] for each in lines] == sorted(each["seq"] for each in lines) and len(lines) > 2
    verified = run(cli, ["audit", "verify", *state])
    assert verified.exit_code == 0 and "as it was written. Keep its end" in verified.output, verified.output
    digest = run(cli, ["audit", "digest", "alice", *state])
    assert digest.output.strip() == State(managed_server.state).digest("alice")
    assert run(cli, ["audit", "show", "--since", "soon", *state]).exit_code == 2
    assert run(cli, ["audit", "verify", "--expect", "nonsense", *state]).exit_code == 2
    assert run(cli, ["audit", "verify", "--state", str(tmp_path)]).exit_code == 1


def test_a_client_reads_records(management: Management) -> None:
    """With the types that a program wants; refused where a filter is none."""
    record = next(management.audit(action="server/start"))

    assert record.outcome == "Succeeded" and record.details["version"] and record.fields["hash"]
    with pytest.raises(ApiError):
        list(management.audit(since="never"))

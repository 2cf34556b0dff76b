"""Signing in as a user with a device code, as `az login` does it, and the refresh tokens that come of it."""

from __future__ import annotations

import base64
import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser

import httpx
import pytest

from authority_client import AZURE_CLI, DATA, GRAPH, PASSWORD, SCOPE, Asker, refusal
from conftest import Server

pytestmark = pytest.mark.one_level

INVALID = (400, "invalid_grant", 70000)


@pytest.fixture(scope="module")
def person(server: Server) -> Asker:
    return Asker(server)


def test_az_signs_a_user_in(person: Asker) -> None:
    """Pending, too often, approved; then a token for the user, its id token and what MSAL keeps the account by. A code is good once."""
    user = person.user()
    begun = person.device(tenant="organizations")

    assert begun["verification_uri"] in begun["message"]
    assert begun["user_code"] in begun["message"]
    assert refusal(person.poll(begun["device_code"])) == (400, "authorization_pending", 70016)
    assert refusal(person.poll(begun["device_code"])) == (400, "slow_down", 70016)
    assert person.answer(begun["user_code"].lower().replace("-", ""), user).status_code == 200
    fields = person.poll(begun["device_code"], tenant="organizations", client_info="1").json()
    assert refusal(person.poll(begun["device_code"])) == INVALID
    access = person.claims(fields["access_token"], DATA)
    assert (access["oid"], access["upn"], access["idtyp"]) == (user["id"], user["userPrincipalName"], "user")
    assert (access["tid"], access["appid"]) == (person.connection["tenant"], AZURE_CLI)
    profile = person.claims(fields["id_token"], AZURE_CLI)
    assert (profile["oid"], profile["preferred_username"]) == (user["id"], user["userPrincipalName"])
    assert profile["iss"] == person.configuration("organizations")["issuer"]
    info = json.loads(base64.urlsafe_b64decode(fields["client_info"] + "=="))
    assert info == {"uid": user["id"], "utid": person.connection["tenant"]}
    assert fields["scope"] == SCOPE


def test_a_refresh_token_is_good_for_other_resources_and_once(person: Asker) -> None:
    """az goes on to Graph with it. The token before gets by for a minute, without a successor; an older one ends them all."""
    first = signed_in(person)

    second = person.refresh(first, scope=f"{GRAPH}/.default openid profile offline_access").json()
    person.claims(second["access_token"], GRAPH)
    late = person.refresh(first).json()
    person.claims(late["access_token"], DATA)
    assert "refresh_token" not in late
    third = person.refresh(second["refresh_token"]).json()["refresh_token"]
    assert refusal(person.refresh(first)) == INVALID
    assert refusal(person.refresh(third)) == INVALID


def test_programs_that_refresh_together_have_one_successor(person: Asker) -> None:
    """A script runs az several times at once: all have a token, one has the next refresh token, and that is good."""
    first = signed_in(person)

    with ThreadPoolExecutor(8) as several:
        replies = [each.json() for each in several.map(lambda _: person.refresh(first), range(8))]

    assert all(each["access_token"] for each in replies)
    (successor,) = [each["refresh_token"] for each in replies if "refresh_token" in each]
    assert person.refresh(successor).status_code == 200


def test_a_disabled_user_has_no_more_tokens(person: Asker) -> None:
    """Nor after it is enabled again: a sign-in of before is over."""
    user = person.user()
    token = signed_in(person, user)

    person.graph("PATCH", f"/users/{user['id']}", {"accountEnabled": False})
    assert refusal(person.refresh(token)) == INVALID
    begun = person.device()
    assert person.answer(begun["user_code"], user).status_code == 403
    person.graph("PATCH", f"/users/{user['id']}", {"accountEnabled": True})
    assert refusal(person.refresh(token)) == INVALID
    assert person.answer(begun["user_code"], user).status_code == 200


def test_a_person_may_say_no(person: Asker) -> None:
    begun = person.device()

    assert "Denied" in person.answer(begun["user_code"], person.user(), "deny").text
    assert refusal(person.poll(begun["device_code"])) == (400, "access_denied", 65004)


@pytest.mark.parametrize("code", ["", "BCDF-GHJK", "x" * 5000, "null\x01", "кодкод", "../../etc"])
def test_codes_that_nobody_was_shown_lead_nowhere(person: Asker, code: str) -> None:
    reply = person.answer(code, {"userPrincipalName": "nobody@example.com"})

    assert (reply.status_code, "There is no such code" in reply.text) == (404, True)


def test_a_code_belongs_to_the_program_that_asked(person: Asker) -> None:
    """Another client that got hold of it, or of a refresh token, has nothing of it."""
    begun = person.device()
    person.answer(begun["user_code"], person.user())
    other = {"client_id": "5e8c4b7e-4a1f-4d55-9f0c-6b1f2a8d3c90"}

    grant = {"grant_type": "urn:ietf:params:oauth:grant-type:device_code", "device_code": begun["device_code"]}
    assert refusal(person.token(**grant, **other)) == INVALID
    token = person.poll(begun["device_code"]).json()["refresh_token"]
    assert refusal(person.token(grant_type="refresh_token", refresh_token=token, **other)) == INVALID
    assert person.refresh(token).status_code == 200


def test_an_application_signs_no_users_in(person: Asker) -> None:
    endpoint = person.configuration()["device_authorization_endpoint"]

    reply = person.http.post(endpoint, data={"client_id": person.connection["client_id"], "scope": SCOPE})

    assert refusal(reply) == (400, "unauthorized_client", 700016)


def test_no_page_of_others_may_answer_or_frame_ours(person: Asker) -> None:
    """What keeps a forged or borrowed click out, and scripts: there is nothing on the page that could run."""
    page = person.http.get("/device")
    policy = page.headers["content-security-policy"]

    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "script" not in policy
    assert "<script" not in page.text and "http" not in re.sub(r"<!doctype.*?<body>", "", page.text, flags=re.S)
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}):
        assert person.http.post("/device", data={"user_code": "BCDF-GHJK"}, headers=headers).status_code == 403
    # With "no-referrer" a browser says "null" of our own page too (Fetch, "append a request Origin header").
    assert page.headers["referrer-policy"] == "same-origin"
    ours = {"Origin": person.connection["https"], "Sec-Fetch-Site": "same-origin"}
    assert person.http.post("/device", data={"user_code": "BCDF-GHJK"}, headers=ours).status_code == 404


class Fields(HTMLParser):
    """What a browser without script makes of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.inputs: dict[str, str] = {}
        self.labels: set[str] = set()
        self.ids: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag in ("input", "button") and "name" in given:
            self.inputs[given["name"]] = given.get("value", "")
            if given.get("type") != "hidden" and tag == "input":
                self.ids.add(given["id"])
        if tag == "label":
            self.labels.add(given["for"])


def test_a_person_gets_through_with_the_pages_alone(person: Asker) -> None:
    """Page by page, with the fields that each has; every one has its label. The second shows who asks."""
    user, begun = person.user(), person.device()
    first = person.http.get(begun["verification_uri"])
    assert Fields(first.text).ids == Fields(first.text).labels

    second = person.http.post("/device", data={"user_code": begun["user_code"]})
    fields = Fields(second.text)
    assert fields.ids == fields.labels
    assert "Microsoft Azure CLI" in second.text
    assert f"from\nthis server&#x27;s own machine (user {os.getuid()})" in second.text
    wrong = person.http.post(
        "/device", data=fields.inputs | {"user_name": "<b>\"'&", "password": "x", "answer": "deny"}
    )
    assert wrong.status_code == 403 and "<b>" not in wrong.text
    filled = Fields(wrong.text).inputs | {
        "user_name": user["userPrincipalName"],
        "password": PASSWORD,
        "answer": "approve",
    }
    assert "signed in" in person.http.post("/device", data=filled).text
    assert person.poll(begun["device_code"]).status_code == 200


def test_guessing_a_password_is_slow_and_stops_nobody_else(person: Asker) -> None:
    """After a handful of wrong ones even the right one has to wait, for that user; others sign in meanwhile."""
    user, other = person.user(), person.user()
    code, another = person.device()["user_code"], person.device()["user_code"]

    guesses = [person.answer(code, user, password=f"wrong {n}").status_code for n in range(10)]
    right = person.answer(code, user)

    assert guesses == [403] * 8 + [429] * 2
    assert (right.status_code, 1 <= int(right.headers["retry-after"]) <= 15) == (429, True)
    assert person.answer(another, other).status_code == 200


@pytest.mark.thorough
def test_a_thousand_guesses_at_once_are_not_one(person: Asker) -> None:
    user, code = person.user(), person.device()["user_code"]

    def guess(number: int) -> httpx.Response:
        return person.answer(code, user, password=f"wrong {number}")

    with ThreadPoolExecutor(16) as several:
        statuses = [each.status_code for each in several.map(guess, range(40))]

    assert (statuses.count(403), statuses.count(429)) == (8, 32)


def signed_in(person: Asker, user: dict[str, str] | None = None) -> str:
    """A user's first refresh token."""
    begun = person.device()
    assert person.answer(begun["user_code"], user or person.user()).status_code == 200
    return str(person.poll(begun["device_code"]).json()["refresh_token"])


def test_a_program_ends_its_own_sign_in(person: Asker) -> None:
    """With any of its refresh tokens, and no other program's; a token that is none ends nothing, and nobody is told what it was."""
    token = signed_in(person)
    endpoint = person.configuration()["revocation_endpoint"]

    def revoke(**fields: str) -> httpx.Response:
        return person.http.post(endpoint, data=fields)

    assert refusal(revoke(client_id=AZURE_CLI)) == (400, "invalid_request", 900144)
    assert refusal(revoke(token=token)) == (401, "invalid_client", 700016)
    assert refusal(revoke(token=token, client_id=person.connection["client_id"])) == (401, "invalid_client", 700016)
    for strange in ("x", token[:-1], token.rpartition(".")[0], "0..", "я" * 999):
        assert revoke(token=strange, client_id=AZURE_CLI).status_code == 200
    assert revoke(token=token, client_id="5e8c4b7e-4a1f-4d55-9f0c-6b1f2a8d3c90").status_code == 200
    newest = person.refresh(token).json()["refresh_token"]
    assert revoke(token=token, client_id=AZURE_CLI).status_code == 200  # the one before
    assert refusal(person.refresh(newest)) == INVALID
    assert revoke(token=newest, client_id=AZURE_CLI).status_code == 200

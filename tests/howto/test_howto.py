"""The published how-to's requests, sent as printed: only host and <PLACEHOLDERS> are replaced, and the reply is what the page shows.

`requests.http` holds the requests, `list.json` the reply that the page prints. They go out over http.client's lowest level, which adds no
header of its own; where a body is printed, its Content-Length is added, as any client does. Each is sent over plain HTTP and over HTTPS.
"""

from __future__ import annotations

import ast
import json
import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, replace
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

HERE = Path(__file__).parent
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}Z")  # as the page prints it: seven digits
JSON = "application/json"


class Server(Protocol):
    """A running server, as conftest's fixture gives it."""

    @property
    def connection(self) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Printed:
    """A request as printed: `url` absolute, headers in their order, body with the line ends its kind needs."""

    method: str
    url: str
    headers: tuple[tuple[str, str], ...]
    body: str

    @classmethod
    def parse(cls, text: str) -> Printed:
        head, _, body = text.partition("\n\n")
        (method, url), *headers = (line.split(" ", 1) for line in head.split("\n"))
        return cls(method, url, tuple((name.removesuffix(":"), value) for name, value in headers), body)

    def encoded_body(self) -> bytes:
        """Multipart lines end with CRLF (RFC 2046); a page cannot print that."""
        is_multipart = any(value.startswith("multipart/") for _, value in self.headers)
        return (self.body.replace("\n", "\r\n") if is_multipart else self.body).encode()


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        assert self.headers["content-type"].split(";")[0] == JSON
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Reader:
    """Someone who follows the page: with a server, a session of their own, and a file to upload."""

    connection: dict[str, Any]
    scheme: str
    session: str
    file: str = "test1.txt"
    content: str = "(data)"

    def send(self, text: str) -> Reply:
        """Send a printed request with its placeholders replaced."""
        printed = Printed.parse(self.filled(text))
        wire = self.connect()
        body = printed.encoded_body()
        split = urlsplit(printed.url)
        wire.putrequest(printed.method, f"{split.path}?{split.query}", skip_host=True, skip_accept_encoding=True)
        wire.putheader("Host", split.netloc)
        for header in printed.headers:
            wire.putheader(*header)
        if body:
            wire.putheader("Content-Length", str(len(body)))
        wire.endheaders(body or None)
        answer = wire.getresponse()
        reply = Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        wire.close()
        return reply

    def connect(self) -> HTTPConnection:
        target = urlsplit(self.connection[self.scheme])
        assert target.hostname is not None
        if self.scheme == "https":
            trust = ssl.create_default_context(cafile=self.connection["ca"])
            return HTTPSConnection(target.hostname, target.port, timeout=30, context=trust)
        return HTTPConnection(target.hostname, target.port, timeout=30)

    def filled(self, text: str) -> str:
        connection = self.connection
        values = {
            "https://<REGION>.dynamicsessions.io": connection[self.scheme],
            "<SUBSCRIPTION_ID>": connection["subscription"],
            "<RESOURCE_GROUP>": connection["resource_group"],
            "<SESSION_POOL_NAME>": "python",
            "<SESSION_ID>": self.session,
            "<FILE_NAME_AND_EXTENSION>": self.file,
            "<token>": connection["token"],
            "<TOKEN>": connection["token"],
            "(data)": self.content,
            "$SESSION_POOL_MANAGEMENT_ENDPOINT": connection["pools"]["python"]["endpoint"],
            "$AUTH_HEADER": f"Authorization: Bearer {connection['token']}",
        }
        for placeholder, value in values.items():
            text = text.replace(placeholder, value)
        return text


def printed_requests() -> dict[str, str]:
    """By the name after `###`; the line end before the next name is not the body's."""
    parts = re.split(r"^### (\w+)\n", (HERE / "requests.http").read_text(), flags=re.MULTILINE)[1:]
    return {name: text.removesuffix("\n") for name, text in zip(parts[::2], parts[1::2], strict=True)}


PRINTED = printed_requests()


@pytest.fixture(params=["http", "https"])
def reader(request: pytest.FixtureRequest, server: Server) -> Iterator[Reader]:
    reader = Reader(server.connection, request.param, session=f"howto-{uuid4()}")
    yield reader
    end_session(reader)


def end_session(reader: Reader) -> None:
    """Gives the session's room back to the pool; there is none where a request was refused."""
    wire = reader.connect()
    path = urlsplit(reader.connection["pools"]["python"]["endpoint"]).path
    query = f"identifier={reader.session}&api-version=2025-10-02-preview"
    wire.request("DELETE", f"{path}/session?{query}", headers={"Authorization": f"Bearer {reader.connection['token']}"})
    assert wire.getresponse().status in (204, 404)
    wire.close()


def without_times(listing: dict[str, Any]) -> dict[str, Any]:
    """The listing with every lastModifiedTime checked for its form and blanked."""
    for entry in listing["value"]:
        assert TIMESTAMP.fullmatch(entry["properties"]["lastModifiedTime"])
        entry["properties"]["lastModifiedTime"] = ""
    return listing


def test_execute(reader: Reader) -> None:
    """The page's first program prints Hello, world!"""
    reply = reader.send(PRINTED["execute"])

    assert reply.status == 200
    document = reply.json()
    assert (document["$id"], document["properties"]["$id"]) == ("1", "2")
    properties = document["properties"]
    assert (properties["status"], properties["stdout"], properties["stderr"]) == ("Success", "Hello, world!\n", "")
    assert properties["result"] == properties["executionResult"] == ""
    assert isinstance(properties["executionTimeInMilliseconds"], int)


def test_upload(reader: Reader) -> None:
    """The page's upload, its `(data)` left as printed, answers with a listing of that one file."""
    reply = reader.send(PRINTED["upload"])

    assert reply.status == 200
    properties = {"$id": "3", "filename": "test1.txt", "size": 6, "lastModifiedTime": ""}
    assert without_times(reply.json()) == {"$id": "1", "value": [{"$id": "2", "properties": properties}]}


def test_download(reader: Reader) -> None:
    """What the page uploads, the page downloads."""
    reader.send(PRINTED["upload"])

    reply = reader.send(PRINTED["download"])

    assert (reply.status, reply.body) == (200, b"(data)")


def test_download_of_a_name_with_no_file(reader: Reader) -> None:
    """Before the upload the same request finds nothing: 404 with a code."""
    reply = reader.send(PRINTED["download"])

    assert (reply.status, reply.headers["x-ms-error-code"]) == (404, "FileNotFound")
    assert reply.json()["error"]["code"] == "FileNotFound"


def test_list(reader: Reader) -> None:
    """With the page's two files, of 16 and 17 bytes, the listing is the page's, "$id" numbers and order of keys included."""
    for file, content in [("test1.txt", "sixteen bytes..."), ("test2.txt", "seventeen bytes..")]:
        assert replace(reader, file=file, content=content).send(PRINTED["upload"]).status == 200

    reply = reader.send(PRINTED["list"])

    assert reply.status == 200
    published = without_times(json.loads((HERE / "list.json").read_text()))
    assert json.dumps(without_times(reply.json())) == json.dumps(published)


def test_list_of_a_new_session(reader: Reader) -> None:
    """A session that the listing itself makes has no files."""
    reply = reader.send(PRINTED["list"])

    assert (reply.status, reply.json()) == (200, {"$id": "1", "value": []})


@pytest.mark.packages
def test_packages(reader: Reader) -> None:
    """The path form lists the packages the page promises, one per line as IPython prints them, and no warning comes along."""
    reply = reader.send(PRINTED["packages"])

    assert reply.status == 200
    properties = reply.json()["properties"]
    assert (properties["status"], properties["stderr"], properties["stdout"]) == ("Success", "", "")
    packages = dict(ast.literal_eval(properties["result"]))
    assert {"numpy", "pandas", "scikit-learn"} <= packages.keys()
    assert properties["result"].count("\n") == len(packages) - 1


def test_path_form_must_agree_with_the_query(reader: Reader) -> None:
    """An identifier in the path other than the query's is refused, so that no call can reach a session by mistake."""
    disagreeing = PRINTED["packages"].replace("identifier=<SESSION_ID>", "identifier=somebody-else")

    assert reader.send(disagreeing).status == 400


def test_broken_javascript_body(reader: Reader) -> None:
    """The JavaScript tutorial's body is printed without its outer braces: a plain 400 that says so and shows no stack trace."""
    reply = reader.send(PRINTED["javascript"])

    assert reply.status == 400
    assert "Traceback" not in reply.body.decode()
    error = reply.json()["error"]
    assert error["code"] == reply.headers["x-ms-error-code"]
    assert {"message", "traceId"} <= error.keys()
    assert "JSON" in error["message"]

"""What a model reads, sends and gets back over MCP: the parts that need no server."""

from __future__ import annotations

import base64
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from carrel import errors
from carrel.config import Config
from carrel.host.hostlink import HostLink
from carrel.models import (
    Execution,
    FileInfo,
    Network,
    Outcome,
    PoolSpec,
    Status,
    Usage,
    Value,
    ValueKind,
)
from carrel.server.mcp import results, tools
from carrel.server.mcp.arguments import Arguments
from carrel.server.mcp.keys import Keys, target_of
from carrel.server.request import Target
from kept_pools import pools_of, record_of, store_in

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(16)).decode()
POOL = PoolSpec("p")
RUNTIMES = ["python", "node", "shell", "ruby"]
RAN = Execution("id-1", "alice", False, Status.SUCCEEDED, "out\n", "", usage=Usage(12.0), outcome=Outcome.OK)


def content(result: results.Result, kind: str) -> list[dict[str, Any]]:
    return [each for each in result["content"] if each["type"] == kind]


# ---- tools -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_every_tool_says_what_it_takes_and_gives(runtime: str) -> None:
    """Schemas are schemas, whatever is required is described, and names are told once."""
    listed = [tool.to_json(is_open=False) for tool in tools.tools_of(POOL, runtime)]

    assert len({tool["name"] for tool in listed}) == len(listed)
    for tool in listed:
        for schema in (tool["inputSchema"], tool["outputSchema"]):
            jsonschema.Draft202012Validator.check_schema(schema)
            assert set(schema["required"]) <= set(schema["properties"])
        assert all("description" in each for each in tool["inputSchema"]["properties"].values())
        assert len(tool["description"]) > 40


def test_a_pool_tells_what_its_environments_reach() -> None:
    pool = PoolSpec("p", network=Network.LISTED, allow=("pypi.org",), cooldown=90)

    assert "pypi.org" in tools.instructions(pool)
    assert "90 seconds" in tools.instructions(pool)
    assert "no network" in tools.instructions(replace(pool, network=Network.NONE))


# ---- arguments ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (None, "'environmentId' is required"),
        ({"environmentId": None}, "required"),
        ({"environmentId": 5}, "must be a string"),
        ({"environmentId": "abc"}, "4 to 128"),
        ({"environmentId": "a" * 129}, "4 to 128"),
        ({"environmentId": "snow\N{SNOWMAN}man"}, "printable ASCII"),
        ({"environmentId": "line\nfeed"}, "printable ASCII"),
    ],
)
def test_an_environment_has_to_be_named_well(given: Any, words: str) -> None:
    with pytest.raises((errors.RequestInvalid, errors.IdentifierLengthInvalid), match=words):
        Arguments(given).environment()


@pytest.mark.parametrize("value", [0, 61, 1.5, True, "5", [], float("nan"), float("inf")])
def test_a_number_is_whole_and_in_range(value: Any) -> None:
    with pytest.raises(errors.RequestInvalid, match="'n' must be"):
        Arguments({"n": value}).integer("n", 7, 1, 60)


def test_a_number_may_be_left_out_or_written_as_a_float() -> None:
    assert Arguments({"n": None}).integer("n", 7, 1, 60) == 7
    assert Arguments({"n": 60.0}).integer("n", 7, 1, 60) == 60


@pytest.mark.parametrize(
    "given", [{}, {"content": "a", "contentBase64": "YQ=="}, {"contentBase64": "!"}, {"contentBase64": "é"}]
)
def test_a_file_is_text_or_base64(given: dict[str, str]) -> None:
    with pytest.raises(errors.RequestInvalid, match="content"):
        Arguments(given).content()


def test_a_files_content_arrives_as_it_is() -> None:
    assert Arguments({"content": "é\r\n"}).content() == "é\r\n".encode()
    assert Arguments({"content": ""}).content() == b""
    assert Arguments({"contentBase64": "AAH\n/"}).content() == b"\x00\x01\xff"


def test_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(errors.RequestInvalid, match="surrogate"):
        Arguments({"pythonCode": "\ud800"}).required_text("pythonCode")


@pytest.mark.parametrize("value", ["ls", [], ["ls", 5], {"a": 1}])
def test_a_programs_arguments_are_a_list_of_strings(value: Any) -> None:
    with pytest.raises(errors.RequestInvalid, match="list of strings"):
        Arguments({"execCommandAndArgs": value}).texts("execCommandAndArgs")


# ---- results --------------------------------------------------------------------------------------------------------------------


def output_schema(name: str) -> dict[str, Any]:
    listed = [tool.to_json(is_open=False) for runtime in RUNTIMES for tool in tools.tools_of(POOL, runtime)]
    schema: dict[str, Any] = next(tool["outputSchema"] for tool in listed if tool["name"] == name)
    return schema


VALUES = [
    Value(),
    Value(ValueKind.SCALAR, None, "None"),
    Value(ValueKind.SCALAR, "NaN", "nan"),
    Value(ValueKind.CONTAINER, {"a": [1, None]}, "…"),
    Value(ValueKind.TEXT, None, "<object>"),
    Value(ValueKind.IMAGE, {"type": "image", "format": "png", "base64_data": PNG}),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: value.kind)
def test_what_comes_back_is_what_the_schema_promises(value: Value) -> None:
    result = results.of_execution(replace(RAN, value=value))

    jsonschema.validate(result["structuredContent"], output_schema(tools.RUN_PYTHON))
    assert result["structuredContent"]["stdout"] == "out\n"
    assert content(result, "text")[0]["text"].startswith("out")


def test_an_image_is_shown_once() -> None:
    """As an image, and not again as text or data: it would be megabytes more."""
    result = results.of_execution(replace(RAN, value=VALUES[-1]))

    assert content(result, "image") == [{"type": "image", "data": PNG, "mimeType": "image/png"}]
    assert PNG not in str(result["structuredContent"]) + str(content(result, "text"))


@pytest.mark.parametrize(
    "json",
    [None, [], {}, {"format": "png"}, {"format": "svg", "base64_data": PNG}, {"format": "png", "base64_data": "<x>"}],
)
def test_what_only_claims_to_be_an_image_is_data(json: Any) -> None:
    """The guest says that it is one; it is believed where it is base64 of a kind that clients show."""
    result = results.of_execution(replace(RAN, value=Value(ValueKind.IMAGE, json)))

    assert content(result, "image") == []
    assert result["structuredContent"]["executionResult"] == json


def test_an_image_that_is_too_large_is_told_of() -> None:
    data = base64.b64encode(bytes(results.MAX_INLINE + 1)).decode()
    image = Value(ValueKind.IMAGE, {"type": "image", "format": "png", "base64_data": data})
    result = results.of_execution(replace(RAN, value=image))

    assert content(result, "image") == []
    assert "too large" in content(result, "text")[1]["text"]
    assert len(str(result)) < 10_000


def test_code_that_failed_is_a_result_to_read() -> None:
    """Not `isError`: clients that raise on it would keep the traceback from the model."""
    failed = replace(
        RAN, status=Status.FAILED, outcome=Outcome.ERROR, stdout="", stderr="Traceback …\nZeroDivisionError"
    )
    result = results.of_execution(failed)

    assert not result["isError"]
    assert "ZeroDivisionError" in content(result, "text")[0]["text"]
    assert "Failed: error" in content(result, "text")[0]["text"]


@pytest.mark.parametrize("code", sorted(errors.BY_CODE))
def test_an_error_of_ours_has_its_code_and_words(code: str) -> None:
    result = results.of_error(errors.BY_CODE[code]("What happened."))

    assert result["isError"]
    assert result["content"][0]["text"].startswith(f"{code}: What happened.")


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("a.txt", "Grüße\n".encode(), "text"),
        ("a.bin", b"plain after all", "text"),
        ("a.txt", b"\xff\xfe", "resource"),
        ("a.txt", b"nul\x00", "resource"),
        ("a b%?.pdf", b"%PDF\x80", "resource"),
        ("a.png", base64.b64decode(PNG), "image"),
        ("empty", b"", "text"),
    ],
)
def test_a_file_comes_back_as_what_it_is(name: str, data: bytes, kind: str) -> None:
    info = FileInfo(name, "sub", False, len(data), 0.0)
    result = results.of_download("alice", info, 0, data)
    shown = content(result, kind)[-1]

    jsonschema.validate(result["structuredContent"], output_schema(tools.DOWNLOAD))
    assert result["structuredContent"]["path"] == f"sub/{name}"
    if kind == "text":
        assert shown["text"].encode() == data
    elif kind == "image":
        assert base64.b64decode(shown["data"]) == data
    else:
        assert base64.b64decode(shown["resource"]["blob"]) == data
        assert " " not in shown["resource"]["uri"]


def test_part_of_an_image_is_no_image() -> None:
    data = base64.b64decode(PNG)
    result = results.of_download("alice", FileInfo("a.png", "", False, 1000, 0.0), 0, data)

    assert content(result, "image") == []


def test_a_long_listing_is_cut_and_says_so() -> None:
    files = [FileInfo(f"{number}.txt", "", False, 1, 0.0) for number in range(7)]
    result = results.of_files("alice", files, 5)

    jsonschema.validate(result["structuredContent"], output_schema(tools.LIST_FILES))
    assert len(result["structuredContent"]["files"]) == 5
    assert result["structuredContent"]["isTruncated"]
    assert "2 more" in content(result, "text")[0]["text"]


# ---- keys and late imports --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pool", "key"),
    [("one", "second"), ("one", ""), ("one", "firstx"), ("one", "é\N{SNOWMAN}"), ("none", ""), ("none", "first")],
)
def test_a_key_is_good_for_its_own_pool(pool: str, key: str, tmp_path: Path) -> None:
    config = Config(tmp_path, tmp_path)
    records = [record_of(config, "One", "first"), record_of(config, "two", "second")]
    keys = Keys(pools_of(config, HostLink(tmp_path / "nobody.sock"), store_in(tmp_path), records))
    assert keys.check(_mcp_of(config, "ONE"), "first") == "one"

    with pytest.raises(errors.Unauthorized):
        keys.check(_mcp_of(config, pool), key)


def _mcp_of(config: Config, pool: str) -> Target:
    target = target_of(
        f"/subscriptions/{config.subscription}/resourceGroups/{config.resource_group}/sessionPools/{pool}/mcp".encode()
    )
    assert target
    return target


@pytest.mark.parametrize(
    ("rest", "pool"), [(b"/mcp", "p"), (b"//MCP/", "p"), (b"/mcp/x", None), (b"/files", None), (b"", None)]
)
def test_a_key_opens_the_mcp_endpoint_only(rest: bytes, pool: str | None) -> None:
    target = target_of(b"/subscriptions/s/resourceGroups/g/sessionPools/p" + rest)
    assert (target and target.pool) == pool


IMPORTER = """
import os, sys
from pathlib import Path
from carrel.server.latecomers import Latecomers
import known  # a package whose other module comes late
closed = Path(sys.argv[1])
begun = closed / "lib/known/__init__.py"
latecomers = Latecomers(65_534)
assert latecomers.reaches("known")
begun.chmod(0o600)
assert not latecomers.reaches("known")
assert Latecomers(None).reaches("known")
begun.chmod(0o644)
if os.geteuid() == 0:
    os.setgroups([]); os.setresgid(65_534, 65_534, 65_534); os.setresuid(65_534, 65_534, 65_534)
else:
    closed.chmod(0)
sys.path_importer_cache.clear()
try:
    import later
except ImportError:
    latecomers.admit()
    latecomers.admit()
    import later
    import known.more
    print(later.ANSWER, known.more.ANSWER)
if os.geteuid() != 65_534:
    closed.chmod(0o700)
"""


def test_modules_behind_a_closed_folder_can_still_be_imported_late(tmp_path: Path) -> None:
    """A gateway that was root and whose files lie below /root."""
    closed = tmp_path / "closed"
    (closed / "lib/known").mkdir(parents=True)
    (closed / "lib/known/__init__.py").write_text("")
    (closed / "lib/known/more.py").write_text("ANSWER = 43")
    (closed / "lib/later.py").write_text("ANSWER = 42")
    for folder in (closed / "lib", closed / "lib/known"):
        folder.chmod(0o755)
    for file in closed.rglob("*.py"):
        file.chmod(0o644)
    closed.chmod(0o700)
    code = f"import sys; sys.path.insert(0, {str(closed / 'lib')!r})\n{IMPORTER}"
    done = subprocess.run([sys.executable, "-P", "-c", code, str(closed)], capture_output=True, text=True, check=False)

    assert (done.stdout, done.returncode) == ("42 43\n", 0), done.stderr


def test_half_a_surrogate_pair_in_a_result_is_replaced() -> None:
    """The package cannot write it: the caller got a stream without an answer."""
    pair, half = {"a": "\U0001f600", "n": [1.5, None]}, {"a\udc00": ["\ud800 x"]}

    assert results.result(pair, [results.text("\U0001f600")])["structuredContent"] == pair
    assert results.result(half, [results.text("\ud800")]) == {
        "content": [{"type": "text", "text": "?"}],
        "structuredContent": {"a?": ["? x"]},
        "isError": False,
    }

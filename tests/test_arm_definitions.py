"""What the body of a PUT or PATCH comes to, and what a pool looks like as a resource."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.arm_errors import Faults
from carrel.models import Level, PoolSpec
from carrel.pool_settings import FIELDS, parse_pool, table_of
from carrel.store import PoolId, PoolRecord, Stamp
from carrel.wire.arm_pool_resource import pool_resource
from carrel.wire.arm_pools import Definition, decode_patch, decode_put
from carrel.wire.arm_versions import SESSION_POOLS

V = "2025-07-01"
WITH_MCP = "2025-02-02-preview"
LIFE = "dynamicPoolConfiguration"


def put(properties: Any, current: PoolRecord | None = None, version: str = V, **fields: Any) -> Definition:
    return decode_put({"location": "local", "properties": properties, **fields}, version, "local", current)


def patch(properties: Any, current: PoolRecord, **fields: Any) -> Definition:
    return decode_patch({"properties": properties, **fields}, "local", current)


def record(definition: Definition, **fields: Any) -> PoolRecord:
    stamp = Stamp("me", "User", 1.0)
    return PoolRecord(
        id=PoolId("s", "g", "p-1"),
        location=definition.location,
        tags=definition.tags,
        properties=definition.properties,
        secrets=definition.secrets,
        created=stamp,
        modified=stamp,
        etag="e",
        **fields,
    )


def faults(work: Any) -> dict[str, str]:
    """Codes by target."""
    with pytest.raises(Faults) as caught:
        work()
    assert caught.value.details
    return {str(each.target): each.code for each in caught.value.details}


def shown(pool: PoolRecord, version: str = V) -> dict[str, Any]:
    spec = parse_pool(pool.id.name, table_of(pool.properties), None, None)
    return pool_resource(pool, spec, Level.NAMESPACE, "https://h:1", version)


# ---- PUT ---------------------------------------------------------------------------------------------------------------------


def test_what_the_az_extension_sends_with_its_nulls_is_a_pool() -> None:
    body = {
        "poolManagementType": "Dynamic",
        "environmentId": None,
        "containerType": "NodeLTS",
        "customContainerTemplate": None,
        "secrets": None,
        LIFE: {
            "lifecycleConfiguration": {
                "lifecycleType": "Timed",
                "maxAlivePeriodInSeconds": None,
                "cooldownPeriodInSeconds": 300,
            }
        },
        "sessionNetworkConfiguration": {"status": "EgressEnabled"},
        "scaleConfiguration": {"maxConcurrentSessions": 5, "readySessionInstances": 5},
    }
    pool = record(put(body))

    assert shown(pool)["properties"][LIFE] == {
        "lifecycleConfiguration": {"lifecycleType": "Timed", "cooldownPeriodInSeconds": 300}
    }
    assert shown(pool)["properties"]["scaleConfiguration"] == {"maxConcurrentSessions": 5, "readySessionInstances": 5}
    assert pool.properties["containerType"] == "NodeLTS"


def test_names_and_words_match_in_any_case_and_come_out_in_azures() -> None:
    body = {
        "ContainerType": "pythonlts",
        "DYNAMICPOOLCONFIGURATION": {
            "LifecycleConfiguration": {"lifecycletype": "timed", "coolDownPeriodInSeconds": 600}
        },
        "mcPServerSettings": {"isMCpServerEnabled": True},
        "sessionNetworkConfiguration": {"Status": "egressEnabled"},
        "Carrel": {"MEMORY": "2GiB", "maximumasynchronousexecutioninseconds": 300, "Packages": {"SIZE": "64MiB"}},
    }

    assert put(body).properties == {
        "containerType": "PythonLTS",
        "poolManagementType": "Dynamic",
        LIFE: {"lifecycleConfiguration": {"lifecycleType": "Timed", "cooldownPeriodInSeconds": 600}},
        "mcpServerSettings": {"isMcpServerEnabled": True},
        "sessionNetworkConfiguration": {"status": "EgressEnabled"},
        "carrel": {"memory": "2GiB", "maximumAsynchronousExecutionInSeconds": 300, "packages": {"size": "64MiB"}},
    }


def test_both_spellings_of_the_cooldown_are_one() -> None:
    older = put({LIFE: {"executionType": "Timed", "cooldownPeriodInSeconds": 400}})
    newer = put({LIFE: {"lifecycleConfiguration": {"lifecycleType": "Timed", "cooldownPeriodInSeconds": 400}}})

    assert older.properties == newer.properties
    assert shown(record(older), "2024-10-02-preview")["properties"][LIFE] == {
        "executionType": "Timed",
        "cooldownPeriodInSeconds": 400,
    }
    both = {"cooldownPeriodInSeconds": 400, "lifecycleConfiguration": {"cooldownPeriodInSeconds": 401}}
    assert faults(lambda: put({LIFE: both})) == {f"properties.{LIFE}.cooldownPeriodInSeconds": "InvalidPropertyValue"}


def test_what_the_server_says_of_a_pool_can_be_sent_back() -> None:
    """Clients get, change and put: what is read-only is dropped, whatever it is."""
    pool = record(put({"carrel": {"memory": "2GiB"}, "secrets": [{"name": "a", "value": "b"}]}), error="no place")
    for version in SESSION_POOLS:
        told = json.loads(json.dumps(shown(pool, version)))
        assert decode_put(told, version, "local", pool).equals(pool)


COUNTS: tuple[Any, ...] = (0, -1, 10_001, 2**70, 1.5, "5", True, [], {})
SECONDS: tuple[Any, ...] = (299, 3601, "600", 0)
WRONG: list[tuple[Any, dict[str, str]]] = [
    ([], {"properties": "InvalidPropertyValue"}),
    ({"containerType": "CustomContainer"}, {"properties.containerType": "SessionPoolContainerTypeNotSupported"}),
    ({"containerType": "gpubase"}, {"properties.containerType": "SessionPoolContainerTypeNotSupported"}),
    ({"containerType": "CsharpLTS"}, {"properties.containerType": "SessionPoolContainerTypeNotSupported"}),
    ({"containerType": "RubyLTS"}, {"properties.containerType": "InvalidPropertyValue"}),
    ({"containerType": ["PythonLTS"]}, {"properties.containerType": "InvalidPropertyValue"}),
    ({"poolManagementType": "Manual"}, {"properties.poolManagementType": "SessionPoolInvalidPoolManagementType"}),
    ({"poolManagementType": 1}, {"properties.poolManagementType": "SessionPoolInvalidPoolManagementType"}),
    ({"environmentId": "env"}, {"properties.environmentId": "InvalidPropertyValue"}),
    ({"scaleConfiguration": 5}, {"properties.scaleConfiguration": "InvalidPropertyValue"}),
    *(
        (
            {"scaleConfiguration": {"maxConcurrentSessions": value}},
            {"properties.scaleConfiguration.maxConcurrentSessions": "InvalidPropertyValue"},
        )
        for value in COUNTS
    ),
    (
        {"scaleConfiguration": {"readySessionInstances": -1}},
        {"properties.scaleConfiguration.readySessionInstances": "SessionPoolInvalidReadySessionInstances"},
    ),
    *(
        (
            {LIFE: {"lifecycleConfiguration": {"cooldownPeriodInSeconds": value}}},
            {f"properties.{LIFE}.lifecycleConfiguration.cooldownPeriodInSeconds": "InvalidPropertyValue"},
        )
        for value in SECONDS
    ),
    (
        {LIFE: {"lifecycleConfiguration": {"maxAlivePeriodInSeconds": 6000}}},
        {f"properties.{LIFE}.lifecycleConfiguration.maxAlivePeriodInSeconds": "InvalidPropertyValue"},
    ),
    (
        {LIFE: {"lifecycleConfiguration": {"lifecycleType": "OnContainerExit"}}},
        {f"properties.{LIFE}.lifecycleConfiguration.lifecycleType": "InvalidPropertyValue"},
    ),
    (
        {"sessionNetworkConfiguration": {"status": "Enabled"}},
        {"properties.sessionNetworkConfiguration.status": "InvalidPropertyValue"},
    ),
    ({"customContainerTemplate": {"containers": []}}, {"properties.customContainerTemplate": "InvalidPropertyValue"}),
    (
        {"managedIdentitySettings": [{"identity": "system"}]},
        {"properties.managedIdentitySettings": "InvalidPropertyValue"},
    ),
    (
        {"mcpServerSettings": {"isMcpServerEnabled": "true"}},
        {"properties.mcpServerSettings.isMcpServerEnabled": "InvalidPropertyValue"},
    ),
    ({"secrets": {"a": "b"}}, {"properties.secrets": "InvalidPropertyValue"}),
    ({"secrets": [{"name": "A b", "value": "x"}]}, {"properties.secrets[0].name": "InvalidPropertyValue"}),
    ({"secrets": [{"name": "a", "value": 1}]}, {"properties.secrets[0].value": "InvalidPropertyValue"}),
    ({"secrets": [{"name": "a", "value": "\ud800"}]}, {"properties.secrets[0].value": "InvalidPropertyValue"}),
    ({"secrets": [{"name": "a"}]}, {"properties.secrets": "InvalidPropertyValue"}),
    ({"secrets": [{"name": "a", "value": "x", "z": 1}]}, {"properties.secrets[0].z": "UnknownProperty"}),
    ({"carrel": {"memory": "1kB"}}, {"properties.carrel.memory": "InvalidPropertyValue"}),
    ({"carrel": {"cpu": float("nan")}}, {"properties.carrel.cpu": "InvalidPropertyValue"}),
    ({"carrel": {"packages": {"index": "http://["}}}, {"properties.carrel.packages.index": "InvalidPropertyValue"}),
    ({"carrel": {"isolation": {}}}, {"properties.carrel.isolation": "InvalidPropertyValue"}),
    ({"carrel": {"memroy": "1GiB"}}, {"properties.carrel.memroy": "UnknownProperty"}),
    ({"maxConcurrentSessions": 5}, {"properties.maxConcurrentSessions": "UnknownProperty"}),
]


@pytest.mark.parametrize(("properties", "wrong"), WRONG, ids=lambda each: str(each)[:60])
def test_a_property_that_cannot_be_is_named(properties: Any, wrong: dict[str, str]) -> None:
    assert faults(lambda: put(properties)) == wrong


def test_all_that_is_wrong_is_told_at_once() -> None:
    body = {
        "containerType": "x",
        "scaleConfiguration": {"maxConcurrentSessions": 0, "other": 1},
        "carrel": {"pids": 1},
    }
    found = faults(lambda: put(body, location="nowhere", tags={"a": 1}))

    assert found == {
        "location": "LocationNotAvailableForResourceType",
        "tags.a": "InvalidPropertyValue",
        "properties.containerType": "InvalidPropertyValue",
        "properties.scaleConfiguration.maxConcurrentSessions": "InvalidPropertyValue",
        "properties.scaleConfiguration.other": "UnknownProperty",
        "properties.carrel.pids": "InvalidPropertyValue",
    }


def test_a_typing_error_is_answered_with_the_nearest_name() -> None:
    with pytest.raises(Faults, match="Did you mean 'memory'"):
        put({"carrel": {"memroy": "1GiB"}})


def test_no_message_repeats_a_secret() -> None:
    with pytest.raises(Faults) as caught:
        put({"secrets": [{"name": "a", "value": ["hunter2"]}, {"name": "b", "value": "x" * 70_000}]})
    assert "hunter2" not in str(caught.value.message)
    assert "hunter2" not in repr(put({"secrets": [{"name": "a", "value": "hunter2"}]}))


# ---- what only operators may say ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ours",
    [
        {"secrets": {"shadow": {"file": "/etc/shadow"}}},
        {"packages": {"wheels": "/root"}},
        {"webhook": {"url": "http://169.254.169.254/", "secret": {"file": "/etc/shadow"}}},
        {"Webhook": {"URL": "http://169.254.169.254/"}},
    ],
)
def test_whoever_may_write_pools_cannot_have_the_server_read_files_or_call_addresses(ours: dict[str, Any]) -> None:
    assert set(faults(lambda: put({"carrel": ours})).values()) == {"PropertyChangeNotAllowed"}


def test_what_the_configuration_says_stays_and_is_not_shown() -> None:
    """A PUT that replaces everything else does not take it away."""
    ours = {
        "webhook": {"url": "http://h/KEY", "secret": {"file": "/s"}},
        "secrets": {"a": {"file": "/f"}},
        "packages": {"wheels": "/w"},
    }
    pool = replace(record(put({})), properties={"containerType": "PythonLTS", "carrel": {**ours, "cpu": 2}})
    after = put({"carrel": {"cpu": 1}}, pool)

    assert after.properties["carrel"] == {**ours, "cpu": 1}
    assert patch({"carrel": None}, pool).properties["carrel"] == ours
    assert shown(pool)["properties"]["carrel"] == {"cpu": 2, "level": "namespace", "error": None}


# ---- a pool that is there ----------------------------------------------------------------------------------------------------


def test_what_is_decided_at_the_beginning_cannot_change() -> None:
    pool = record(put({"containerType": "Shell"}))

    assert put({}, pool).properties["containerType"] == "Shell"  # silence is no change
    assert faults(lambda: put({"containerType": "NodeLTS"}, pool)) == {
        "properties.containerType": "PropertyChangeNotAllowed"
    }
    assert faults(lambda: put({}, pool, location="eastus")) == {"location": "InvalidResourceLocation"}
    assert faults(lambda: patch({"containerType": "NodeLTS"}, pool)) == {
        "properties.containerType": "PropertyChangeNotAllowed"
    }


def test_a_put_leaves_alone_what_its_version_or_azure_does_not_know() -> None:
    """The SDK of 2026-07-01 has no mcpServerSettings, and no client of Azure's has `carrel`: neither may be lost by their silence."""
    pool = record(
        put({"mcpServerSettings": {"isMcpServerEnabled": True}, "carrel": {"memory": "2GiB"}}, version=WITH_MCP)
    )

    assert put({}, pool, "2026-07-01").properties == pool.properties
    assert put({}, pool, WITH_MCP).properties["mcpServerSettings"] == {"isMcpServerEnabled": False}  # silence is a word
    assert "carrel" not in put({"carrel": {}}, pool).properties


def test_a_patch_is_a_merge_patch() -> None:
    pool = record(
        put(
            {
                "scaleConfiguration": {"maxConcurrentSessions": 20, "readySessionInstances": 3},
                "sessionNetworkConfiguration": {"status": "EgressEnabled"},
                "carrel": {"memory": "2GiB", "egress": {"allow": ["a.example"]}},
                "secrets": [{"name": "a", "value": "1"}, {"name": "b", "value": "2"}],
            },
            tags={"one": "1", "two": "2"},
        )
    )
    after = patch(
        {
            "scaleConfiguration": {"readySessionInstances": None},
            "sessionNetworkConfiguration": None,
            "carrel": {"egress": {"allow": ["b.example"]}},
            "secrets": [{"name": "b"}],
            "containerType": None,
        },
        pool,
        tags={"ONE": None, "three": "3"},
    )

    assert after.properties == {
        "containerType": "PythonLTS",
        "poolManagementType": "Dynamic",
        "scaleConfiguration": {"maxConcurrentSessions": 20},
        "mcpServerSettings": {"isMcpServerEnabled": False},
        "carrel": {"memory": "2GiB", "egress": {"allow": ["b.example"]}},
    }
    assert after.tags == {"two": "2", "three": "3"}
    assert after.secrets == {"b": "2"}
    assert patch({}, pool).equals(pool)


def test_a_short_cooldown_of_an_operators_file_can_be_sent_back_but_not_chosen() -> None:
    life = {"lifecycleConfiguration": {"cooldownPeriodInSeconds": 10}}
    pool = replace(record(put({})), properties={LIFE: life})

    assert put({LIFE: life}, pool).properties[LIFE] == life
    assert faults(lambda: put({LIFE: {"cooldownPeriodInSeconds": 11}}, pool))


# ---- the table that the host's definition is made from -----------------------------------------------------------------------


@pytest.mark.parametrize(("scale", "ready"), [((3, 5), 3), ((1, None), 1), ((20, None), 2), ((20, 0), 0)])
def test_more_ready_than_there_may_be_are_as_many_as_there_may_be(scale: tuple[int, int | None], ready: int) -> None:
    """`az` sends 5 ready of any maximum, and Azure takes it."""
    maximum, wanted = scale
    given = {"maxConcurrentSessions": maximum} | ({} if wanted is None else {"readySessionInstances": wanted})
    pool = record(put({"scaleConfiguration": given}))

    assert parse_pool("p-1", table_of(pool.properties), None, None).ready == ready
    assert pool.properties["scaleConfiguration"] == given


def test_every_field_of_the_configuration_is_a_property() -> None:
    """One grammar for both: what the file can say, ARM can, or says that only the file can."""
    for path in FIELDS:
        body: Any = None
        for name in reversed(path.split(".")):
            body = {name: body}
        put(body)  # null is as good as absent, and unknown names are refused also then


def test_an_environment_is_kept_and_means_nothing() -> None:
    """Templates of code interpreter pools name one now and then."""
    id = "/subscriptions/s/resourceGroups/g/providers/Microsoft.App/managedEnvironments/e"
    pool = record(put({"environmentId": id}))

    assert shown(pool)["properties"]["environmentId"] == id
    assert parse_pool("p-1", table_of(pool.properties), None, None) == PoolSpec("p-1", has_mcp=False)


def optional(strategies: dict[str, Any]) -> Any:
    """Objects with any of these members, some of them null."""
    return st.fixed_dictionaries({}, optional={name: st.none() | each for name, each in strategies.items()})


MEMORY = st.sampled_from(["2GiB", 4 * 2**30, "1536 MiB"])
GOOD = optional(
    {
        "containerType": st.sampled_from(["PythonLTS", "nodelts", "SHELL"]),
        "poolManagementType": st.just("dynamic"),
        "scaleConfiguration": optional(
            {"maxConcurrentSessions": st.integers(1, 10_000), "readySessionInstances": st.integers(0, 10)}
        ),
        LIFE: optional({"cooldownPeriodInSeconds": st.integers(300, 3600), "executionType": st.just("timed")})
        | optional({"lifecycleConfiguration": optional({"coolDownPeriodInSeconds": st.integers(300, 3600)})}),
        "sessionNetworkConfiguration": optional({"status": st.sampled_from(["egressenabled", "EgressDisabled"])}),
        "mcpServerSettings": optional(
            {"isMCPServerEnabled": st.booleans(), "isMcpServerApiKeyDisabled": st.booleans()}
        ),
        "secrets": st.lists(st.fixed_dictionaries({"name": st.just("a"), "value": st.text("xyz")}), max_size=1),
        "carrel": optional({"memory": MEMORY, "cpu": st.sampled_from([1, 0.5]), "execution": st.integers(1, 220)}),
    }
)


@given(GOOD, GOOD, st.sampled_from(SESSION_POOLS), st.sampled_from(SESSION_POOLS))
def test_what_is_shown_at_any_version_is_the_pool(first: Any, second: Any, made_at: str, shown_at: str) -> None:
    """Whatever was put, at whatever version: what is shown can be put back and changes nothing, and a merge of nothing neither."""
    pool = record(put(first, version=made_at))
    told = json.loads(json.dumps(shown(pool, shown_at)))

    assert decode_put(told, shown_at, "local", pool).equals(pool)
    assert patch({}, pool).equals(pool)
    if "containerType" not in second:
        changed = record(patch(second, pool))
        assert patch(second, changed).equals(changed)  # a merge patch may be repeated
        assert put(shown(changed, WITH_MCP)["properties"], changed, WITH_MCP).equals(changed)


NAMES = ["carrel", "secrets", "scaleConfiguration", "maxConcurrentSessions", LIFE, "type", "x"]
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["carrel", "secrets", "x", LIFE, "tags"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(JSON, JSON, JSON)
def test_no_body_breaks_the_reading(properties: Any, tags: Any, identity: Any) -> None:
    """Anything but faults would be a 500."""
    try:
        put(properties, tags=tags, identity=identity)
    except Faults as error:
        assert len(error.message) < 2000

"""The configuration's pools in the store: written when their tables change, and left to whoever changes or deletes them otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from carrel import seeds
from carrel.config import Config, ConfigError, load
from carrel.models import Level
from carrel.pool_records import spec_of
from carrel.store import AssignmentRecord, PoolId, PoolRecord, SeedRecord, Stamp, Store
from kept_pools import store_in

NOW = 1_700_000_000.0
TABLE = {"scaleConfiguration": {"maxConcurrentSessions": 7}}


@pytest.fixture
def sown_store(tmp_path: Path) -> Store:
    return store_in(tmp_path)


def sow(
    store: Store, tables: Mapping[str, Mapping[str, Any]] | None = None, key: str | None = None, **more: Any
) -> seeds.Sown:
    config = config_of(tables, **more)
    with store.transaction() as books:
        return seeds.sow(books, config, lambda name: key, NOW)


def config_of(tables: Mapping[str, Mapping[str, Any]] | None = None, **more: Any) -> Config:
    return replace(Config(Path("/s"), Path("/i")), tables=tables or {}, **more)


def change(store: Store, name: str, **fields: Any) -> None:
    """As somebody does over ARM."""
    with store.transaction() as books:
        found = books.pools.get(id_of(name))
        assert found is not None
        books.pools.put(replace(found, etag="another", **fields))


def delete(store: Store, name: str) -> None:
    with store.transaction() as books:
        assert books.pools.delete(id_of(name))


def id_of(name: str) -> PoolId:
    return PoolId(config_of().subscription, config_of().resource_group, name)


def names(sown: seeds.Sown) -> list[str]:
    return [pool.id.name for pool in sown.pools]


def test_without_a_table_there_are_the_three_default_pools_and_their_group(sown_store: Store) -> None:
    sown = sow(sown_store)

    assert names(sown) == ["node", "python", "shell"]
    assert sown.is_as_written
    with sown_store.transaction() as books:
        assert books.groups.get(config_of().subscription, "DEFAULT") is not None
    assert all(spec_of(pool, config_of()).has_mcp for pool in sown.pools), "on, for pools of the configuration"


def test_a_second_start_changes_nothing(sown_store: Store) -> None:
    with sown_store.transaction() as books:
        books.seeds.put(SeedRecord("of another part", "x"))
    before = sow(sown_store, {"P": TABLE})

    assert sow(sown_store, {"P": TABLE}) == before


def test_a_deleted_default_pool_stays_deleted(sown_store: Store) -> None:
    sow(sown_store)
    delete(sown_store, "shell")

    assert names(sow(sown_store)) == ["node", "python"]


def test_a_change_over_arm_outlives_starts_until_the_table_changes(sown_store: Store) -> None:
    """And then what is not the table's to say stays: tags, secrets, the key, who made it and when."""
    first = sow(sown_store, {"p": TABLE}).pools[0]
    changed = {"scaleConfiguration": {"maxConcurrentSessions": 9}}
    change(sown_store, "p", properties=changed, tags={"a": "b"}, secrets={"s": "v"}, state="Succeeded")

    sown = sow(sown_store, {"p": TABLE})
    assert sown.pools[0].properties == changed
    assert not sown.is_as_written

    again = sow(sown_store, {"p": {**TABLE, "containerType": "Shell"}}).pools[0]
    assert again.properties["containerType"] == "Shell"
    assert again.properties["scaleConfiguration"] == TABLE["scaleConfiguration"]
    assert (again.tags, again.secrets, again.mcp_key, again.created) == (
        {"a": "b"},
        {"s": "v"},
        first.mcp_key,
        first.created,
    )
    assert again.state == "InProgress"


def test_a_pool_goes_with_its_table_unless_somebody_has_made_it_his(sown_store: Store) -> None:
    sow(sown_store, {"kept": TABLE, "changed": TABLE, "gone": TABLE})
    change(sown_store, "changed", tags={"mine": "yes"})

    assert names(sow(sown_store, {"kept": TABLE})) == ["changed", "kept"]
    assert names(sow(sown_store, {"kept": TABLE, "gone": TABLE})) == ["changed", "gone", "kept"], (
        "and comes back with it"
    )


def test_a_pool_that_outlives_its_table_loses_what_only_a_table_may_say(sown_store: Store) -> None:
    """It would not be served any more otherwise, and nobody could take that out of it over ARM."""
    places = {
        "memory": "2GiB",
        "secrets": {"s": {"environment": "S"}},
        "webhook": {"url": "https://example.org", "secret": {"environment": "W"}},
        "packages": {"wheels": "/srv/wheels", "size": "64MiB"},
    }
    sow(sown_store, {"p": {"carrel": places}, "other": TABLE})
    change(sown_store, "p", tags={"mine": "yes"})

    left = next(pool for pool in sow(sown_store, {"other": TABLE}).pools if pool.id.name == "p")

    assert left.properties["carrel"] == {"memory": "2GiB", "packages": {"size": "64MiB"}}
    assert spec_of(left, config_of()).webhook == ""


def test_a_pool_that_comes_back_with_its_table_is_another(sown_store: Store) -> None:
    """Who had a role at the one before has none at it, be that taken out of the file or deleted half-way; keys and secrets are new."""

    def give(name: str) -> None:
        with sown_store.transaction() as books:
            scope, stamp = id_of(name).resource_id, Stamp("test", "User", NOW)
            books.assignments.put(AssignmentRecord(f"at-{name}", scope, "role", "who", "User", stamp))

    sow(sown_store, {"taken": TABLE, "going": TABLE})
    give("taken")
    give("going")
    change(sown_store, "going", state="Deleting", secrets={"a": "b"}, mcp_key="old")
    sow(sown_store, {"going": TABLE})
    with sown_store.transaction() as books:
        assert [each.id for each in books.assignments.list()] == ["at-going"], "it is there until it is gone"

    again = sow(sown_store, {"taken": TABLE, "going": {"carrel": {"pids": 100}}})

    with sown_store.transaction() as books:
        assert books.assignments.list() == []
        assert (going := books.pools.get(id_of("going"))) is not None
    assert (going.state, going.secrets, going.mcp_key == "old") == ("InProgress", {}, False)
    assert names(again) == ["going", "taken"]


def test_a_key_that_lies_in_the_folder_is_taken_over_at_any_start(sown_store: Store) -> None:
    made = sow(sown_store, {"p": TABLE}).pools[0].mcp_key
    assert len(made) == 48

    assert sow(sown_store, {"p": TABLE}, key="of-the-operator").pools[0].mcp_key == "of-the-operator"
    assert sow(sown_store, {"p": TABLE}).pools[0].mcp_key == "of-the-operator"


def test_what_the_table_may_name_no_other_record_may(tmp_path: Path) -> None:
    """Places on the server, and a level below its minimum: the same words in a pool of another name are refused."""
    file = tmp_path / "c.toml"
    file.write_text(
        """
        [pools.Mine]
        carrel = {isolation = "process", packages.wheels = "/srv/wheels", secrets.s = {environment = "S"}}
        """
    )
    config = load({"config": str(file)}, {})
    with store_in(tmp_path).transaction() as books:
        mine: PoolRecord = seeds.sow(books, config, lambda name: None, NOW).pools[0]

    spec = spec_of(mine, config)

    assert spec == config.pools[0]
    assert (spec.name, spec.asked, spec.minimum, spec.packages_wheels) == (
        "mine",
        Level.PROCESS,
        Level.PROCESS,
        "/srv/wheels",
    )
    for path, value in (
        ("isolation", "process"),
        ("packages", {"wheels": "/srv/wheels"}),
        ("secrets", {"s": {"environment": "S"}}),
    ):
        other = replace(mine, id=replace(mine.id, name="other"), properties={"carrel": {path: value}})
        with pytest.raises(ConfigError):
            spec_of(other, config)
    elsewhere = replace(mine, id=replace(mine.id, resource_group="elsewhere"))
    with pytest.raises(ConfigError):
        spec_of(elsewhere, config)


def test_a_minimum_of_the_server_holds_for_every_record() -> None:
    config = config_of(minimum=Level.GVISOR)
    record = PoolRecord(id_of("p"), "local", {}, {}, created=_stamp(), modified=_stamp(), etag="e")

    assert spec_of(record, config).minimum is Level.GVISOR
    for carrel in (
        {"isolation": "namespace"},
        {"minimum": "namespace"},
        {"isolation": "process", "minimum": "process"},
    ):
        with pytest.raises(ConfigError):
            spec_of(replace(record, properties={"carrel": carrel}), config)


@pytest.mark.parametrize("tables", ["[pools.a--b]", "[pools.Python]\n[pools.python]"])
def test_a_name_that_could_be_two_pools_is_refused(tables: str, tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text(tables)
    with pytest.raises(ConfigError, match="pools"):
        load({"config": str(file)}, {})


def _stamp() -> Any:
    return Stamp("x", "User", NOW)

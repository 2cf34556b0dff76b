"""Settings come from flags, environment, file and defaults, in this order, and a bad one is refused in words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from carrel import store_address
from carrel.backends.select import candidates
from carrel.config import SETTINGS, Config, ConfigError, load
from carrel.models import MIB, ContainerType, Level, PoolSpec


def write(folder: Path, text: str) -> str:
    file = folder / "carrel.toml"
    file.write_text(text)
    return str(file)


def load_file(folder: Path, text: str, **flags: Any) -> Config:
    return load({"config": write(folder, text), **flags}, {})


def test_defaults_are_the_documented_ones() -> None:
    """Nothing set: loopback only, known ports, a pool of each container type at level namespace."""
    config = load({}, {})

    assert config.host == ("127.0.0.1", "::1")
    assert (config.port, config.tls_port) == (8080, 8443)
    assert config.state == Path.home() / ".local/share/carrel"
    assert [(pool.name, pool.container_type, pool.image) for pool in config.pools] == [
        ("python", ContainerType.PYTHON, "python"),
        ("node", ContainerType.NODE, "node"),
        ("shell", ContainerType.SHELL, "shell"),
    ]
    assert config.pools[0] == PoolSpec("python", isolation=Level.NAMESPACE)


def test_flag_beats_environment_beats_file_beats_default(tmp_path: Path) -> None:
    """One name in all three places, the nearest to the caller wins."""
    file = write(tmp_path, "port = 1\ntls-port = 1\nlocation = 'file'")
    environment = {"CARREL_PORT": "2", "CARREL_TLS_PORT": "2", "CARREL_CONFIG": file}

    config = load({"port": "3"}, environment)

    assert (config.port, config.tls_port, config.location, config.resource_group) == (3, 2, "file", "default")


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_every_setting_can_be_set_in_all_three_places(setting: Any, tmp_path: Path) -> None:
    """No setting is a flag only."""
    samples = {
        "store": "postgresql://u@h/d", "extensions": "/srv/e",
        "state": "/srv/a", "images": "/srv/b", "host": "127.0.0.2", "port": "81", "tls-port": "82", "location": "here",
        "subscription": "11111111-2222-3333-4444-555555555555", "resource-group": "group", "isolation": "process",
        "tls-cert": "/srv/c", "tls-key": "/srv/k", "tls-name": "carrel.example,192.0.2.1", "insecure-http": "true",
        "embedded-authority": "false", "instance-metadata": "false", "key-days": "5",
        "minimum": "process", "log-level": "debug", "log-format": "json", "access-log": "true", "metrics": "open",
        "otlp-endpoint": "http://127.0.0.1:4318", "otlp-headers": "/srv/h", "trace-sample": "0.5",
        "egress-allow-private": "10.1.0.0/16,fd12::/64",
        "maximum-sandboxes": "5", "maximum-pools": "5", "rotate-forks": "5", "rotate-minutes": "5",
        "audit": "off", "audit-full": "block", "audit-days": "5", "audit-file-mb": "5", "audit-file-hours": "5",
        "audit-total-mb": "5",
    }  # fmt: skip
    value = samples[setting.name]
    name = setting.attribute

    expected = getattr(load({setting.name: value}, {}), name)

    assert expected != getattr(load({}, {}), name)
    assert getattr(load({}, {setting.variable: value}), name) == expected
    assert getattr(load_file(tmp_path, f"{setting.name} = {json.dumps(value)}"), name) == expected


def test_pools_use_the_names_of_azures_property_bag(tmp_path: Path) -> None:
    """A pool's table reads like the resource."""
    config = load_file(
        tmp_path,
        """
        [pools.analysis]
        containerType = "PythonLTS"
        poolManagementType = "Dynamic"
        scaleConfiguration = {maxConcurrentSessions = 50, readySessionInstances = 5}
        dynamicPoolConfiguration.lifecycleConfiguration = {lifecycleType = "Timed", cooldownPeriodInSeconds = 600}
        sessionNetworkConfiguration.status = "EgressDisabled"
        carrel = {image = "python-slim", memory = "2GiB", cpu = 1.5, pids = 64, disk = "1Gi", inodes = 1000, tmp = "32MiB", execution = 30}
        """,
    )

    assert config.pools == (
        PoolSpec(
            "analysis", image="python-slim", ready=5, maximum=50, cooldown=600, memory_bytes=2048 * MIB, cpu=1.5, pids=64,
            data_bytes=1024 * MIB, data_inodes=1000, tmp_bytes=32 * MIB, maximum_execution=30, maximum_asynchronous=30,
        ),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("port = 70000", ["port in", "70000", "0 to 65535"]),
        ("port = true", ["port in", "True"]),
        ("prot = 1", ["prot", "did you mean port"]),
        ("host = ['localhost']", ["host in", "localhost", "127.0.0.1"]),
        ("host = []", ["host in", "127.0.0.1"]),
        ("egress-allow-private = ['10.0.0.1/8']", ["egress-allow-private in", "10.0.0.1/8", "10.1.0.0/16"]),
        ("egress-allow-private = '0.0.0.0/0'", ["every address"]),
        ("isolation = 'docker'", ["docker", "namespace"]),
        ("minimum = 'auto'", ["minimum in", "auto", "restricted"]),
        ("[pools.a]\ncarrel.minimum = 'none'", ["carrel.minimum", "none", "restricted"]),
        ("[pools.a]\nsessionNetworkConfiguration.status = 'Open'", ["Open", "EgressDisabled, EgressEnabled"]),
        ("[pools.a]\ncarrel.egress.allow = ['pypi.org']", ["carrel.egress.allow", "EgressEnabled"]),
        (
            "[pools.a]\nsessionNetworkConfiguration.status = 'EgressEnabled'\ncarrel.egress.allow = ['exa mple']",
            ["carrel.egress.allow", "'exa mple' is not a rule: not a host name"],
        ),
        ("[pools.a]\ncontainerType = 'CustomContainer'", ["CustomContainer", "PythonLTS, NodeLTS, Shell only"]),
        ("[pools.a]\nscaleConfiguration = {maxConcurrentSessions = 1, readySessionInstances = 2}", ["at most", "which is 1"]),
        ("[pools.a]\nscaleConfiguration.maxConcurentSessions = 1", ["unknown", "did you mean scaleConfiguration.maxConcurrentSessions"]),
        ("[pools.a]\ncarrel.memory = '1 potato'", ["carrel.memory", "1 potato", "64MiB"]),
        ("[pools.a]\ncarrel = {memory = '256MiB'}", ["memory", "disk, tmp and packages", "576MiB"]),
        ("[pools.'a b']", ["a b", "letters, digits"]),
        ("pools = 3", ["[pools.NAME]"]),
        ("port = ", ["not TOML"]),
    ],
)  # fmt: skip
def test_a_bad_setting_names_itself_its_value_and_what_is_allowed(text: str, words: list[str], tmp_path: Path) -> None:
    """A person can mend it without looking anything up."""
    with pytest.raises(ConfigError) as caught:
        load_file(tmp_path, text)

    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize(("kind", "image"), [("PythonLTS", "python"), ("NodeLTS", "node"), ("Shell", "shell")])
def test_a_pool_has_the_image_of_its_container_type_unless_it_names_one(kind: str, image: str, tmp_path: Path) -> None:
    """Who asks for JavaScript gets Node without knowing of images."""
    config = load_file(
        tmp_path, f"[pools.a]\ncontainerType = '{kind}'\n[pools.b]\ncontainerType = '{kind}'\ncarrel.image = 'own'"
    )

    assert [(pool.container_type, pool.image) for pool in config.pools] == [(kind, image), (kind, "own")]


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ConfigError, match=r"/nowhere\.toml: No such file"):
        load({"config": "/nowhere.toml"}, {})


def test_process_is_used_only_when_asked_for_by_name(tmp_path: Path) -> None:
    """`auto` never falls below a boundary, whatever the minimum; a level that is named is its own permission, unless a minimum is set."""
    assert load({}, {}).minimum == Level.RESTRICTED
    for minimum in Level:
        assert Level.PROCESS not in candidates(load({"minimum": minimum}, {}).pools[0])
    named = load_file(tmp_path, "[pools.a]\ncarrel.isolation = 'process'\n[pools.b]")
    assert [candidates(pool) for pool in named.pools] == [[Level.PROCESS], [Level.NAMESPACE, Level.RESTRICTED]]


def test_a_pools_own_level_and_minimum_go_before_the_servers(tmp_path: Path) -> None:
    """Also where its own is "auto"."""
    config = load_file(
        tmp_path,
        """
        isolation = "process"
        minimum = "restricted"
        [pools.inherits]
        [pools.chooses]
        carrel.isolation = "auto"
        [pools.lowers]
        carrel.minimum = "process"
        """,
    )
    assert [(pool.asked, pool.minimum) for pool in config.pools] == [
        (Level.PROCESS, Level.RESTRICTED),
        (None, Level.RESTRICTED),
        (Level.PROCESS, Level.PROCESS),
    ]


def test_a_configuration_survives_the_way_to_another_process(tmp_path: Path) -> None:
    """What host and gateway get as JSON is what the supervisor has."""
    config = load_file(
        tmp_path,
        "isolation = 'process'\nhost = ['::1']\negress-allow-private = ['10.1.0.0/16']\n[pools.a]\n[pools.b]\ncarrel.cpu = 2",
    )

    assert Config.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_what_nobody_waits_for_may_take_longer_where_the_pool_says_so(tmp_path: Path) -> None:
    """Else it has the bound of any call."""
    table = "[pools.p]\ncarrel = {execution = 30, maximumAsynchronousExecutionInSeconds = 86400}"
    (pool,) = load_file(tmp_path, table).pools

    assert (pool.longest(is_asynchronous=False), pool.longest(is_asynchronous=True)) == (30, 86_400)
    with pytest.raises(ConfigError, match="1 to 86400"):
        load_file(tmp_path, "[pools.p]\ncarrel = {maximumAsynchronousExecutionInSeconds = 86401}")


# ---- the store's address ---------------------------------------------------------------------------------------------------------------

SECRET = "ge%2Fheim"


def test_the_store_is_in_the_state_folder_unless_it_is_said_elsewhere(tmp_path: Path) -> None:
    assert load({"state": str(tmp_path)}, {}).store_url == f"sqlite:///{tmp_path}/store/carrel.db"
    assert load({"store": "postgresql:///carrel?host=/run/pg"}, {}).store_url == "postgresql:///carrel?host=/run/pg"


@pytest.mark.parametrize("url", [f"postgresql://u:{SECRET}@h/d", f"postgres://h/d?password={SECRET}"])
def test_a_stores_password_comes_by_variable_or_file_and_is_never_shown(url: str, tmp_path: Path) -> None:
    (tmp_path / "carrel.toml").write_text(f'store = "{url}"\n')
    by_variable, by_file = load({}, {"CARREL_STORE": url}), load({"config": str(tmp_path / "carrel.toml")}, {})

    assert by_variable.store_url == by_file.store_url == url
    assert SECRET not in repr(by_variable) + json.dumps(by_variable.to_json()) + store_address.shown(url)
    with pytest.raises(ConfigError, match="CARREL_STORE") as caught:
        load({"store": url}, {})
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["", f"mysql://u:{SECRET}@h/d", f"postgresql://u:{SECRET}/x@h/d", f"postgresql://u:{SECRET}@h/d#x", "/x", 5]
)
def test_what_is_no_address_of_a_store_is_refused_without_being_shown(url: Any, tmp_path: Path) -> None:
    (tmp_path / "carrel.toml").write_text(f"store = {json.dumps(url)}\n")

    with pytest.raises(ConfigError, match="no address of a store") as caught:
        load({"config": str(tmp_path / "carrel.toml")}, {})

    assert SECRET not in str(caught.value) + store_address.shown(str(url))

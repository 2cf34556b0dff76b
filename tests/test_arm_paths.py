"""From a raw path to a route of the control plane, and what an api-version may be."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel import arm_errors
from carrel.server.arm.plane import is_arm
from carrel.server.arm.routes import ROUTES
from carrel.server.request import decode_target
from carrel.server.route_table import find
from carrel.wire.arm_paths import Pattern, split
from carrel.wire.arm_versions import RESOURCES, SESSION_POOLS, decode_version


def matched(pattern: str, path: bytes) -> dict[str, str] | None:
    segments = split(path)
    names = Pattern(pattern).match(segments, [each.lower() for each in segments])
    return None if names is None else dict(names)


@pytest.mark.parametrize(
    "path",
    [
        b"/subscriptions/s/resourceGroups/g",
        b"/subscriptions/s/resourcegroups/g/",
        b"//SUBSCRIPTIONS//s/ResourceGroups/g",
    ],
)
def test_fixed_words_match_in_any_case_and_slashes_too_many_are_a_slip(path: bytes) -> None:
    pattern = "/subscriptions/{subscription}/resourceGroups/{group}"

    assert matched(pattern, path) == {"subscription": "s", "group": "g"}


def test_names_are_decoded_once_and_after_the_split() -> None:
    assert matched("/subscriptions/{a}/{b}", b"/subscriptions/x%2Fy/%2541") == {"a": "x/y", "b": "%41"}


def test_a_pattern_of_any_scope_takes_the_rest_from_the_end() -> None:
    pattern = "{scope}/providers/Microsoft.Authorization/roleAssignments/{name}"

    assert matched(pattern, b"/subscriptions/S/providers/microsoft.authorization/roleassignments/x") == {
        "scope": "/subscriptions/S",
        "name": "x",
    }
    assert matched(pattern, b"/providers/Microsoft.Authorization/roleAssignments/x") == {"scope": "/", "name": "x"}


def test_a_pools_endpoint_is_not_the_control_planes() -> None:
    """The same words without `providers` are the data plane's, whatever the names are."""
    assert decode_target(b"/subscriptions/s/resourceGroups/g/sessionPools/p/files") is not None
    assert decode_target(b"/subscriptions/s/resourceGroups/g/providers/Microsoft.App/sessionPools/p") is None
    assert is_arm(b"//Subscriptions/s/resourceGroups/g/providers/Microsoft.App/sessionPools/p")
    assert not is_arm(b"/subscriptionsx")
    assert not is_arm(b"/v1.0/me")


def test_a_version_is_found_in_any_case() -> None:
    assert decode_version("2025-02-02-PREVIEW", SESSION_POOLS) == "2025-02-02-preview"


@pytest.mark.parametrize("version", ["2099-01-01", "x" * 5000, "2026-07-01 ", "\u0662026-07-01"])
def test_an_unknown_version_is_refused_and_the_known_ones_told(version: str) -> None:
    with pytest.raises(arm_errors.ApiVersionUnknown) as caught:
        decode_version(version, SESSION_POOLS)
    assert SESSION_POOLS[-1] in caught.value.message
    assert len(caught.value.message) < 1000


@pytest.mark.parametrize("version", [None, ""])
def test_a_version_is_required(version: str | None) -> None:
    with pytest.raises(arm_errors.ApiVersionMissing):
        decode_version(version, RESOURCES)


@given(st.binary(max_size=100))
def test_no_path_breaks_the_search(path: bytes) -> None:
    """Anything but a clean error would be a 500."""
    with contextlib.suppress(arm_errors.ParameterInvalid):
        find(ROUTES, split(b"/subscriptions/" + path))

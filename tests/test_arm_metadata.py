"""What clients of the control plane ask first, through the real application without a host."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from carrel.storage import State
from test_auth import Caller

pytestmark = pytest.mark.anyio
ORIGIN = "http://127.0.0.1:8080"  # test_auth's


@pytest.fixture(scope="module")
def arm_state(tmp_path_factory: pytest.TempPathFactory) -> State:
    return State(tmp_path_factory.mktemp("arm") / "state")


@pytest.fixture
def arm(arm_state: State, tmp_path: Path) -> Caller:
    return Caller(arm_state, tmp_path)


def checked(reply: httpx.Response, status: int = 200) -> httpx.Response:
    assert reply.status_code == status, reply.text
    return reply


async def test_a_cloud_is_registered_without_a_token(arm: Caller) -> None:
    """`az cloud register`: audiences[0] becomes the scope of its tokens."""
    cloud = checked(await arm.get("/metadata/endpoints", params={"api-version": "2022-09-01"})).json()

    assert cloud["authentication"]["audiences"][0] == cloud["resourceManager"] == ORIGIN
    assert cloud["authentication"]["loginEndpoint"] == ORIGIN
    assert cloud["microsoftGraphResourceId"] == f"{ORIGIN}/graph"
    assert {"name", "portal", "graphAudience", "gallery", "suffixes"} <= set(cloud)


async def test_the_list_of_clouds_has_every_name_that_az_reads(arm: Caller) -> None:
    """ARM_CLOUD_METADATA_URL: older releases take some of them without asking whether they are there."""
    listed = checked(await arm.get("/metadata/endpoints", params={"api-version": "2019-05-01"})).json()

    assert isinstance(listed, list)
    read = {"name", "resourceManager", "sqlManagement", "batch", "gallery", "graphAudience", "vmImageAliasDoc", "media"}
    assert read <= set(listed[0])


async def test_older_clients_find_the_names_that_they_know(arm: Caller) -> None:
    cloud = checked(await arm.get("/metadata/endpoints", params={"api-version": "2015-01-01"})).json()

    assert {"galleryEndpoint", "graphEndpoint", "portalEndpoint", "authentication"} <= set(cloud)
    assert isinstance(checked(await arm.get("/metadata/endpoints")).json(), dict)


async def test_nothing_else_is_told_without_a_token(arm: Caller) -> None:
    for path in ("/subscriptions", "/tenants", "/subscriptions/x/locations", "/providers/Microsoft.App"):
        checked(await arm.get(path, params={"api-version": "2022-12-01"}), 401)

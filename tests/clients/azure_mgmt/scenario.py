"""azure-mgmt-appcontainers' session pools, unmodified, against Carrel's control plane over TLS."""

import io
import json
import os
import time
import urllib.request
from typing import Any
from uuid import uuid4

from azure.core.credentials import AccessToken
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceNotFoundError,
)
from azure.core.pipeline.policies import SansIOHTTPPolicy
from azure.identity import ClientSecretCredential
from azure.mgmt.appcontainers import ContainerAppsAPIClient
from azure.mgmt.appcontainers.models import (
    DynamicPoolConfiguration,
    LifecycleConfiguration,
    ScaleConfiguration,
    SessionNetworkConfiguration,
    SessionPool,
    SessionPoolProperties,
    SessionPoolSecret,
)
from checks import contains, equal, lacks, new_identifier, raises, run

ARM = os.environ["CARREL_ARM"]
SUBSCRIPTION = os.environ["CARREL_SUBSCRIPTION"]
GROUP = os.environ["CARREL_GROUP"]
LOCATION = os.environ["CARREL_LOCATION"]
POLL_S = 20  # without Retry-After the package sleeps 30 seconds between two polls


class Static:
    """A credential that always has the same token."""

    def __init__(self, token: str) -> None:
        self._token = token

    def get_token(self, *_scopes: str, **_options: Any) -> AccessToken:
        return AccessToken(self._token, int(time.time()) + 3000)


class Seen(SansIOHTTPPolicy):
    """Statuses and headers of the replies, in their order."""

    def __init__(self) -> None:
        self.replies: list[tuple[str, int, dict[str, str]]] = []

    def on_response(self, request: Any, response: Any) -> None:
        reply = response.http_response
        headers = {name.lower(): value for name, value in reply.headers.items()}
        self.replies.append((request.http_request.method, reply.status_code, headers))


SEEN = Seen()


def connected(token: str | None = None, subscription: str = SUBSCRIPTION) -> ContainerAppsAPIClient:
    credential = ClientSecretCredential(
        os.environ["CARREL_TENANT"],
        os.environ["CARREL_CLIENT_ID"],
        os.environ["CARREL_CLIENT_SECRET"],
        authority=os.environ["CARREL_AUTHORITY"],
        disable_instance_discovery=True,
    )
    return ContainerAppsAPIClient(
        Static(token) if token else credential,
        subscription,
        base_url=ARM,
        credential_scopes=[f"{ARM}/.default"],
        per_call_policies=[SEEN],
        retry_total=0,
    )


CLIENT = connected()
POOLS = CLIENT.container_apps_session_pools


def new_name() -> str:
    return f"mgmt-{uuid4().hex[:10]}"


def definition(maximum: int = 3, **more: Any) -> SessionPool:
    """A pool of the small image, which is there already: what is tried here is not its build."""
    properties = SessionPoolProperties(
        container_type="PythonLTS",
        pool_management_type="Dynamic",
        scale_configuration=ScaleConfiguration(max_concurrent_sessions=maximum, ready_session_instances=1),
        dynamic_pool_configuration=DynamicPoolConfiguration(
            lifecycle_configuration=LifecycleConfiguration(lifecycle_type="Timed", cooldown_period_in_seconds=300)
        ),
        session_network_configuration=SessionNetworkConfiguration(status="EgressDisabled"),
        **more,
    )
    properties["carrel"] = {"image": "python-slim"}
    return SessionPool(location=LOCATION, tags={"made-by": "the SDK"}, properties=properties)


NAME = new_name()


def check_create() -> None:
    """PUT, the poller to its end within seconds, and the whole resource: 201 with Azure-AsyncOperation and Retry-After."""
    started = time.monotonic()
    pool = POOLS.begin_create_or_update(GROUP, NAME, definition()).result()

    if time.monotonic() - started > POLL_S:
        raise AssertionError(f"{time.monotonic() - started:.0f} seconds")
    method, status, headers = next(each for each in SEEN.replies if each[0] == "PUT")
    equal((method, status, headers["retry-after"]), ("PUT", 201, "1"))
    contains(headers["azure-asyncoperation"], ARM)
    equal((pool.name, pool.location, pool.type), (NAME, LOCATION, "Microsoft.App/sessionPools"))
    equal(
        pool.id.lower(),
        f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers/Microsoft.App/sessionPools/{NAME}".lower(),
    )
    properties = pool.properties
    equal((properties.provisioning_state, properties.container_type), ("Succeeded", "PythonLTS"))
    equal((properties.pool_management_type, pool.tags), ("Dynamic", {"made-by": "the SDK"}))
    equal(properties.scale_configuration.max_concurrent_sessions, 3)
    equal(properties.dynamic_pool_configuration.lifecycle_configuration.cooldown_period_in_seconds, 300)
    equal(properties.session_network_configuration.status, "EgressDisabled")
    contains(properties.pool_management_endpoint, f"/sessionPools/{NAME}", "https://")
    equal(pool.system_data.created_by_type, "Application")


def check_what_was_made_runs_code() -> None:
    """The endpoint that the resource names is one: the default principal may use what it has made."""
    endpoint = POOLS.get(GROUP, NAME).properties.pool_management_endpoint
    url = f"{endpoint}/code/execute?api-version=2024-02-02-preview&identifier={new_identifier('mgmt')}"
    headers = {"Authorization": f"Bearer {os.environ['CARREL_TOKEN']}", "Content-Type": "application/json"}
    body = json.dumps({"properties": {"code": "6 * 7"}}).encode()
    request = urllib.request.Request(url, body, headers)  # noqa: S310 - ours
    with urllib.request.urlopen(request, timeout=60) as reply:  # noqa: S310
        equal(json.load(reply)["properties"]["result"], 42)


def check_get_in_any_case() -> None:
    """Names of groups and pools compare as Azure's do."""
    equal(POOLS.get(GROUP.upper(), NAME.upper()).name, NAME)


def check_put_again_needs_no_polling() -> None:
    """The same definition once more: 200, finished at once."""
    POOLS.begin_create_or_update(GROUP, NAME, definition()).result()

    put = [each for each in SEEN.replies if each[0] == "PUT"][-1]
    equal(put[1], 200)


def check_explicit_nulls() -> None:
    """What Azure's command line sends: null counts as absent."""
    body = {
        "location": LOCATION,
        "properties": {
            "poolManagementType": "Dynamic",
            "environmentId": None,
            "containerType": "PythonLTS",
            "customContainerTemplate": None,
            "secrets": None,
            "dynamicPoolConfiguration": {
                "lifecycleConfiguration": {
                    "lifecycleType": "Timed",
                    "maxAlivePeriodInSeconds": None,
                    "cooldownPeriodInSeconds": 300,
                }
            },
            "sessionNetworkConfiguration": {"status": "EgressDisabled"},
            "scaleConfiguration": {"maxConcurrentSessions": 3, "readySessionInstances": 1},
            "carrel": {"image": "python-slim"},
        },
    }
    pool = POOLS.begin_create_or_update(GROUP, NAME, io.BytesIO(json.dumps(body).encode())).result()

    equal(pool.properties.provisioning_state, "Succeeded")


def check_update() -> None:
    """PATCH merges: what it does not name stays. Within seconds, too."""
    patch = {"tags": {"changed": "yes"}, "properties": {"scaleConfiguration": {"maxConcurrentSessions": 7}}}
    started = time.monotonic()
    pool = POOLS.begin_update(GROUP, NAME, io.BytesIO(json.dumps(patch).encode())).result()

    if time.monotonic() - started > POLL_S:
        raise AssertionError(f"{time.monotonic() - started:.0f} seconds")
    pool = POOLS.get(GROUP, NAME) if pool is None else pool
    equal(pool.properties.scale_configuration.max_concurrent_sessions, 7)
    equal(pool.properties.dynamic_pool_configuration.lifecycle_configuration.cooldown_period_in_seconds, 300)
    equal(pool.tags, {"changed": "yes"})


def check_read_and_put_back() -> None:
    """What was read, changed in one place and put back, as Terraform updates: read-only fields are no fault."""
    pool = POOLS.get(GROUP, NAME)
    pool.tags = {"round": "trip"}
    whole = json.dumps(pool.as_dict()).encode()
    again = POOLS.begin_create_or_update(GROUP, NAME, io.BytesIO(whole)).result()

    equal(again.tags, {"round": "trip"})
    equal(again.properties.scale_configuration.max_concurrent_sessions, 7)


def check_secrets_are_write_only() -> None:
    """The value of a secret comes back in no reply."""
    pool = definition(secrets=[SessionPoolSecret(name="api-key", value="xyzzy-very-secret")])
    made = POOLS.begin_create_or_update(GROUP, NAME, pool).result()

    for shown in (made, POOLS.get(GROUP, NAME)):
        equal([secret.name for secret in shown.properties.secrets], ["api-key"])
        lacks(json.dumps(shown.as_dict()), "xyzzy-very-secret")


def check_if_match() -> None:
    """A stale ETag is refused with 412, and nothing is changed."""
    with raises(HttpResponseError) as caught:
        POOLS.begin_create_or_update(GROUP, NAME, definition(9), headers={"If-Match": '"stale"'})

    equal(caught.error.status_code, 412)
    lacks(str(POOLS.get(GROUP, NAME).properties.scale_configuration.max_concurrent_sessions), "9")


def check_lists() -> None:
    """By group and by subscription; pages are followed by the package."""
    equal([NAME in [pool.name for pool in POOLS.list_by_resource_group(GROUP)]], [True])
    equal([NAME in [pool.name for pool in POOLS.list_by_subscription()]], [True])


def check_invalid_property() -> None:
    """An error in ARM's shape: the package shows code and message, the message names the property."""
    with raises(HttpResponseError) as caught:
        POOLS.begin_create_or_update(GROUP, new_name(), definition(maximum=0))

    equal(caught.error.status_code, 400)
    contains(str(caught.error), "maxConcurrentSessions")
    contains(caught.error.error.target or "", "maxConcurrentSessions")


def check_container_type_is_fixed() -> None:
    pool = definition()
    pool.properties.container_type = "NodeLTS"
    with raises(HttpResponseError) as caught:
        POOLS.begin_create_or_update(GROUP, NAME, pool)

    contains(str(caught.error), "containerType")


def check_missing_group() -> None:
    with raises(HttpResponseError) as caught:
        POOLS.begin_create_or_update("no-such-group", new_name(), definition())

    equal((caught.error.status_code, caught.error.error.code), (404, "ResourceGroupNotFound"))


def check_missing_pool() -> None:
    with raises(ResourceNotFoundError) as caught:
        POOLS.get(GROUP, "no-such-pool")

    equal(caught.error.error.code, "ResourceNotFound")


def check_another_subscription() -> None:
    other = connected(subscription="99999999-9999-9999-9999-999999999999")
    with raises(ResourceNotFoundError) as caught:
        other.container_apps_session_pools.get(GROUP, NAME)

    equal(caught.error.error.code, "SubscriptionNotFound")


def check_a_token_of_the_data_plane() -> None:
    """401, which the package turns into its own error."""
    with raises(ClientAuthenticationError):
        connected(os.environ["CARREL_TOKEN"]).container_apps_session_pools.get(GROUP, NAME)


def check_the_token_of_the_connection_file() -> None:
    equal(connected(os.environ["CARREL_ARM_TOKEN"]).container_apps_session_pools.get(GROUP, NAME).name, NAME)


def check_delete() -> None:
    """202 and the poller to its end; a second delete is 204, and never 200, which the package takes for an error."""
    started = time.monotonic()
    POOLS.begin_delete(GROUP, NAME).result()
    if time.monotonic() - started > POLL_S:
        raise AssertionError(f"{time.monotonic() - started:.0f} seconds")
    with raises(ResourceNotFoundError):
        POOLS.get(GROUP, NAME)

    POOLS.begin_delete(GROUP, NAME).result()

    equal([each[1] for each in SEEN.replies if each[0] == "DELETE"], [202, 204])


if __name__ == "__main__":
    run(globals())

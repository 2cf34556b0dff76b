"""azure-identity's credentials, unmodified, against Carrel's authority and its managed-identity endpoints."""

import base64
import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from azure.core.exceptions import ClientAuthenticationError
from azure.identity import (
    ClientSecretCredential,
    CredentialUnavailableError,
    DefaultAzureCredential,
    ManagedIdentityCredential,
)
from azure.identity.aio import ClientSecretCredential as AsyncClientSecretCredential
from checks import HTTPS_ENDPOINT, contains, equal, lacks, new_identifier, raises, run

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "src"))

from carrel.client import AsyncClient, Client

AUTHORITY = os.environ["CARREL_AUTHORITY"]
TENANT = os.environ["CARREL_TENANT"]
CLIENT = os.environ["CARREL_CLIENT_ID"]
SECRET = os.environ["CARREL_CLIENT_SECRET"]
ARM = os.environ["CARREL_ARM"]
SESSION = new_identifier("identity")  # one for all: each takes a place of the pool's until it has cooled down
POOLS = "https://dynamicsessions.io/.default"


def claims(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def execute(token: str) -> Any:
    """Runs 1 + 1 in the pool with a token, over TLS."""
    request = urllib.request.Request(  # noqa: S310 - ours
        f"{HTTPS_ENDPOINT}/code/execute?api-version=2024-02-02-preview&identifier={SESSION}",
        data=json.dumps({"properties": {"code": "1 + 1"}}).encode(),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as reply:  # noqa: S310 - ours
        return json.load(reply)["properties"]["result"]


@contextlib.contextmanager
def environment(**variables: str | None) -> Iterator[None]:
    """With these variables, None for none; all as before afterwards."""
    before = {name: os.environ.get(name) for name in variables}
    try:
        _set(variables)
        yield
    finally:
        _set(before)


def _set(variables: dict[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def secret_credential(**options: Any) -> ClientSecretCredential:
    given = {"tenant_id": TENANT, "client_id": CLIENT, "client_secret": SECRET, **options}
    return ClientSecretCredential(authority=AUTHORITY, disable_instance_discovery=True, **given)


NO_IDENTITY = {"IDENTITY_ENDPOINT": None, "IDENTITY_HEADER": None}


def check_client_secret() -> None:
    """The token of the default service principal opens the pool, lasts about an hour and says who it is."""
    token = secret_credential().get_token(POOLS)

    equal(execute(token.token), 2)
    if not 600 < token.expires_on - time.time() <= 24 * 3600 + 60:
        raise AssertionError(token.expires_on)
    found = claims(token.token)
    equal((found["oid"], found["tid"]), (os.environ["CARREL_OBJECT_ID"], TENANT))


def check_both_audiences_of_the_data_plane() -> None:
    """Semantic Kernel and LangChain's JavaScript ask for acasessions.io."""
    equal(execute(secret_credential().get_token("https://acasessions.io/.default").token), 2)


def check_token_info() -> None:
    """The newer protocol of credentials, which newer packages ask for first."""
    info = secret_credential().get_token_info(POOLS)

    equal(info.token_type, "Bearer")
    equal(execute(info.token), 2)


def check_a_token_is_asked_for_once() -> None:
    """The package's cache takes our reply: a second call answers with the same token."""
    credential = secret_credential()

    equal(credential.get_token(POOLS).token, credential.get_token(POOLS).token)


def check_control_plane_audience() -> None:
    """A token for the control plane, under this server's own name and Azure's, is none for the pools."""
    for scope in (f"{ARM}/.default", "https://management.azure.com/.default"):
        token = secret_credential().get_token(scope).token
        lacks(str(claims(token)["aud"]), "dynamicsessions")


def check_wrong_secret() -> None:
    """Refused in the words that the package turns into its own error."""
    with raises(ClientAuthenticationError) as caught:
        secret_credential(client_secret="wrong").get_token(POOLS)

    contains(str(caught.error), "AADSTS7000215")
    lacks(str(caught.error), SECRET)


def check_unknown_client() -> None:
    with raises(ClientAuthenticationError):
        secret_credential(client_id="11111111-2222-3333-4444-555555555555").get_token(POOLS)


def check_unknown_audience() -> None:
    with raises(ClientAuthenticationError) as caught:
        secret_credential().get_token("https://storage.azure.com/.default")

    contains(str(caught.error), "AADSTS500011")


def check_adfs_tenant_needs_no_flag() -> None:
    """For who cannot pass disable_instance_discovery: the tenant `adfs` is looked up at the authority alone."""
    credential = ClientSecretCredential("adfs", CLIENT, SECRET, authority=AUTHORITY)

    equal(execute(credential.get_token(POOLS).token), 2)


async def check_asyncio() -> None:
    async with AsyncClientSecretCredential(
        TENANT, CLIENT, SECRET, authority=AUTHORITY, disable_instance_discovery=True
    ) as credential:
        token = await credential.get_token(POOLS)

    equal(execute(token.token), 2)


def check_managed_identity_of_app_service() -> None:
    """IDENTITY_ENDPOINT and IDENTITY_HEADER, as `carrel env` sets them."""
    equal(execute(ManagedIdentityCredential().get_token(POOLS).token), 2)


def check_managed_identity_by_client_id() -> None:
    equal(execute(ManagedIdentityCredential(client_id=CLIENT).get_token(POOLS).token), 2)


def check_managed_identity_with_a_wrong_header() -> None:
    with environment(IDENTITY_HEADER="wrong"), raises(ClientAuthenticationError):
        ManagedIdentityCredential().get_token(POOLS)


def check_managed_identity_of_a_virtual_machine() -> None:
    """The IMDS form, which has no secret: the server asks the kernel whose socket it is."""
    http = os.environ["IDENTITY_ENDPOINT"].removesuffix("/msi/token")
    with environment(**NO_IDENTITY, AZURE_POD_IDENTITY_AUTHORITY_HOST=http):
        try:
            token = ManagedIdentityCredential().get_token(POOLS)
        except CredentialUnavailableError as error:
            raise AssertionError(error) from error

    equal(execute(token.token), 2)


def check_default_credential_by_managed_identity() -> None:
    """What most samples use, with nothing but `carrel env` set."""
    with environment(AZURE_TOKEN_CREDENTIALS="managedidentitycredential"):
        equal(execute(DefaultAzureCredential().get_token(POOLS).token), 2)


def check_default_credential_by_environment() -> None:
    """AZURE_* and no other help: tenant `adfs`, as there is no variable for disable_instance_discovery."""
    variables = {
        "AZURE_TENANT_ID": "adfs",
        "AZURE_CLIENT_ID": CLIENT,
        "AZURE_CLIENT_SECRET": SECRET,
        "AZURE_AUTHORITY_HOST": AUTHORITY,
    }
    with environment(**NO_IDENTITY, **variables):
        equal(execute(DefaultAzureCredential().get_token(POOLS).token), 2)


def check_default_credential_with_the_flag() -> None:
    variables = {
        "AZURE_TENANT_ID": TENANT,
        "AZURE_CLIENT_ID": CLIENT,
        "AZURE_CLIENT_SECRET": SECRET,
        "AZURE_AUTHORITY_HOST": AUTHORITY,
    }
    with environment(**NO_IDENTITY, **variables):
        credential = DefaultAzureCredential(disable_instance_discovery=True)
        equal(execute(credential.get_token(POOLS).token), 2)


def check_default_credential_with_what_carrel_env_exports() -> None:
    """`eval "$(carrel env)"` and nothing else."""
    program = [os.environ["CARREL_PROGRAM"], "env", "--output", "json"]
    exported = json.loads(subprocess.run(program, capture_output=True, check=True).stdout)
    with environment(**NO_IDENTITY), environment(**exported):
        equal(execute(DefaultAzureCredential().get_token(POOLS).token), 2)


async def check_carrels_client_takes_these_credentials() -> None:
    """As they are, for plain code and for asyncio."""
    ca = os.environ["SSL_CERT_FILE"]
    with Client(HTTPS_ENDPOINT, secret_credential(), identifier=SESSION, ca_bundle=ca) as client:
        equal(client.execute("6 * 7").result, 42)
    credential = AsyncClientSecretCredential(
        TENANT, CLIENT, SECRET, authority=AUTHORITY, disable_instance_discovery=True
    )
    async with credential, AsyncClient(HTTPS_ENDPOINT, credential, identifier=SESSION, ca_bundle=ca) as client:
        equal((await client.execute("6 * 7")).result, 42)


async def check_carrels_client_finds_the_default_credential() -> None:
    """Where the environment has no token and names nobody: azure-identity, here by what a virtual machine has."""
    nobody = {
        **NO_IDENTITY,
        "AZURE_CLIENT_SECRET": None,
        "CARREL_TOKEN": None,
        "CARREL_POOL_ENDPOINT": HTTPS_ENDPOINT,
        "AZURE_POD_IDENTITY_AUTHORITY_HOST": os.environ["IDENTITY_ENDPOINT"].removesuffix("/msi/token"),
        "AZURE_TOKEN_CREDENTIALS": "managedidentitycredential",
    }
    with environment(**nobody):
        with Client.from_env(identifier=SESSION) as client:
            equal(client.execute("6 * 7").result, 42)
        async with AsyncClient.from_env(identifier=SESSION) as other:
            equal((await other.execute("6 * 7")).result, 42)
    equal([type(each._own).__name__ for each in (client, other)], ["DefaultAzureCredential"] * 2)


if __name__ == "__main__":
    run(globals())

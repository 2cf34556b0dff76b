"""Which server a command is about, by whose rights, and which of its groups: the options that az-like commands share.

Without anything it is the local server, found by its state folder, with its default identity's rights. `--endpoint` or CARREL_ENDPOINT
names another one, or Azure's own; the rights are then a service principal's (AZURE_TENANT_ID, AZURE_CLIENT_ID, AZURE_CLIENT_SECRET) or
those of tokens that somebody else got (CARREL_ARM_TOKEN, CARREL_TOKEN).
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from carrel.cli.options import state_folder

if TYPE_CHECKING:
    from carrel.client import Client, Management
    from carrel.client.credentials import AccessToken, Credential

F = TypeVar("F", bound=Callable[..., Any])

_TOKEN_S = 300
_AZURE, _ENTRA = "https://management.azure.com", "https://login.microsoftonline.com"


@dataclass(frozen=True, slots=True)
class Target:
    """`environment` is the command's own."""

    state: str | None
    endpoint: str | None
    subscription: str | None
    is_quiet: bool = False
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)

    @classmethod
    def meant(cls, state: str | None) -> Target:
        """By commands that have no other option for it. A state folder that is named goes before CARREL_ENDPOINT."""
        return cls(state, None if state else os.environ.get("CARREL_ENDPOINT"), None)

    @contextlib.contextmanager
    def management(self) -> Iterator[Management]:
        """Of the control plane. Raises NotRunning where the local server is meant and there is none."""
        with self._remote(self.endpoint) if self.endpoint else self._local() as management:
            yield management

    @contextlib.contextmanager
    def client(self, pool: str, resource_group: str | None, identifier: str) -> Iterator[Client]:
        """Of a pool. For the local server's own group there is no need to ask where the pool is."""
        if not self.endpoint and resource_group is None and not self.subscription:
            from carrel.cli.clients import connected

            with connected(self.folder, pool, identifier) as client:
                yield client
            return
        with (
            self.management() as management,
            management.client(pool, resource_group=resource_group, identifier=identifier) as client,
        ):
            yield client

    @contextlib.contextmanager
    def operator(self, endpoint: str) -> Iterator[Client]:
        """To a pool, with the right to change it. Whoever can read the state folder's key may have that, as with `carrel token`."""
        from carrel.client import Client, Connection
        from carrel.storage import POOL_CONTRIBUTOR, State, StateError

        if self.endpoint:
            with self.management() as management:
                credential, ca = cast("Credential", management.credential), self._ca_bundle()
            with Client(endpoint, credential, ca_bundle=ca) as client:
                yield client
            return
        try:
            token = State(self.folder).issue_token(ttl_s=_TOKEN_S, roles=[POOL_CONTRIBUTOR])
        except StateError as error:
            raise click.ClickException(str(error)) from error
        with Client(endpoint, token, ca_bundle=Connection.read(self.folder).ca_bundle) as client:
            yield client

    def token(self, management: Management, scope: str) -> AccessToken:
        """With the rights that the command has."""
        return cast("Credential", management.credential).get_token(scope)

    def claims(self, management: Management) -> dict[str, Any]:
        """What the control plane's token says of whom it is for."""
        from carrel.client.credentials import ARM_SCOPE, claims

        return claims(self.token(management, ARM_SCOPE).token)

    def say(self, text: str) -> None:
        """Something beside the result, for people."""
        if not self.is_quiet:
            click.echo(text, err=True)

    def _local(self) -> Management:
        from carrel.client import Management

        management = Management.from_connection(self.folder)
        if self.subscription:
            management.subscription = self.subscription
        return management

    @property
    def folder(self) -> Path:
        return state_folder(self.state)

    def _remote(self, endpoint: str) -> Management:
        from carrel.client import Management

        if not endpoint.startswith(("https://", "http://")):
            raise click.UsageError(f"--endpoint: {endpoint!r} is no address; https://HOST[:PORT]")
        named = self.environment.get
        self._require_private("--endpoint", endpoint, "tokens")
        return Management(
            endpoint,
            self._rights(endpoint),
            subscription=self.subscription or self._first(),
            resource_group=named("CARREL_RESOURCE_GROUP") or named("AZURE_DEFAULTS_GROUP") or "default",
            location=named("CARREL_LOCATION") or named("AZURE_DEFAULTS_LOCATION") or "local",
            ca_bundle=self._ca_bundle(),
        )

    def _first(self) -> str:
        """The subscription that the environment names, else the first that one may see."""
        from carrel.client import Management

        named = self.environment.get("CARREL_SUBSCRIPTION") or self.environment.get("AZURE_SUBSCRIPTION_ID")
        if named:
            return named
        endpoint = str(self.endpoint)
        with Management(endpoint, self._rights(endpoint), subscription="", ca_bundle=self._ca_bundle()) as management:
            found = management.subscriptions()
        if not found:
            raise click.ClickException("the server shows no subscription: name one with --subscription")
        return found[0].id

    def _rights(self, endpoint: str) -> Credential:
        """A service principal's, where one is named; else those of tokens."""
        from carrel.client.credentials import FixedCredential, ServerCredential, by_secret

        named = self.environment.get
        tenant, client, secret = (named(f"AZURE_{name}", "") for name in ("TENANT_ID", "CLIENT_ID", "CLIENT_SECRET"))
        if tenant and client and secret:
            ask = by_secret(self._authority(endpoint), tenant, client, secret)
            return ServerCredential(ask, ca_bundle=self._ca_bundle())
        tokens = [token for name in ("CARREL_ARM_TOKEN", "CARREL_TOKEN") if (token := named(name))]
        if not tokens:
            raise click.UsageError(
                "--endpoint: whose rights? set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET, "
                "or CARREL_ARM_TOKEN and CARREL_TOKEN"
            )
        return FixedCredential(*tokens)

    def _authority(self, endpoint: str) -> str:
        """As azure-identity takes it from the environment, with or without https://. A secret in the environment may be Entra's: it is
        sent to no other authority that is not named."""
        host = self.environment.get("AZURE_AUTHORITY_HOST") or (_ENTRA if endpoint.rstrip("/") == _AZURE else "")
        if not host:
            raise click.UsageError(
                f"--endpoint: whose secret is AZURE_CLIENT_SECRET? set AZURE_AUTHORITY_HOST, to {endpoint} if it is that server's"
            )
        address = host if "://" in host else f"https://{host}"
        self._require_private("AZURE_AUTHORITY_HOST", address, "the client secret")
        return address

    def _require_private(self, name: str, address: str, what: str) -> None:
        """Refuse an address where secrets could be read on the way, unless that was asked for."""
        from carrel.client.connection import is_local

        is_https = address.lower().startswith("https://")
        if not (is_https or is_local(address) or self.environment.get("CARREL_INSECURE_HTTP")):
            raise click.UsageError(
                f"{name}: {address} would be sent {what} in the clear; https://…, or CARREL_INSECURE_HTTP=true"
            )

    def _ca_bundle(self) -> str | None:
        return self.environment.get("SSL_CERT_FILE") or self.environment.get("REQUESTS_CA_BUNDLE") or None


def target_options(command: F) -> F:
    """`--state`, `--endpoint`, `--subscription`, `--only-show-errors`; the command gets `target`."""

    @functools.wraps(command)
    def run(
        *arguments: Any,
        state: str | None,
        endpoint: str | None,
        subscription: str | None,
        only_show_errors: bool,
        **options: Any,
    ) -> Any:
        # A state folder that is named is meant, whatever the environment says.
        found = Target(
            state, endpoint or (None if state else os.environ.get("CARREL_ENDPOINT")), subscription, only_show_errors
        )
        return command(*arguments, target=found, **options)

    for option in (
        click.option("--only-show-errors", is_flag=True, help="No progress and no warnings."),
        click.option("--subscription", metavar="ID", help="Subscription; by default the server's own."),
        click.option("--endpoint", metavar="URL", help="Another server's endpoint, or Azure's.  [CARREL_ENDPOINT]"),
        click.option(
            "--state",
            metavar="DIR",
            help="State folder of the local server.  [CARREL_STATE; default: ~/.local/share/carrel]",
        ),
    ):
        run = option(run)
    return cast(F, run)


def given(_context: click.Context, parameter: click.Parameter, text: str | None) -> str | None:
    """Refuse "", which scripts come by when a variable is empty: without the option the command might be about everything."""
    if text == "":
        raise click.UsageError(f"{parameter.opts[-1]}: is empty")
    return text


def group_option(command: F) -> F:
    text = "Resource group; by default the server's own."
    return click.option("-g", "--resource-group", metavar="GROUP", callback=given, help=text)(command)


def whole_or_group_option(command: F) -> F:
    text = "Resource group; by default the whole subscription."
    return click.option("-g", "--resource-group", metavar="GROUP", callback=given, help=text)(command)

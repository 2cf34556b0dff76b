"""`carrel identity …` but for the keys: users, applications, managed identities and groups of a server's authority."""

from __future__ import annotations

import secrets
import sys
from typing import TYPE_CHECKING, Any

import click

from carrel.cli.azlike import AzCommand, az_failures, confirm, yes_option
from carrel.cli.output import Printer, output_options
from carrel.cli.target import Target, target_options

if TYPE_CHECKING:
    from carrel.client import Identities, Principal, Secret

_CREATED = "shown this once: keep it now"


@click.command(cls=AzCommand)
@click.argument("name")
@click.option("--user", "kind", flag_value="User", help="A person, who signs in with a password.")
@click.option("--managed", "kind", flag_value="ManagedIdentity", help="A managed identity of this server.")
@click.option("--group", "kind", flag_value="Group", help="A group, whose roles its members have.")
@click.option("--display-name", metavar="TEXT", help="What lists show of a user; by default its name.")
@click.option("--password-stdin", is_flag=True, help="Take a user's password from stdin; otherwise one is made.")
@click.option(
    "--days",
    type=click.IntRange(1, 36_500),
    metavar="N",
    help="How long an application's secret is good; by default for ever.",
)
@output_options()
@target_options
def create(
    name: str,
    kind: str | None,
    display_name: str | None,
    password_stdin: bool,
    days: int | None,
    out: Printer,
    target: Target,
) -> None:
    """Make an identity: an application with a secret, unless told otherwise. It has no rights until it is given a role."""
    if kind != "User" and (display_name or password_stdin):
        raise click.UsageError("--display-name and --password-stdin are for users: say --user")
    if kind and days is not None:
        raise click.UsageError("--days: only an application has a secret that ends")
    with az_failures(), target.management() as management:
        known = management.identities
        if kind == "User":
            password = _password(password_stdin)
            made = known.create_user(name, display_name=display_name, password=password)
            return out(_told(target, _shown(made), {} if password_stdin else {"password": password}))
        if kind == "Group":
            return out(_shown(known.create_group(name)))
        made = known.create_application(name, is_managed=kind == "ManagedIdentity")
        secret = None if kind else known.add_secret(made, days=days)
    return out(_told(target, _shown(made), _credentials(secret) if secret else {}))


@click.command("list", cls=AzCommand)
@output_options()
@target_options
def list_identities(out: Printer, target: Target) -> None:
    """List everybody this server knows."""
    with az_failures(), target.management() as management:
        found = management.identities.list()
    out([_shown(each) for each in found], _table)


@click.command(cls=AzCommand)
@click.argument("name")
@output_options()
@target_options
def show(name: str, out: Printer, target: Target) -> None:
    """Show one, an application with its secrets' ids and ends, a group with its members."""
    with az_failures(), target.management() as management:
        known = management.identities
        found = known.find(name)
        more: dict[str, Any] = {}
        if found.kind == "Group":
            more["members"] = [_shown(each) for each in known.members(found)]
        elif found.app_id:
            more["secrets"] = [_listed(each) for each in known.secrets(found)]
    out(_shown(found) | more)


@click.command(cls=AzCommand)
@click.argument("name")
@yes_option
@target_options
def delete(name: str, is_sure: bool, target: Target) -> None:
    """Delete one, with its secrets, sign-ins and roles."""
    with az_failures(), target.management() as management:
        found = management.identities.find(name)
        confirm(f"Delete {found.kind} {found.display_name or found.name} and all its rights?", is_sure)
        management.identities.delete(found)


@click.command("reset-secret", cls=AzCommand)
@click.argument("name")
@click.option("--append", is_flag=True, help="Keep an application's other secrets, so that there is no gap.")
@click.option(
    "--days",
    type=click.IntRange(1, 36_500),
    metavar="N",
    help="How long the new one is good; by default for ever.",
)
@click.option("--password-stdin", is_flag=True, help="Take a user's new password from stdin; otherwise one is made.")
@output_options()
@target_options
def reset_secret(name: str, append: bool, days: int | None, password_stdin: bool, out: Printer, target: Target) -> None:
    """Make a new secret of an application, or a new password of a user. A user's sign-ins of before end."""
    with az_failures(), target.management() as management:
        known = management.identities
        found = known.find(name)
        if found.kind == "User":
            if append or days is not None:
                raise click.UsageError("--append and --days are for applications: a user has one password")
            password = _password(password_stdin)
            known.set_password(found, password)
            return out(_told(target, _shown(found), {} if password_stdin else {"password": password}))
        if password_stdin:
            raise click.UsageError("--password-stdin is for users: an application's secret is always made")
        made = known.add_secret(found, days=days)
        if not append:
            _remove_others(known, found, made)
        if target.claims(management).get("oid") == found.id:
            target.say(
                "the secret in keys/client-secret of the state folder stays good: to replace it, remove the file and restart"
            )
    return out(_told(target, _shown(found), _credentials(made)))


@click.command(cls=AzCommand)
@click.argument("name")
@target_options
def enable(name: str, target: Target) -> None:
    """Let one sign in again."""
    with az_failures(), target.management() as management:
        management.identities.enable(management.identities.find(name))


@click.command(cls=AzCommand)
@click.argument("name")
@target_options
def disable(name: str, target: Target) -> None:
    """Let one neither sign in nor use what it has: all its sign-ins end."""
    with az_failures(), target.management() as management:
        management.identities.enable(management.identities.find(name), is_enabled=False)


@click.command("add-member", cls=AzCommand)
@click.argument("group")
@click.argument("name")
@target_options
def add_member(group: str, name: str, target: Target) -> None:
    """Put a user or application into a group."""
    with az_failures(), target.management() as management:
        known = management.identities
        known.add_member(known.find(group), known.find(name))


@click.command("remove-member", cls=AzCommand)
@click.argument("group")
@click.argument("name")
@target_options
def remove_member(group: str, name: str, target: Target) -> None:
    """Take one out of a group."""
    with az_failures(), target.management() as management:
        known = management.identities
        known.remove_member(known.find(group), known.find(name))


@click.command(cls=AzCommand)
@click.argument("code")
@click.option("--user", "user_name", metavar="NAME", required=True, help="Who approves.")
@click.option("--deny", is_flag=True, help="Say no.")
@click.option("--password-stdin", is_flag=True, help="Take the password from stdin instead of asking.")
@target_options
def approve(code: str, user_name: str, deny: bool, password_stdin: bool, target: Target) -> None:
    """Answer for a device that shows CODE, as its page /device does. Approve only what you have started yourself."""
    password = _read_password() if password_stdin else click.prompt("Password", hide_input=True, err=True)
    with az_failures(), target.management() as management:
        management.identities.answer_device(code, user_name, password, is_approved=not deny)
    target.say("denied" if deny else "approved: the device is signed in")


COMMANDS = (
    create,
    list_identities,
    show,
    delete,
    reset_secret,
    enable,
    disable,
    add_member,
    remove_member,
    approve,
)


def _password(is_given: bool) -> str:
    return _read_password() if is_given else secrets.token_urlsafe(15)


def _read_password() -> str:
    line = sys.stdin.readline(2048).rstrip("\r\n")
    if not line:
        raise click.UsageError("--password-stdin: stdin is empty")
    return line


def _remove_others(known: Identities, found: Principal, made: Secret) -> None:
    for each in known.secrets(found):
        if each.id != made.id:
            known.remove_secret(found, each.id)


def _told(target: Target, shown: dict[str, Any], credentials: dict[str, Any]) -> dict[str, Any]:
    if credentials:
        target.say(f"the secret is {_CREATED}")
    return shown | credentials


def _credentials(secret: Secret) -> dict[str, Any]:
    """`password`, as `az ad sp create-for-rbac` calls it."""
    return {"password": secret.text, "keyId": secret.id, "endDateTime": _time(secret)}


def _listed(secret: Secret) -> dict[str, Any]:
    created = secret.created_at.isoformat().replace("+00:00", "Z")
    return {"keyId": secret.id, "hint": secret.hint, "startDateTime": created, "endDateTime": _time(secret)}


def _time(secret: Secret) -> str | None:
    return None if secret.ends_at is None else secret.ends_at.isoformat().replace("+00:00", "Z")


def _shown(principal: Principal) -> dict[str, Any]:
    kind = principal.resource.get("servicePrincipalType")
    return {
        "id": principal.id,
        "kind": "ManagedIdentity" if kind == "ManagedIdentity" else principal.kind,
        "displayName": principal.display_name,
        "appId": principal.app_id or None,
        "userPrincipalName": principal.name if principal.kind == "User" else None,
        "accountEnabled": principal.resource.get("accountEnabled", True),
    }


def _table(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "Kind": each["kind"],
            "Name": each["userPrincipalName"] or each["displayName"],
            "ClientId": each["appId"] or "",
            "ObjectId": each["id"],
            "Enabled": each["accountEnabled"],
        }
        for each in found
    ]

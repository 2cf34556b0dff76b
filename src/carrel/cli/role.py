"""`carrel role`: who may do what, as `az role` has it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from carrel.cli.azlike import AzCommand, NotFound, Several, az_failures, confirm, yes_option
from carrel.cli.output import Printer, output_options
from carrel.cli.target import Target, given, target_options, whole_or_group_option

if TYPE_CHECKING:
    from carrel.client import Management, RoleAssignment, RoleDefinition

_KINDS = ("User", "Group", "ServicePrincipal")
_SCOPE = "Where it holds: the id of a subscription, a resource group or a pool."


@click.group()
def role() -> None:
    """Who may do what."""


@role.group()
def assignment() -> None:
    """Give roles, list them, take them back."""


@role.group()
def definition() -> None:
    """The roles that there are."""


@definition.command("list", cls=AzCommand)
@click.option("-n", "--name", callback=given, metavar="ROLE", help="This one alone, by its name or id.")
@click.option(
    "--scope", callback=given, metavar="ID", help="Roles that can be given there; by default in the subscription."
)
@output_options()
@target_options
def list_definitions(name: str | None, scope: str | None, out: Printer, target: Target) -> None:
    """List roles, with what they allow."""
    with az_failures(_OPTIONS), target.management() as management:
        found = management.role_definitions(scope=scope, role=name)
    out([_definition(each) for each in found], _definitions_table)


@assignment.command(cls=AzCommand)
@click.option("--role", "role_name", callback=given, required=True, metavar="ROLE", help="Name or id of the role.")
@click.option(
    "--assignee",
    callback=given,
    metavar="WHO",
    help="A user's name, or a service principal's application or object id.",
)
@click.option(
    "--assignee-object-id", callback=given, metavar="GUID", help="The same by object id, which is not looked up."
)
@click.option(
    "--assignee-principal-type",
    type=click.Choice(_KINDS, case_sensitive=False),
    metavar=f"[{'|'.join(_KINDS)}]",
    help="What it is.",
)
@click.option("--scope", callback=given, metavar="ID", help=_SCOPE)
@whole_or_group_option
@click.option("--name", callback=given, metavar="GUID", help="The assignment's own name.")
@click.option("--description", metavar="TEXT", help="What it is for.")
@output_options()
@target_options
def create(
    role_name: str,
    assignee: str | None,
    assignee_object_id: str | None,
    assignee_principal_type: str | None,
    scope: str | None,
    resource_group: str | None,
    name: str | None,
    description: str | None,
    out: Printer,
    target: Target,
) -> None:
    """Give somebody a role. It holds within a second. One that they have there already is printed as it is."""
    from carrel.client import ApiError

    if bool(assignee) == bool(assignee_object_id):
        raise click.UsageError("--assignee or --assignee-object-id: whom is it for? one of them")
    with az_failures(_OPTIONS), target.management() as management:
        who, kind = str(assignee_object_id), assignee_principal_type
        if assignee:
            found = management.find_principal(assignee)
            who, kind = found.id, kind or found.kind
        where = _scope(management, scope, resource_group)
        try:
            given = management.assign_role(role_name, who, scope=where, kind=kind, name=name, description=description)
        except ApiError as error:
            if error.code != "RoleAssignmentExists":
                raise
            (given, *_) = _matching(management, where, who, role_name, False, False)
    out(_assignment(given))


@assignment.command("list", cls=AzCommand)
@click.option(
    "--assignee", callback=given, metavar="WHO", help="Whose: a user's name, an application id or an object id."
)
@click.option("--role", "role_name", callback=given, metavar="ROLE", help="Of this role alone.")
@click.option("--scope", callback=given, metavar="ID", help=_SCOPE)
@whole_or_group_option
@click.option("--all", "shows_all", is_flag=True, help="Those below as well.")
@click.option("--include-inherited", is_flag=True, help="Those from above as well.")
@output_options()
@target_options
def list_assignments(
    assignee: str | None,
    role_name: str | None,
    scope: str | None,
    resource_group: str | None,
    shows_all: bool,
    include_inherited: bool,
    out: Printer,
    target: Target,
) -> None:
    """List who has which role at a scope."""
    with az_failures(_OPTIONS), target.management() as management:
        where = _scope(management, scope, resource_group)
        found = _matching(management, where, assignee, role_name, shows_all, include_inherited)
        named = _with_names(management, found)
    out(named, _assignments_table)


@assignment.command(cls=AzCommand)
@click.option("--ids", cls=Several, multiple=True, metavar="ID", help="Assignments by id, several of them.")
@click.option(
    "--assignee", callback=given, metavar="WHO", help="Whose: a user's name, an application id or an object id."
)
@click.option("--role", "role_name", callback=given, metavar="ROLE", help="Of this role alone.")
@click.option("--scope", callback=given, metavar="ID", help=_SCOPE)
@whole_or_group_option
@click.option("--include-inherited", is_flag=True, help="Those from above as well.")
@yes_option
@target_options
def delete(
    ids: tuple[str, ...],
    assignee: str | None,
    role_name: str | None,
    scope: str | None,
    resource_group: str | None,
    include_inherited: bool,
    is_sure: bool,
    target: Target,
) -> None:
    """Take roles back. It holds within a second."""
    if not any((ids, assignee, role_name, scope, resource_group)):
        confirm("Delete all role assignments of the subscription?", is_sure)
    with az_failures(_OPTIONS), target.management() as management:
        where = _scope(management, scope, resource_group)
        found = ids or [each.id for each in _matching(management, where, assignee, role_name, False, include_inherited)]
        if not found:
            raise NotFound("no role assignment is like that: `carrel role assignment list` shows what there is")
        for each in found:
            management.remove_assignment(each)


def _scope(management: Management, scope: str | None, resource_group: str | None) -> str:
    if scope and resource_group:
        raise click.UsageError("--scope or --resource-group: one of them")
    return scope or management.scope(resource_group=resource_group)


def _matching(
    management: Management,
    scope: str,
    assignee: str | None,
    role_name: str | None,
    is_below: bool,
    is_inherited: bool,
) -> list[RoleAssignment]:
    """As az has it: those at the very scope, with those below or above where they are asked for."""
    who = _object_id(management, assignee) if assignee else None
    found = management.role_assignments(scope=scope, is_inherited=is_inherited)
    if is_inherited and is_below:
        found += [each for each in management.role_assignments(scope=scope) if each not in found]
    guid = management.role_id(role_name, scope=scope).rpartition("/")[2].lower() if role_name else None
    return [
        each
        for each in found
        if (who is None or each.principal_id.lower() == who.lower())
        and (guid is None or each.role_guid == guid)
        and _fits(each.scope, scope, is_below, is_inherited)
    ]


def _object_id(management: Management, who: str) -> str:
    """A GUID that the directory does not know is an object id of somebody else's directory."""
    from carrel.client import ApiError
    from carrel.client.arm_roles import GUID

    try:
        return management.find_principal(who).id
    except ApiError as error:
        if error.status == 404 and GUID.fullmatch(who):
            return who
        raise


def _fits(has: str, asked: str, is_below: bool, is_inherited: bool) -> bool:
    has, asked = f"{has.lower().rstrip('/')}/", f"{asked.lower().rstrip('/')}/"
    return has == asked or (is_below and has.startswith(asked)) or (is_inherited and asked.startswith(has))


def _with_names(management: Management, found: Sequence[RoleAssignment]) -> list[dict[str, Any]]:
    """Names are a help: where the directory or the roles may not be read there are none."""
    from carrel.client import ApiError

    roles: dict[str, str] = {}
    people: dict[str, str] = {}
    try:
        roles = {each.name.lower(): each.role for each in management.role_definitions()}
        ids = list(dict.fromkeys(each.principal_id for each in found))
        people = {each.id.lower(): each.name for each in management.principals(ids)}
    except ApiError as error:
        if error.status not in (401, 403, 404):
            raise
    return [
        {
            **_assignment(each),
            "principalName": people.get(each.principal_id.lower(), ""),
            "roleDefinitionName": roles.get(each.role_guid, ""),
        }
        for each in found
    ]


def _assignment(given: RoleAssignment) -> dict[str, Any]:
    """Flat, as az prints it."""
    outer = {name: value for name, value in given.resource.items() if name != "properties"}
    return {**outer, **given.resource.get("properties", {})}


def _definition(found: RoleDefinition) -> dict[str, Any]:
    bag = dict(found.resource.get("properties", {}))
    outer = {name: value for name, value in found.resource.items() if name != "properties"}
    return {**bag, **outer, "roleType": bag.get("type")}


def _definitions_table(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"Name": each.get("roleName"), "Type": each.get("type"), "Description": each.get("description")}
        for each in found
    ]


def _assignments_table(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "Principal": each.get("principalName") or each.get("principalId"),
            "Role": each.get("roleDefinitionName"),
            "Scope": each.get("scope"),
        }
        for each in found
    ]


_OPTIONS = {
    "principalId": "--assignee",
    "principalType": "--assignee-principal-type",
    "roleDefinitionId": "--role",
    "scope": "--scope",
    "ids": "--ids",
}

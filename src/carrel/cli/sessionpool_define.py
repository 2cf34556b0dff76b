"""`carrel sessionpool create` and `update`: how pools are to be."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click

from carrel.cli.azlike import AzCommand, Teller, az_failures, name_of, name_options, no_wait_option
from carrel.cli.output import Printer, output_options
from carrel.cli.pool_options import BY_PROPERTY, TYPES, check_container_type, definition_options
from carrel.cli.target import Target, group_option, target_options

if TYPE_CHECKING:
    from carrel.client import Management, PoolSettings, SessionPool


@click.command(cls=AzCommand)
@name_options
@group_option
@click.option("-l", "--location", metavar="LOCATION", help="Location; by default the server's.")
@click.option(
    "--container-type",
    type=click.Choice([*TYPES, "CustomContainer"], case_sensitive=False),
    metavar=f"[{'|'.join(TYPES)}]",
    default=TYPES[0],
    show_default=True,
    help="What runs in the sessions.",
)
@click.option("--environment", metavar="ID", help="For containers of your own, which are not run.")
@definition_options
@no_wait_option
@output_options()
@target_options
def create(
    positional: str | None,
    named: str | None,
    resource_group: str | None,
    location: str | None,
    container_type: str,
    environment: str | None,
    settings: PoolSettings,
    no_wait: bool,
    out: Printer,
    target: Target,
) -> None:
    """Make a session pool, wait until it serves, and print it. One of that name is set to what is given here."""
    name = name_of(positional, named)
    check_container_type(container_type, environment)
    wanted = replace(settings, container_type=container_type)
    with az_failures(BY_PROPERTY), target.management() as management, Teller(f"making pool {name}", target) as tell:
        pool = management.create_pool(
            name,
            wanted,
            location=location,
            resource_group=resource_group,
            is_waiting=not no_wait,
            on_progress=tell,
        )
        if not no_wait:
            _let_caller_execute(management, pool, target)
    out(dict(pool.resource))


@click.command(cls=AzCommand)
@name_options
@group_option
@definition_options
@no_wait_option
@output_options()
@target_options
def update(
    positional: str | None,
    named: str | None,
    resource_group: str | None,
    settings: PoolSettings,
    no_wait: bool,
    out: Printer,
    target: Target,
) -> None:
    """Change what is given here of a session pool; live sessions go on as they were.

    --image with the name of the pool's own moves it to the newest build of that.
    """
    name = name_of(positional, named)
    image, rest = _image_of(settings) if not no_wait else (None, settings)
    if not (settings.properties() or settings.tags is not None):
        raise click.UsageError("nothing to change: name at least one setting")
    with az_failures(BY_PROPERTY), target.management() as management, Teller(f"updating pool {name}", target) as tell:
        if rest.properties() or rest.tags is not None:
            management.update_pool(name, rest, resource_group=resource_group, is_waiting=not no_wait, on_progress=tell)
        if image is not None:
            _move(target, management.pool(name, resource_group=resource_group), image)
        pool = management.pool(name, resource_group=resource_group)
    out(dict(pool.resource))


def _image_of(settings: PoolSettings) -> tuple[str | None, PoolSettings]:
    """The image, and the settings without it."""
    carrel = dict(settings.carrel or {})
    return carrel.pop("image", None), replace(settings, carrel=carrel or None)


def _move(target: Target, pool: SessionPool, image: str) -> None:
    """By the route that can name a certain build, NAME@HASH, and the newest of the pool's own: a definition knows names of images only."""
    with target.operator(pool.endpoint) as client:
        client.set_image(image)


def _let_caller_execute(management: Management, pool: SessionPool, target: Target) -> None:
    """As az does: who makes a pool may run code in it. What fails here leaves a pool that works, so it is only said."""
    from carrel.client import ApiError
    from carrel.client.arm_roles import EXECUTOR

    try:
        me = management.me()
        held = management.role_assignments(scope=pool.id, is_inherited=True, principal=me.id)
        if not any(each.role_guid == EXECUTOR for each in held):
            management.assign_role(EXECUTOR, me.id, scope=pool.id, kind=me.kind)
    except ApiError as error:
        target.say(f"warning: you may not be allowed to run code in the pool: {error}")

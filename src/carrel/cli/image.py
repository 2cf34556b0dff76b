"""`carrel image`: make images, see what there is, and let go what nobody needs. Works on the images' folder, without a server."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from carrel.cli.options import load_config, state_option
from carrel.cli.output import Printer, output_options
from carrel.errors import CarrelError

if TYPE_CHECKING:
    from carrel.backends.imagestore import Build


def _folder_option(command: Any) -> Any:
    text = "Folder of built images.  [CARREL_IMAGES; default: ~/.local/share/carrel/images]"
    return click.option("--images", metavar="DIR", help=text)(command)


@click.group()
def image() -> None:
    """Make images for pools, and see what there is."""


@image.command()
@click.argument("source", metavar="FOLDER|NAME")
@click.option("--name", metavar="NAME", help="What pools call it; the folder's name by default.")
@click.option("--upgrade", is_flag=True, help="Choose Debian packages anew, by today's versions.")
@output_options("table")
@_folder_option
def build(source: str, name: str | None, upgrade: bool, out: Printer, images: str | None) -> None:
    """Build an image from FOLDER (image.toml and locks), so that pools may name it; or have NAME built that there is already.

    A build is whole or not there at all; pools that run keep the build they have until they are moved.
    """
    from carrel.backends import definitions, imagestore
    from carrel.backends import images as built

    where, folder = _images(images), Path(source)
    with _failures():
        if (folder / "image.toml").is_file():
            found = imagestore.register(folder, name or folder.resolve().name, where, _say, newest=upgrade)
        elif folder.is_dir() and source not in definitions.known(where):
            raise click.ClickException(f"{folder} has no image.toml")
        elif name:
            raise click.UsageError("--name goes with a folder")
        else:
            found = built.ensure_from(definitions.find(source, where), where, _say, newest=upgrade)
    (entry,) = [each for each in imagestore.builds(where) if each.reference == found.reference]
    if not out.is_table:
        return out(_fields(entry))
    return click.echo(f'{found.reference}: a pool takes it by carrel.image = "{found.name}"')


@image.command("list")
@output_options("table")
@_folder_option
@state_option
def list_images(out: Printer, images: str | None, state: str | None) -> None:
    """List images: what pools may name, and earlier builds that are still there."""
    from carrel.backends import imagestore

    where, pools = _images(images), _pools(state)
    entries = [{**_fields(each), "pools": pools.get(each.reference, [])} for each in imagestore.builds(where)]
    missing = [{"name": name, "reference": None, "status": "not built"} for name in imagestore.not_built(where)]
    out([*entries, *missing], _table)


def _table(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted((_row(each) for each in found), key=lambda row: str(row["Name"]))


def _row(each: dict[str, Any]) -> dict[str, Any]:
    is_built = each["reference"] is not None
    return {
        "Name": each["name"],
        "Hash": each["reference"].partition("@")[2] if is_built else "-",
        "Runtime": (" ".join(each["runtimes"][:1]) if is_built else "") or "-",
        "Size": f"{each['sizeBytes'] / 1e6:.0f} MB" if is_built else "-",
        "Built": each["builtAt"][:16] if is_built else "-",
        "Status": each["status"],
        "Pools": (", ".join(each["pools"]) if is_built else "") or "-",
    }


@image.command()
@click.argument("name", metavar="NAME[@HASH]")
@output_options("table")
@_folder_option
@state_option
def show(name: str, out: Printer, images: str | None, state: str | None) -> None:
    """Show one image: what is in it, how large, and which pools of the running server use it."""
    from carrel.backends import imagestore

    where, pools = _images(images), _pools(state)
    found = [each for each in imagestore.builds(where) if name in (each.name, each.reference)]
    if not found:
        known = name in imagestore.not_built(where)
        raise click.ClickException(
            f"{name} is not built yet: `carrel image build {name}` or the first pool that uses it does that"
            if known
            else f"there is no image {name}: `carrel image list` shows what there is"
        )
    fields = {**_fields(found[0]), "pools": pools.get(found[0].reference, [])}
    out(fields, _told)


def _told(fields: dict[str, Any]) -> list[dict[str, Any]]:
    rows = {
        **fields,
        "runtimes": ", ".join(fields["runtimes"]),
        "packages": f"{len(fields['packages'])}: {', '.join(fields['packages'])}",
        "pools": ", ".join(fields["pools"]) or "none",
        "preload": ", ".join(fields["preload"]) or "nothing",
    }
    return [{"Field": name, "Value": value} for name, value in rows.items()]


@image.command()
@click.argument("name", metavar="NAME[@HASH]")
@click.option("--force", is_flag=True, help="Also the build of an image that came with Carrel.")
@_folder_option
def remove(name: str, force: bool, images: str | None) -> None:
    """Remove an image that was built from a folder, or one build. What a running server uses stays."""
    from carrel.backends import imagestore

    with _failures():
        gone = imagestore.remove(name, _images(images), _say, force=force)
    click.echo(f"removed {', '.join(gone) or name}")


@image.command()
@_folder_option
def prune(images: str | None) -> None:
    """Remove builds that no name means any more and no running server uses."""
    from carrel.backends import imagestore

    with _failures():
        gone, freed = imagestore.prune(_images(images), _say)
    click.echo(f"removed {', '.join(gone) or 'nothing'} ({freed / 1e6:.0f} MB)")


def _fields(entry: Build) -> dict[str, Any]:
    found = entry.manifest
    software = found.software if found else None
    status = "in use" if entry.is_in_use else "current" if entry.is_current else "other build"
    return {
        "name": entry.name,
        "reference": entry.reference,
        "status": status,
        "isCurrent": entry.is_current,
        "description": found.description if found else "made by an older Carrel",
        "runtime": found.runtime if found else "",
        "runtimes": [f"{name} {version}".strip() for name, version in software.runtimes] if software else [],
        "packages": [f"{name} {version}" for name, version in software.packages] if software else [],
        "preload": list(found.preload) if found else [],
        "sizeBytes": found.size_bytes if found else 0,
        "content": f"sha256:{found.content}" if found else "",
        "builtAt": datetime.fromtimestamp(found.built_at, UTC).isoformat(timespec="seconds") if found else "",
    }


def _images(folder: str | None) -> Path:
    return load_config({"images": folder}).images


def _pools(state: str | None) -> dict[str, list[str]]:
    """Names of the pools of the running server that use an image, by its reference; empty where none runs."""
    import httpx

    from carrel.client import ApiError, Client, Connection, NotRunning

    found: dict[str, list[str]] = {}
    with contextlib.suppress(NotRunning, ApiError, httpx.HTTPError, OSError):
        folder = load_config({"state": state}).state
        for pool in Connection.read(folder).pools.values():
            with Client.from_connection(folder, pool=pool.name) as client:
                if used := client.metadata().image:
                    found.setdefault(used, []).append(pool.name)
    return found


def _say(line: str) -> None:
    click.echo(line, err=True)


@contextlib.contextmanager
def _failures() -> Any:
    try:
        yield
    except CarrelError as error:
        raise click.ClickException(error.message) from error

"""IMAGE on a command line: its grammar, and the image of an upstream that it names below a group."""

import asyncio
from typing import Annotated

import typer

from cache.oci.digest import Digest
from cache.oci.names import Tag
from gateway.cli.folder import read_groups
from gateway.cli.session import Session
from gateway.namespaces.image_text import parse_image
from gateway.namespaces.locate import ProxiedLocation, locate_image

IMAGE_HELP = "[UPSTREAM/]NAME[:TAG|@DIGEST]"
ImageArgument = Annotated[str, typer.Argument(metavar="IMAGE", help=IMAGE_HELP)]
GroupOption = Annotated[str, typer.Option("--group", metavar="G", help="The group below which it is pulled.")]


def locate_argument(session: Session, text: str, group: str) -> tuple[ProxiedLocation, Tag | Digest | None]:
    """Locate an IMAGE below a group; the reference is None where it has none.

    Raises RegistryError, Refused, DatabaseUnusable.
    """
    name, reference = parse_image(text)
    groups = {found.path: found for found in asyncio.run(read_groups(session.settings))}
    return locate_image(name, group, groups, list(session.settings.upstreams)), reference

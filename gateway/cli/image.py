"""IMAGE on a command line: its grammar, and the image of an upstream that it names below a group."""

import asyncio
from typing import Annotated

import typer

from cache.oci.digest import Digest
from cache.oci.names import Tag
from gateway.cli.folder import read_groups
from gateway.cli.session import Session
from gateway.namespaces.locate import ProxiedLocation, locate_image

IMAGE_HELP = "[UPSTREAM/]NAME[:TAG|@DIGEST]"
ImageArgument = Annotated[str, typer.Argument(metavar="IMAGE", help=IMAGE_HELP)]
GroupOption = Annotated[str, typer.Option("--group", metavar="G", help="The group below which it is pulled.")]


def split_image(text: str) -> tuple[str, str]:
    """Split `[UPSTREAM/]NAME[:TAG|@DIGEST]` into name and reference, as written; an omitted reference is empty.

    Of a tag and a digest the digest counts, as it does for clients.
    """
    name, at, digest = text.partition("@")
    name, _, tag = name.partition(":")
    return name, f"@{digest}" if at else tag


def parse_image(text: str) -> tuple[str, Tag | Digest | None]:
    """Parse name and reference, which is None if omitted. Raises TagInvalid, DigestInvalid; the name is not checked."""
    name, reference = split_image(text)
    if reference.startswith("@"):
        return name, Digest.parse(reference[1:])
    is_named = bool(reference) or text.endswith(":")  # an empty variable of a script must not mean the whole image
    return name, Tag.parse(reference) if is_named else None


def locate_argument(session: Session, text: str, group: str) -> tuple[ProxiedLocation, Tag | Digest | None]:
    """Locate an IMAGE below a group; the reference is None where it has none.

    Raises RegistryError, Refused, DatabaseUnusable.
    """
    name, reference = parse_image(text)
    groups = {found.path: found for found in asyncio.run(read_groups(session.settings))}
    return locate_image(name, group, groups, list(session.settings.upstreams)), reference

"""`cache refresh` and `cache verify`: what fetches from upstreams."""

import asyncio
import threading
from typing import Annotated

import typer

from cache.oci.digest import Digest
from cache.retention.scrub import ReadLimiter
from gateway.cli import folder
from gateway.cli.cache import open_admin
from gateway.cli.image import GroupOption, ImageArgument
from gateway.cli.output import Document, print_line, progress_bar
from gateway.cli.plain_options import plain_app
from gateway.cli.refusals import Refused, complain
from gateway.cli.session import Session, with_session
from gateway.inspection.cached_content import LATEST
from gateway.maintenance.heal import Healer
from gateway.maintenance.refresh import refresh_tag
from gateway.maintenance.verify import Verification, heal_findings, verify_cache
from gateway.namespaces.group import HUB
from gateway.namespaces.image_text import parse_image
from gateway.observability import logs
from gateway.repositories import find_image
from gateway.settings.units import parse_rate
from gateway.wiring.lifespan import open_services

app = plain_app()


@app.command()
@with_session
def refresh(session: Session, image: ImageArgument, group: GroupOption = HUB) -> None:
    """Revalidate a tag at the upstream now, however fresh it is, and fetch its manifest."""
    asyncio.run(_refresh(session, image, group))


async def _refresh(session: Session, text: str, group: str) -> None:
    await folder.require(session.settings)
    logs.configure(session.settings.log_format)
    name, reference = parse_image(text)
    if isinstance(reference, Digest):
        raise Refused(f"{text} names a digest, whose content never changes: name a tag")
    tag = reference or LATEST
    async with open_services(session.settings) as services:
        location = await find_image(name, group, services)
        refreshed = await refresh_tag(location, tag, services)
    old, new = refreshed.before, refreshed.manifest.descriptor.digest
    session.print(
        {
            "upstream": location.upstream,
            "image": str(location.image),
            "tag": str(tag),
            "old_digest": str(old) if old else None,
            "digest": str(new),
            "changed": old != new,
        },
        lambda: print(
            f"{location.image}:{tag} still is {new}"
            if old == new
            else f"{location.image}:{tag} was {old or 'not cached'}, now is {new}"
        ),
    )


@app.command()
@with_session
def verify(
    session: Session,
    heal: Annotated[bool, typer.Option("--heal/--no-heal", help="Fetch damaged content again.")] = True,
    rate: Annotated[str, typer.Option(metavar="SIZE", help="Bytes read per second at most; 0: no limit.")] = "0",
) -> None:
    """Read all cached content, quarantine damaged files and fetch them again; exit code 1 if there were any."""
    try:
        limit = parse_rate(rate).number
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--rate") from error
    logs.configure(session.settings.log_format)
    total = open_admin(session).totals().bytes
    with progress_bar("verifying", total) as progress:
        result = verify_cache(session.folder, ReadLimiter(limit, threading.Event()), progress)
    healed = asyncio.run(_heal(session, result)) if heal and result.findings else 0
    document: Document = {
        "checked": result.checked,
        "bytes": result.bytes,
        "damaged": len(result.findings) - result.missing,
        "missing": result.missing,
        "orphaned": result.orphaned,
        "healed": healed,
    }
    session.print(document, lambda: print_line(document))
    if result.findings:
        complain(
            f"damage was found in {len(result.findings)} of {result.checked}, {healed} were fetched again: "
            f"look at the disk, and into {session.folder.quarantine}"
        )
        raise typer.Exit(1)


async def _heal(session: Session, result: Verification) -> int:
    async with open_services(session.settings) as services:
        return await heal_findings(
            Healer(services.directory, services.upstreams, services.pull_through), result.findings
        )

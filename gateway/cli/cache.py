"""`cache`: shows, pins and evicts cached content."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from cache.index.admin import CacheAdmin
from cache.index.happenings import Happening, HappeningLog
from cache.index.sql import MIGRATIONS
from cache.index.usage import UsageFile
from cache.oci.digest import Digest
from cache.oci.names import Tag
from cache.retention.eviction import ImageEviction, evict_unlinked, find_unlinked, freed_bytes
from cache.sqlite import file_bytes, set_up
from cache.store.filesystem import FilesystemStore
from cache.store.quarantine import Quarantine
from cache.upstream.urls import registry_of
from cache.values import ImageKey, Registry
from gateway.cli import folder
from gateway.cli.confirmation import YesOption, confirm
from gateway.cli.image import IMAGE_HELP, GroupOption, ImageArgument, locate_argument
from gateway.cli.output import Document, byte_count, print_columns, print_values, time_text
from gateway.cli.plain_options import plain_app
from gateway.cli.readable import cell, short_digest
from gateway.cli.refusals import Refused, complain
from gateway.cli.session import Session, with_session
from gateway.inspection.cached_content import CacheView, ContentReport
from gateway.inspection.explain import Explanation, ImagePart
from gateway.inspection.explain import explain as explain_image
from gateway.inspection.figures import figures
from gateway.maintenance.evict import evict_images, plan_evictions
from gateway.namespaces.group import HUB
from gateway.namespaces.locate import ProxiedLocation
from gateway.settings.units import format_bytes
from gateway.wiring.values import tag_rules

_PIN_COLUMNS = ["upstream", "image", "pinned", "blobs", "bytes"]
_LIST_COLUMNS = ["upstream", "image", "tag", "digest", "bytes", "state", "last_used", "pinned"]

app = plain_app()


@app.command()
@with_session
def status(session: Session) -> None:
    """Show how much is cached, and how many pulls were served in the last thirty days."""
    totals = asdict(open_admin(session).totals())
    other = {
        "database_bytes": file_bytes(session.folder.index) + file_bytes(session.folder.usage),
        "quarantine_bytes": Quarantine(session.folder.quarantine).size(),
    }
    served = figures(UsageFile(session.folder.usage).pulls())
    upstreams = [{"upstream": name, **asdict(own)} for name, own in served.upstreams.items()]
    document = {**totals, **other, "since": served.since, **asdict(served.total), "upstreams": upstreams}
    session.print(document, lambda: print_values(document))


@app.command("list")
@with_session
def list_all(session: Session) -> None:
    """List the cached tags, with their age and size."""
    reports = _open_view(session).list_tags()
    documents = [_content_document(report) for report in reports]
    names = _upstream_names(session)
    shown = [
        {**document, "upstream": names.get(report.registry, report.registry), "digest": short_digest(report.digest)}
        for document, report in zip(documents, reports, strict=True)
    ]
    session.print(documents, lambda: print_columns(shown, _LIST_COLUMNS))


@app.command()
@with_session
def explain(session: Session, image: ImageArgument, group: GroupOption = HUB) -> None:
    """Explain what is cached of an image, how old it is, and how a pull would be served."""
    view = _open_view(session)
    location, reference = locate_argument(session, image, group)
    named = _image_key(session, location, reference)
    from gateway.cli.idle_settings import find_idle_settings  # it knows the clients of upstreams, as this command does

    for idle in find_idle_settings(session.settings):
        if idle.concerns & {location.group.path, location.upstream}:
            complain(f"warning: {idle.reason}: {idle.remedy}")
    document = _explanation_document(explain_image(view, location, named))
    session.print(document, lambda: print_values(document))


@app.command()
@with_session
def evict(
    session: Session,
    image: Annotated[str | None, typer.Argument(metavar="IMAGE", help=IMAGE_HELP)] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Evict everything that is cached and not pinned.", show_default=False)
    ] = False,
    group: GroupOption = HUB,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be evicted, and evict nothing.", show_default=False)
    ] = False,
    yes: YesOption = False,
) -> None:
    """Evict an image, a tag or everything from the cache; the next pull fetches it again. What is pinned stays.

    --all asks first on a terminal, and needs --yes elsewhere.
    """
    if (image is None) == (not everything):
        raise typer.BadParameter("give an IMAGE or --all", param_hint="IMAGE")
    admin = open_admin(session)
    images = [ImageKey(*key) for key in admin.images()] if image is None else [_named_image(session, image, group)]
    planned = plan_evictions(images, admin)
    if dry_run:
        freed = freed_bytes(admin, planned) + (sum(find_unlinked(admin).values()) if everything else 0)
    else:
        if everything:
            confirm(f"evict all {format_bytes(admin.totals().bytes)} of the cache but what is pinned", yes)
        freed = _evict(session, admin, planned, everything)
    tags, kept = sum(len(one.tags) for one in planned), _kept_documents(admin, planned)
    if image is not None and not (tags or freed or kept):
        raise Refused(f"nothing of {image} is cached below group {group}: `registry-gateway cache list` shows what is")
    if image is not None and not (tags or freed):
        pins = ", ".join(f"the pin of {one['reference'] or 'the whole image'}" for one in kept)
        raise Refused(f"nothing of {image} was evicted, since {pins} keeps it: `registry-gateway cache unpin` drops it")
    done = "would evict" if dry_run else "evicted"
    session.print(
        {"tags": tags, "bytes": freed, "kept": kept},
        lambda: _print_evicted(f"{done} {tags} tags, {format_bytes(freed)}", kept),
    )


def _evict(session: Session, admin: CacheAdmin, planned: Sequence[ImageEviction], everything: bool) -> int:
    store, happenings = FilesystemStore(session.folder.blobs), HappeningLog(session.folder.usage)
    with byte_count("evicting") as progress:
        reason, now = "by the command `cache evict`", datetime.now(UTC)
        freed = evict_images(planned, admin, store, happenings, reason, now, progress)
        if everything:
            freed += evict_unlinked(admin, store, progress)
            admin.sweep_records(time.time())
        return freed


def _kept_documents(admin: CacheAdmin, planned: Sequence[ImageEviction]) -> list[Document]:
    return [
        {
            "upstream": str(one.image.source.registry),
            "image": str(one.image.name),
            "reference": reference,
            "bytes": sum(admin.sizes(digests).values()),
        }
        for one in planned
        for reference, digests in sorted(one.kept.items())
    ]


def _print_evicted(text: str, kept: Sequence[Document]) -> None:
    print(text)
    for one in kept:
        size = cell("bytes", one["bytes"], datetime.now(UTC))
        print(f"kept {size} of {one['image']}, pinned: {one['reference'] or 'all of it'}")


@app.command("pins")
@with_session
def list_pins(session: Session) -> None:
    """List the pins, and how much each protects now."""
    admin, names = open_admin(session), _upstream_names(session)
    documents: list[Document] = []
    shown: list[Document] = []
    for source, image, reference, digests in admin.all_pins():
        sizes = admin.sizes(digests)
        protected: Document = {"protected": len(sizes), "protected_bytes": sum(sizes.values())}
        key = {"upstream": str(source.registry), **_pin_document(ImageKey(source, image), True), "reference": reference}
        documents.append({**key, **protected})
        upstream = names.get(source.registry, str(source.registry))
        more = {"pinned": reference or "all of it", "blobs": len(sizes), "bytes": protected["protected_bytes"]}
        shown.append({"upstream": upstream, "image": str(image), **more})
    session.print(documents, lambda: print_columns(shown, _PIN_COLUMNS))


@app.command()
@with_session
def pin(session: Session, image: ImageArgument, group: GroupOption = HUB) -> None:
    """Exempt an image, or the content of a tag or digest, from eviction, whatever space it takes."""
    admin, named = open_admin(session), _named_image(session, image, group)
    sizes = admin.sizes(admin.pin(named.source, named.name, str(named.reference or "")))
    protected = f"{len(sizes)} cached manifests and blobs, {format_bytes(sum(sizes.values()))}, are protected"
    nothing = "nothing of it is cached under that name yet, and nothing is protected before it is pulled by it"
    document = {**_pin_document(named, True), "protected": len(sizes), "protected_bytes": sum(sizes.values())}
    session.print(document, lambda: print(f"pinned {image}: {protected if sizes else nothing}"))


@app.command()
@with_session
def unpin(session: Session, image: ImageArgument, group: GroupOption = HUB) -> None:
    """Remove a pin, named as it was set."""
    admin, named = open_admin(session), _named_image(session, image, group)
    if not admin.unpin(named.source, named.name, str(named.reference or "")):
        pinned = ", ".join(reference or "all of it" for reference in admin.pins(named.source, named.name))
        raise Refused(f"{image} is not pinned below group {group}: pinned of it is {pinned or 'nothing'}")
    session.print(_pin_document(named, False), lambda: print(f"unpinned {image}"))


def open_admin(session: Session) -> CacheAdmin:
    """Open the records of the cache for a command. Raises Refused if there is no data folder."""
    asyncio.run(folder.require(session.settings))
    set_up(session.folder.index, MIGRATIONS)
    return CacheAdmin(session.folder.index)


def _open_view(session: Session) -> CacheView:
    admin, usage = open_admin(session), session.folder.usage
    store, used = FilesystemStore(session.folder.blobs), UsageFile(usage).last_used()
    return CacheView(admin, store, HappeningLog(usage), used, tag_rules(session.settings), datetime.now(UTC))


def _named_image(session: Session, text: str, group: str) -> ImageKey:
    location, reference = locate_argument(session, text, group)
    return _image_key(session, location, reference)


def _upstream_names(session: Session) -> dict[Registry, str]:
    """The names that the settings give to registries."""
    return {registry_of(upstream.url): name for name, upstream in session.settings.upstreams.items()}


def _image_key(session: Session, location: ProxiedLocation, reference: Tag | Digest | None) -> ImageKey:
    """The key of an image for the group's credential. Commands that name no image need no clients of upstreams."""
    from gateway.keys.sealing import KEYS_DIRECTORY, Sealer
    from gateway.repositories import image_key
    from gateway.upstreams import Upstreams
    from gateway.wiring.upstreams import configured_upstreams

    settings = session.settings
    upstreams = Upstreams(configured_upstreams(settings), Sealer(settings.data / KEYS_DIRECTORY))
    return image_key(location, reference, upstreams)


def _pin_document(image: ImageKey, pinned: bool) -> Document:
    return {"image": str(image.name), "reference": str(image.reference or ""), "pinned": pinned}


def _content_document(report: ContentReport) -> Document:
    return {
        "upstream": str(report.registry),
        "image": str(report.image),
        "tag": str(report.tag or ""),
        "digest": str(report.digest) if report.digest else None,
        "bytes": report.bytes,
        "checked_at": time_text(report.checked_at),
        "last_used": time_text(report.last_used),
        "pinned": report.pinned,
        "state": report.state.value,
        "reason": report.reason,
    }


def _explanation_document(explanation: Explanation) -> Document:
    history = explanation.history
    return {
        **_content_document(explanation.content),
        "next_pull": explanation.next_pull,
        "last_refusal": _event_document(history.last_refusal, "times") if history.last_refusal else None,
        "last_wait": _event_document(history.last_wait, "seconds") if history.last_wait else None,
        "evictions": [_event_document(event, "bytes") for event in history.evictions],
        "last_fill": _fill_document(history.last_fill) if history.last_fill else None,
        "slow": history.slow,
        "parts": [_part_document(part) for part in explanation.parts],
        "gate": explanation.gate.state.value,
        "gate_reason": explanation.gate.reason,
    }


def _event_document(event: Happening, count: str) -> Document:
    return {"at": time_text(event.at), "of": event.subject, "reason": event.reason, count: getattr(event, count)}


def _fill_document(event: Happening) -> Document:
    return {
        "at": time_text(event.at),
        "digest": event.subject,
        "bytes": event.bytes,
        "seconds": round(event.seconds, 3),
        "bytes_per_second": round(event.bytes / max(event.seconds, 1e-6)),
    }


def _part_document(part: ImagePart) -> Document:
    return {
        "role": part.role,
        "digest": str(part.digest),
        "size": part.size,
        "of": str(part.parent) if part.parent else None,
        "here": part.cached,
    }

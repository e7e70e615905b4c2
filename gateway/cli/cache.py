"""`cache`: what was pulled through, how fresh it is, and taking it out again."""

import asyncio
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from cache.index.admin import CacheAdmin
from cache.index.happenings import Happening, HappeningKind, HappeningLog
from cache.index.sql import MIGRATIONS
from cache.index.usage import UsageFile
from cache.oci.digest import Digest
from cache.oci.errors import RegistryError
from cache.oci.names import RepositoryName, Tag
from cache.policy.freshness import Freshness, decide
from cache.proxy.repository import Refreshed
from cache.retention.eviction import evict_image
from cache.sqlite import migrate
from cache.store.filesystem import FilesystemStore
from cache.values import Source, TagPointer
from gateway.cli.config import load_settings
from gateway.cli.folder import open_existing
from gateway.cli.image import open_image, split_image
from gateway.cli.output import AsJson, ConfigFile, DataFolder, Refused, print_json, print_table, refusals
from gateway.cli.warm import warm_list
from gateway.data_folder import CacheFolder
from gateway.db import groups
from gateway.inspection.explain import Part, happenings, missing, parts_of
from gateway.inspection.figures import figures
from gateway.inspection.verdicts import explain_gate
from gateway.keys.sealing import KEYS_DIRECTORY, Sealer
from gateway.namespaces.group import HUB, Group
from gateway.namespaces.locate import ProxiedLocation, locate
from gateway.namespaces.paths import PROXY_SEPARATOR
from gateway.settings.load import Settings
from gateway.settings.units import format_duration
from gateway.upstreams import Upstreams
from gateway.wiring.from_settings import configured_upstreams, tag_rules

LATEST = Tag("latest")

app = typer.Typer(no_args_is_help=True, help="Show and empty the cache.", rich_markup_mode=None)

app.command("warm")(warm_list)

ImageName = Annotated[str, typer.Argument(metavar="IMAGE", help="[UPSTREAM/]NAME[:TAG|@DIGEST]")]
GroupOption = Annotated[str, typer.Option("--group", metavar="G", help="The group below which it was pulled.")]


@dataclass(frozen=True, slots=True)
class Image:
    """What the words of a command name, as the cache knows it."""

    source: Source
    name: RepositoryName
    reference: Tag | Digest | None


@app.command()
def status(config: ConfigFile = None, data: DataFolder = None, as_json: AsJson = False) -> None:
    """Show how much is cached, and how many pulls it answered in the last thirty days."""
    with refusals():
        settings = load_settings(config, data)
        totals = open_inventory(settings).totals()
        served = figures(UsageFile(CacheFolder(settings.data).usage).pulls())
    document: dict[str, object] = {
        "bytes": totals.bytes,
        "blobs": totals.blobs,
        "manifests": totals.manifests,
        "images": totals.images,
        "tags": totals.tags,
        **served,
    }
    if as_json:
        print_json(document)
    else:
        print_table(["", "Value"], _rows(document))


@app.command("list")
def list_all(config: ConfigFile = None, data: DataFolder = None, as_json: AsJson = False) -> None:
    """List the tags that are cached, with their age and size."""
    with refusals():
        settings = load_settings(config, data)
        inventory = open_inventory(settings)
        used = UsageFile(CacheFolder(settings.data).usage).last_used()
        documents = [_describe(pointer, inventory, used, settings) for pointer in inventory.pointers()]
    if as_json:
        print_json(documents)
    else:
        columns = ["image", "tag", "digest", "bytes", "state", "last_used", "pinned"]
        print_table([column.capitalize() for column in columns], [[str(d[c]) for c in columns] for d in documents])


@app.command()
def explain(
    image: ImageName,
    group: GroupOption = HUB,
    config: ConfigFile = None,
    data: DataFolder = None,
    as_json: AsJson = False,
) -> None:
    """Say what is cached of an image, how old it is, and how a pull would be answered."""
    with refusals():
        settings = load_settings(config, data)
        inventory = open_inventory(settings)
        named = named_image(settings, image, group)
        used = UsageFile(CacheFolder(settings.data).usage).last_used()
        document = _explain(named, inventory, used, settings) | _explain_parts(named, inventory, settings)
        location, _ = _location(settings, image, group)
        if location.group.fresh_only and document["state"] == "stale":
            document |= {"state": "expired", "reason": f"{document['reason']} elsewhere: group {group} is fresh-only"}
        store = FilesystemStore(CacheFolder(settings.data).blobs)
        verdict = explain_gate(
            location, named.source, named.reference or LATEST, inventory, store.read_bytes, datetime.now(UTC)
        )
        document |= {"gate": verdict.state.value, "gate_reason": verdict.reason}
    if as_json:
        print_json(document)
    else:
        print_table(["", "Value"], _rows(document))


@app.command()
def refresh(
    image: ImageName,
    group: GroupOption = HUB,
    config: ConfigFile = None,
    data: DataFolder = None,
    as_json: AsJson = False,
) -> None:
    """Ask the upstream now where a tag points, and fetch its manifest, whatever is fresh here."""
    with refusals():
        settings = load_settings(config, data)
        named, refreshed = asyncio.run(_refresh(settings, image, group))
    before, after = refreshed.before, refreshed.manifest.descriptor.digest
    if as_json:
        old = str(before) if before else None
        print_json({**named, "old_digest": old, "digest": str(after), "changed": before != after})
    elif before == after:
        print(f"{named['image']}:{named['tag']} still is {after}")
    else:
        print(f"{named['image']}:{named['tag']} was {before or 'not here'}, now is {after}")


async def _refresh(settings: Settings, text: str, group: str) -> tuple[dict[str, object], Refreshed]:
    """Raises Refused."""
    async with open_image(settings, text, group) as (location, reference, repository):
        if isinstance(reference, Digest):
            raise Refused(f"{text} names a digest, which never means anything else: name a tag")
        tag = reference or LATEST
        refreshed = await repository.refresh(tag)
    return {"upstream": location.upstream, "image": str(location.image), "tag": str(tag)}, refreshed


@app.command()
def evict(
    image: Annotated[str | None, typer.Argument(metavar="IMAGE", help="[UPSTREAM/]NAME[:TAG|@DIGEST]")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Take out all that is cached.", show_default=False)] = False,
    group: GroupOption = HUB,
    config: ConfigFile = None,
    data: DataFolder = None,
    as_json: AsJson = False,
) -> None:
    """Take an image, a tag or everything out of the cache; the next pull fetches it again."""
    if (image is None) == (not everything):
        raise typer.BadParameter("give an IMAGE or --all", param_hint="IMAGE")
    with refusals():
        settings = load_settings(config, data)
        inventory = open_inventory(settings)
        named = [] if image is None else [named_image(settings, image, group)]
        targets = [Image(*key, None) for key in inventory.images()] if everything else named
        tags, freed = _evict(targets, inventory, settings)
        if named and not (tags or freed):
            raise Refused(
                f"nothing of {image} is cached below group {group}: `registry-gateway cache list` shows what is"
            )
    if as_json:
        print_json({"tags": tags, "bytes": freed})
    else:
        print(f"evicted {tags} tags and {freed} bytes")


def _evict(targets: list[Image], inventory: CacheAdmin, settings: Settings) -> tuple[int, int]:
    folder = CacheFolder(settings.data)
    store, chronicle = FilesystemStore(folder.blobs), HappeningLog(folder.usage)
    tags = freed = 0
    with _progress("evicting") as advance:
        for target in targets:
            counts = evict_image(inventory, store, target.source, target.name, target.reference, advance)
            tags, freed = tags + counts[0], freed + counts[1]
            if any(counts):
                subject, reason = str(target.reference or ""), "by the command `cache evict`"
                chronicle.note(
                    Happening(
                        HappeningKind.EVICTED, datetime.now(UTC), target.source, target.name, subject, reason, counts[1]
                    )
                )
    chronicle.flush()
    return tags, freed


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int], None]]:
    """A line that counts bytes on a terminal, nothing elsewhere."""
    with Progress("{task.description}", "{task.completed} bytes", disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task(what, total=None)
        yield lambda size: progress.advance(task, size)


def open_inventory(settings: Settings) -> CacheAdmin:
    """Raises Refused where there is no data folder."""
    folder = CacheFolder(settings.data)
    asyncio.run(_require(settings.data))
    migrate(folder.index, MIGRATIONS)
    return CacheAdmin(folder.index)


async def _require(data: Path) -> None:
    async with open_existing(data):
        pass


def named_image(settings: Settings, text: str, group: str) -> Image:
    """Raises Refused for what is no image's name, or leads to no upstream."""
    location, reference = _location(settings, text, group)
    upstreams = Upstreams(configured_upstreams(settings), Sealer(settings.data / KEYS_DIRECTORY))
    return Image(upstreams.source(location.group, location.upstream), location.image, reference)


def _location(settings: Settings, text: str, group: str) -> tuple[ProxiedLocation, Tag | Digest | None]:
    """Raises Refused."""
    try:
        name, reference = split_image(text)
        tree = asyncio.run(_groups(settings.data))
        location = locate(RepositoryName.parse(f"{group}{PROXY_SEPARATOR}{name}"), tree, list(settings.upstreams))
    except RegistryError as error:
        raise Refused(str(error)) from error
    if not isinstance(location, ProxiedLocation):
        raise Refused(f"{text} is no image of an upstream")
    return location, reference


async def _groups(data: Path) -> dict[str, Group]:
    async with open_existing(data) as database, database.read() as connection:
        return {group.path: group for group in await groups.list_all(connection)}


def _explain(
    named: Image, inventory: CacheAdmin, used: dict[Digest, datetime], settings: Settings
) -> dict[str, object]:
    """Of one tag, `latest` where none is named, or of one digest."""
    if isinstance(named.reference, Digest):
        held = named.reference in inventory.linked(named.source, named.name)
        return _describe_digest(named, named.reference, held, inventory, used)
    tag = named.reference or LATEST
    pointer = next((p for p in inventory.pointers(named.source, named.name) if p.tag == tag), None)
    if pointer is not None:
        return _describe(pointer, inventory, used, settings)
    reason = f"nothing is cached: the next pull asks {named.source.origin.host}"
    absent = {"digest": None, "bytes": 0, "checked_at": None, "last_used": None}
    pinned = bool(inventory.pins(named.source, named.name) & {"", str(tag)})
    known = {"upstream": str(named.source.origin), "image": str(named.name), "tag": str(tag), **absent}
    return {**known, "pinned": pinned, "state": "absent", "reason": reason}


def _explain_parts(named: Image, inventory: CacheAdmin, settings: Settings) -> dict[str, object]:
    """What is here of it, what happened to it, and what a pull would fetch beside the first manifest."""
    folder = CacheFolder(settings.data)
    store, reference = FilesystemStore(folder.blobs), named.reference or LATEST
    pointers = inventory.pointers(named.source, named.name)
    root = next((p.target for p in pointers if p.tag == reference), None)
    if isinstance(reference, Digest):
        manifest = inventory.manifest(reference)
        root = manifest.descriptor if manifest else None
    parts: list[Part] = []
    if root is not None:
        parts = parts_of(inventory, named.source, named.name, root, lambda digest: store.stat(digest) is not None)
    subjects = {str(reference), *(str(part.digest) for part in parts)}
    happened = happenings(HappeningLog(folder.usage), named.source, named.name, subjects)
    return {"next_pull": missing(parts), **happened, "parts": [part.document() for part in parts]}


def _rows(document: Mapping[str, object]) -> list[tuple[str, str]]:
    """One for each value, and for each entry of a list."""
    rows: list[tuple[str, str]] = []
    for key, value in document.items():
        entries = value if isinstance(value, list) else [value]
        rows += [(key, _in_words(entry)) for entry in entries]
    return rows


def _in_words(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items() if item is not None)
    return "-" if value is None else str(value)


def _describe(
    pointer: TagPointer, inventory: CacheAdmin, used: dict[Digest, datetime], settings: Settings
) -> dict[str, object]:
    digest = pointer.target.digest
    linked = inventory.linked(pointer.source, pointer.image)
    closure = inventory.closure([digest]) & linked
    now = datetime.now(UTC)
    state, reason = _state(pointer, digest in linked and inventory.manifest(digest) is not None, now, settings)
    last = max((used[d] for d in closure if d in used), default=None)
    pins = inventory.pins(pointer.source, pointer.image)
    return {
        "upstream": str(pointer.source.origin),
        "image": str(pointer.image),
        "tag": str(pointer.tag),
        "digest": str(digest),
        "bytes": sum(inventory.sizes(closure).values()),
        "checked_at": pointer.checked_at.isoformat(timespec="seconds"),
        "last_used": last.isoformat(timespec="seconds") if last else None,
        "pinned": bool(pins & {"", str(pointer.tag), str(digest)}),
        "state": state,
        "reason": reason,
    }


def _describe_digest(
    named: Image, digest: Digest, linked: bool, inventory: CacheAdmin, used: dict[Digest, datetime]
) -> dict[str, object]:
    size = sum(inventory.sizes(inventory.closure([digest])).values()) if linked else 0
    last = used.get(digest)
    here = linked and digest in inventory.sizes([digest])
    return {
        "upstream": str(named.source.origin),
        "image": str(named.name),
        "tag": "",
        "digest": str(digest),
        "bytes": size,
        "checked_at": None,
        "last_used": last.isoformat(timespec="seconds") if last else None,
        "pinned": bool(inventory.pins(named.source, named.name) & {"", str(digest)}),
        "state": "fresh" if here else "absent",
        "reason": "a digest that is here is served without asking" if here else "the next pull asks the upstream",
    }


def _state(pointer: TagPointer, held: bool, now: datetime, settings: Settings) -> tuple[str, str]:
    rule, grace = tag_rules(settings).rule(pointer.source, pointer.image, pointer.tag), settings.cache.grace
    ttl = rule.ttl
    age = f"{pointer.checked_at.isoformat(timespec='seconds')}, {int((now - pointer.checked_at).total_seconds())} s ago"
    if not held:
        return "known", f"a HEAD told where it points ({age}), but its manifest was never pulled"
    freshness = decide(pointer, now, rule, grace)
    if freshness is Freshness.FRESH:
        return "fresh", f"confirmed {age}, within the ttl of {format_duration(ttl)}: served without asking"
    if rule.fresh_only:
        return "expired", f"confirmed {age}: a rule for this tag demands that the upstream confirms it"
    if freshness is Freshness.REVALIDATE:
        return "stale", f"confirmed {age}: the upstream is asked, and where it fails this is served as STALE"
    return "expired", f"confirmed {age}, longer than ttl and grace: the upstream must confirm it"

"""`cache pin`, `cache unpin`, `cache verify`: what stays, and whether it is still what was pulled."""

import asyncio
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

from cache.index.maintenance import CacheMaintenance
from cache.index.usage import UsageFile
from cache.oci.digest import Digest
from cache.retention.scrub import Finding, Inspector, ReadLimiter
from cache.retention.sweep import prefixes
from cache.store.filesystem import FilesystemStore
from cache.store.paths import blob_digest
from cache.store.quarantine import Quarantine
from gateway.cli import cache
from gateway.cli.cache import GroupOption, ImageName, named_image, open_inventory
from gateway.cli.config import load_settings
from gateway.cli.output import AsJson, ConfigFile, DataFolder, Refused, print_json, refusals
from gateway.data_folder import CacheFolder
from gateway.maintenance.heal import Healer
from gateway.namespaces.group import HUB
from gateway.observability import logs
from gateway.settings.load import Settings
from gateway.settings.units import parse_rate
from gateway.wiring.lifespan import open_services

PAGE = 500

app = cache.app


@app.command()
def pin(
    image: ImageName,
    group: GroupOption = HUB,
    config: ConfigFile = None,
    data: DataFolder = None,
    as_json: AsJson = False,
) -> None:
    """Keep all of an image, or what a tag or a digest stands for, whatever it costs in space."""
    with refusals():
        settings = load_settings(config, data)
        inventory, named = open_inventory(settings), named_image(settings, image, group)
        inventory.pin(named.source, named.name, str(named.reference or ""))
    if as_json:
        print_json({"image": str(named.name), "reference": str(named.reference or ""), "pinned": True})
    else:
        print(f"pinned {image}")


@app.command()
def unpin(
    image: ImageName,
    group: GroupOption = HUB,
    config: ConfigFile = None,
    data: DataFolder = None,
    as_json: AsJson = False,
) -> None:
    """Take a pin away, named as it was set."""
    with refusals():
        settings = load_settings(config, data)
        inventory, named = open_inventory(settings), named_image(settings, image, group)
        if not inventory.unpin(named.source, named.name, str(named.reference or "")):
            pinned = ", ".join(reference or "all of it" for reference in inventory.pins(named.source, named.name))
            raise Refused(f"{image} is not pinned below group {group}: pinned of it is {pinned or 'nothing'}")
    if as_json:
        print_json({"image": str(named.name), "reference": str(named.reference or ""), "pinned": False})
    else:
        print(f"unpinned {image}")


@dataclass
class Verified:
    """What was looked at and found."""

    checked: int = 0
    bytes: int = 0
    orphaned: int = 0
    findings: list[Finding] = field(default_factory=list)
    healed: int = 0


@app.command()
def verify(
    heal: Annotated[bool, typer.Option("--heal/--no-heal", help="Fetch again what is damaged.")] = True,
    rate: Annotated[str, typer.Option(metavar="SIZE", help="Read at most so much a second; 0: no limit.")] = "0",
    config: ConfigFile = None,
    data: DataFolder = None,
    as_json: AsJson = False,
) -> None:
    """Read all that is cached again, put aside what is damaged, and fetch it again; exit code 1 where there was any."""
    try:
        limit = parse_rate(rate).number
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--rate") from error
    with refusals():
        settings = load_settings(config, data)
        logs.configure(settings.log_format)
        total = open_inventory(settings).totals().bytes
        result = _verify(settings, ReadLimiter(limit, threading.Event()), total)
        if heal and result.findings:
            result.healed = asyncio.run(_heal(settings, result.findings))
    missing = sum(finding.damage.value == "missing" for finding in result.findings)
    document: dict[str, object] = {
        "checked": result.checked,
        "bytes": result.bytes,
        "damaged": len(result.findings) - missing,
        "missing": missing,
        "orphaned": result.orphaned,
        "healed": result.healed,
    }
    if as_json:
        print_json(document)
    else:
        print(", ".join(f"{name}: {value}" for name, value in document.items()))
    if result.findings:
        where = CacheFolder(settings.data).quarantine
        print(
            f"registry-gateway: damage was found in {len(result.findings)} of {result.checked}, {result.healed} were "
            f"fetched again: look at the disk, and into {where}",
            file=sys.stderr,
        )
        raise typer.Exit(1)


def _verify(settings: Settings, limiter: ReadLimiter, total: int) -> Verified:
    folder = CacheFolder(settings.data)
    stock, store = CacheMaintenance(folder.index, UsageFile(folder.usage)), FilesystemStore(folder.blobs)
    inspector, result = Inspector(stock, store, Quarantine(folder.quarantine)), Verified()
    columns = ("{task.description}", BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("verifying", total=total)
        for digest, size in _everything(stock):
            finding = inspector.check(digest, limiter)
            result.checked += 1
            result.bytes += size
            result.findings += [finding] if finding else []
            progress.advance(task, size)
    result.orphaned = sum(_orphans(stock, store, prefix) for prefix in prefixes())
    stock.close()
    return result


def _everything(stock: CacheMaintenance) -> Iterator[tuple[Digest, int]]:
    """Blobs and manifests, with their bytes."""
    last = ""
    while page := stock.blobs_after(last, PAGE):
        yield from ((held.digest, held.size) for held in page)
        last = str(page[-1].digest)
    last = ""
    while documents := stock.manifests_after(last, PAGE):
        yield from ((digest, len(stock.document(digest) or b"")) for digest in documents)
        last = str(documents[-1])


def _orphans(stock: CacheMaintenance, store: FilesystemStore, prefix: str) -> int:
    """Files that no row tells of; the sweep of a server removes them when they are an hour old."""
    digests = [blob_digest(path) for path in store.list_folder(prefix)]
    return sum(digest not in stock.blobs_in_folder(prefix) for digest in digests if digest) if digests else 0


async def _heal(settings: Settings, findings: list[Finding]) -> int:
    """How many are here again."""
    async with open_services(settings) as services:
        healer = Healer(services.directory, services.upstreams, services.pull_through)
        healed = [await healer.heal(f.digest, f.images, document=f.document) for f in findings]
    return sum(healed)

"""`cache warm`: a list of images is brought here before anybody asks for them."""

import asyncio
import signal
import sys
import tomllib
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from cache.index.admin import CacheAdmin
from cache.oci.closure import PlatformMissing
from cache.oci.digest import Digest
from cache.oci.errors import RegistryError
from cache.proxy.warming import QuotaReserved, WarmingCounts, matching_tags, own_platform, warm
from cache.upstream.errors import UpstreamError
from gateway.cli.config import load_settings
from gateway.cli.folder import open_existing
from gateway.cli.output import AsJson, ConfigFile, DataFolder, Refused, print_json, refusals
from gateway.data_folder import CacheFolder
from gateway.maintenance.shelves import Shelves
from gateway.namespaces.group import HUB
from gateway.observability import logs
from gateway.settings.load import Settings
from gateway.settings.units import parse_duration
from gateway.wiring.lifespan import open_services

ListFile = Annotated[Path, typer.Argument(metavar="FILE", help="IMAGE [PLATFORM…] on each line, or TOML.")]
GroupOption = Annotated[str, typer.Option("--group", metavar="G", help="The group below which they are pulled.")]
Every = Annotated[str | None, typer.Option("--every", metavar="DURATION", help="Do it again so often, until stopped.")]


@dataclass(frozen=True, slots=True)
class Wanted:
    """One image of the list; `reference` is a digest, or a tag that may be a glob."""

    image: str
    reference: str
    platforms: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.image}{'@' if ':' in self.reference else ':'}{self.reference}"


@dataclass(frozen=True, slots=True)
class Trouble:
    image: str
    reason: str


def warm_list(
    file: ListFile,
    group: GroupOption = HUB,
    every: Every = None,
    config: ConfigFile = None,
    data: DataFolder = None,
    as_json: AsJson = False,
) -> None:
    """Bring the images of a list here, through the running server or without one; what is here is not fetched again."""
    with refusals():
        settings = load_settings(config, data)
        pause = _pause(every)
        failed = asyncio.run(_warm_often(settings, file, group, pause, as_json))
    if failed:
        raise typer.Exit(1)


def parse_list(text: str, is_toml: bool) -> list[Wanted]:
    """Raises Refused. TOML has `images` and, for all of them, `platforms`; a line has its own behind the image."""
    if is_toml:
        try:
            document = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise Refused(f"the list is no TOML ({error}): give it a name without .toml, or correct it") from error
        images, platforms = document.pop("images", []), document.pop("platforms", [])
        if document or not all(_is_texts(value) for value in (images, platforms)):
            raise Refused("a list in TOML has `images` and `platforms`, both lists of texts, and nothing else")
        return [_wanted(image, platforms) for image in images]
    lines = [line.partition("#")[0].split() for line in text.splitlines()]
    return [_wanted(words[0], words[1:]) for words in lines if words]


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _wanted(text: str, platforms: Sequence[str]) -> Wanted:
    for platform in platforms:
        if platform != "*" and not 2 <= len(platform.split("/")) <= 3:
            raise Refused(f"{text}: {platform!r} is no platform: write os/architecture[/variant], or * for all")
    name, at, digest = text.partition("@")
    name, _, tag = name.partition(":")
    return Wanted(name, digest if at else tag or "latest", tuple(platforms) or (own_platform(),))


def _read_list(file: Path) -> list[Wanted]:
    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"the list {file} cannot be read ({error}): give another one") from error
    return parse_list(text, file.suffix == ".toml")


def _pause(every: str | None) -> timedelta | None:
    try:
        return None if every is None else parse_duration(every)
    except ValueError as error:
        raise Refused(f"--every: {error}") from error


async def _warm_often(settings: Settings, file: Path, group: str, pause: timedelta | None, as_json: bool) -> bool:
    """Whether anything is missing after the last round. A list that is to be read again may have changed."""
    stop = asyncio.Event()
    if pause is not None:
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
    while True:
        tally, troubles = await _one_round(settings, _read_list(file), group)
        _answer(tally, troubles, as_json)
        if pause is None:
            return bool(troubles)
        with suppress(TimeoutError):
            async with asyncio.timeout(pause.total_seconds()):
                await stop.wait()
        if stop.is_set():
            return False


async def _one_round(settings: Settings, wanted: list[Wanted], group: str) -> tuple[WarmingCounts, list[Trouble]]:
    """What failed is tried once more at the end: a server may have started or stopped in its midst."""
    async with open_existing(settings.data):
        pass
    logs.configure(settings.log_format)
    tally = WarmingCounts()
    async with open_services(settings) as services:
        inventory = CacheAdmin(CacheFolder(settings.data).index)
        shelves = Shelves(services, inventory, settings.data, services.upstreams.has_spare_quota)
        with _progress(tally):
            troubles = await _warm_all(shelves, wanted, group, tally)
            if troubles:
                names, again = {trouble.image for trouble in troubles}, WarmingCounts(advance=tally.advance)
                troubles = await _warm_all(shelves, [one for one in wanted if str(one) in names], group, again)
                tally.fetched, tally.bytes = tally.fetched + again.fetched, tally.bytes + again.bytes
    return tally, troubles


async def _warm_all(shelves: Shelves, wanted: list[Wanted], group: str, tally: WarmingCounts) -> list[Trouble]:
    return [trouble for one in wanted for trouble in await _warm_image(shelves, one, group, tally)]


async def _warm_image(shelves: Shelves, wanted: Wanted, group: str, tally: WarmingCounts) -> list[Trouble]:
    try:
        async with shelves.open(wanted.image, group) as shelf:
            if ":" in wanted.reference:
                await warm(shelf, Digest.parse(wanted.reference), wanted.platforms, tally)
                return []
            tags = await matching_tags(shelf, wanted.reference)
            if not tags:
                return [Trouble(str(wanted), "no tag of the upstream matches")]
            for tag in sorted(tags):
                await warm(shelf, tag, wanted.platforms, tally)
            return []
    except QuotaReserved:
        return [Trouble(str(wanted), "the upstream's quota leaves nothing to spare now: try again later")]
    except (RegistryError, UpstreamError, PlatformMissing, Refused) as error:
        return [Trouble(str(wanted), str(error))]


def _progress(tally: WarmingCounts) -> AbstractContextManager[object]:
    """A line that counts bytes on a terminal, nothing elsewhere."""
    progress = Progress("{task.description}", "{task.completed} bytes", disable=not sys.stderr.isatty())
    task = progress.add_task("warming", total=None)
    tally.advance = lambda size: progress.advance(task, size)
    return progress


def _answer(tally: WarmingCounts, troubles: list[Trouble], as_json: bool) -> None:
    counts = {"manifests": tally.manifests, "fetched": tally.fetched, "held": tally.held, "bytes": tally.bytes}
    if as_json:
        print_json({**counts, "failed": [{"image": one.image, "reason": one.reason} for one in troubles]})
    else:
        fetched = f"{tally.fetched} blobs fetched ({tally.bytes} bytes)"
        print(f"warmed {tally.manifests} manifests: {fetched}, {tally.held} were here")
    for one in troubles:
        print(f"registry-gateway: {one.image} is not complete here: {one.reason}", file=sys.stderr)
    sys.stdout.flush()

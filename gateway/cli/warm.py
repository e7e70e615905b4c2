"""`cache warm`: fetches a list of images into the cache before clients request them."""

import asyncio
import signal
import sys
import tomllib
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from shlex import quote
from typing import Annotated

import typer

from cache.oci.closure import ALL_PLATFORMS
from cache.proxy.warming import WarmingCounts, WarmingProgress, own_platform
from gateway.cli import folder
from gateway.cli.image import GroupOption
from gateway.cli.input_file import InputFile, input_file
from gateway.cli.output import Document
from gateway.cli.plain_options import plain_app
from gateway.cli.refusals import Refused, complain
from gateway.cli.session import Session, with_session
from gateway.cli.warming_progress import ProgressLine, ProgressLines
from gateway.maintenance.warm import WantedImage, WarmingFailure, warm_images
from gateway.maintenance.warming_sources import WarmingSources
from gateway.namespaces.group import HUB
from gateway.namespaces.image_text import split_image
from gateway.observability import logs
from gateway.settings.units import format_bytes, parse_duration
from gateway.wiring.lifespan import open_services

app = plain_app()

ListFile = Annotated[
    InputFile, typer.Argument(parser=input_file, metavar="FILE", help="IMAGE [PLATFORM…] on each line, or TOML.")
]
Every = Annotated[
    str | None, typer.Option("--every", metavar="DURATION", help="Repeat at this interval until stopped.")
]


@app.command()
@with_session
def warm(session: Session, file: ListFile, group: GroupOption = HUB, every: Every = None) -> None:
    """Fetch the images of a list into the cache, through the running server or without one; cached content is not
    fetched again."""
    if asyncio.run(_warm_repeatedly(session, file, group, _parse_interval(every))):
        raise typer.Exit(1)


def parse_list(text: str, is_toml: bool) -> list[WantedImage]:
    """Parse lines `IMAGE [PLATFORM…]`, or TOML with `images` and, for all of them, `platforms`. Raises Refused."""
    if is_toml:
        try:
            document = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise Refused(f"the list is no TOML ({error}): give it a name without .toml, or correct it") from error
        images, platforms = document.pop("images", []), document.pop("platforms", [])
        if document or not all(_is_text_list(value) for value in (images, platforms)):
            raise Refused("a list in TOML has `images` and `platforms`, both lists of texts, and nothing else")
        return [_wanted(image, platforms) for image in images]
    lines = [line.partition("#")[0].split() for line in text.splitlines()]
    return [_wanted(words[0], words[1:]) for words in lines if words]


def _is_text_list(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _wanted(text: str, platforms: Sequence[str]) -> WantedImage:
    for platform in platforms:
        if platform != ALL_PLATFORMS and not 2 <= len(platform.split("/")) <= 3:
            raise Refused(f"{text}: {platform!r} is no platform: write os/architecture[/variant], or * for all")
    name, reference = split_image(text)
    if text.endswith(":"):
        raise Refused(f"{text} has an empty tag: write one, or leave the colon out for latest")
    return WantedImage(name, reference.removeprefix("@") or "latest", tuple(platforms) or (own_platform(),))


def _read_list(file: InputFile) -> list[WantedImage]:
    try:
        text = file.read_text()
    except FileNotFoundError as error:
        single = f"`echo {quote(str(file))} | registry-gateway cache warm /dev/stdin`"
        text = f"there is no file {file}: give one with an image on each line; a single image: {single}"
        raise Refused(text) from error
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
        raise Refused(f"the list {file} cannot be read ({reason}): give another one") from error
    return parse_list(text, file.path.suffix == ".toml")


def _parse_interval(every: str | None) -> timedelta | None:
    try:
        return None if every is None else parse_duration(every)
    except ValueError as error:
        raise Refused(f"--every: {error}") from error


async def _warm_repeatedly(session: Session, file: InputFile, group: str, interval: timedelta | None) -> bool:
    """Warm once, or at an interval until stopped; returns whether anything failed. Each round reads the list again."""
    stop = asyncio.Event()
    if interval is not None:
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
    while True:
        failures = await _warm_once(session, _read_list(file), group)
        if interval is None:
            return bool(failures)
        with suppress(TimeoutError):
            async with asyncio.timeout(interval.total_seconds()):
                await stop.wait()
        if stop.is_set():
            return False
        file = InputFile(file.path)


async def _warm_once(session: Session, wanted: list[WantedImage], group: str) -> list[WarmingFailure]:
    await folder.require(session.settings)
    line = ProgressLine(sys.stderr) if sys.stderr.isatty() else None
    logs.configure(session.settings.log_format, line)
    counts = WarmingCounts(progress=line or (WarmingProgress() if session.as_json else ProgressLines()))
    try:
        async with open_services(session.settings) as services:
            sources = WarmingSources(services, session.settings.data)
            failures = await warm_images(sources, wanted, group, counts)
    finally:
        if line is not None:
            line.close()
            logs.configure(session.settings.log_format)
    _report(session, counts, failures)
    return failures


def _report(session: Session, counts: WarmingCounts, failures: list[WarmingFailure]) -> None:
    document: Document = {
        "manifests": counts.manifests,
        "fetched": counts.fetched,
        "held": counts.held,
        "bytes": counts.bytes,
        "failed": [{"image": failure.image, "reason": failure.reason} for failure in failures],
    }
    fetched = f"{counts.fetched} blobs fetched ({format_bytes(counts.bytes)})"
    text = f"warmed {counts.manifests} manifests: {fetched}, {counts.held} were already cached"
    session.print(document, lambda: print(text))
    for failure in failures:
        complain(f"{failure.image} is not completely cached: {failure.reason}")
    sys.stdout.flush()

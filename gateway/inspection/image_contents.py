"""What an image says of itself: labels, how it is run, and how it was built, read from its config.

All of it is written by whoever pushed the image: it is text, cut where it is long, and never trusted.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cache.oci.descriptor import Descriptor
from cache.oci.document import OFF_LOOP_BYTES, parse_document
from cache.oci.errors import RegistryError
from cache.repository import Repository

CONFIG_LIMIT = 1024 * 1024
"""Bytes of a config that is read; a large one has some 30 KiB."""

MOST_ENTRIES = 200
"""Labels, variables and steps that are shown of each kind."""

LONGEST = 2000
"""Characters that are shown of a text."""

IMAGE_CONFIGS = frozenset(
    {"application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"}
)


@dataclass(frozen=True, slots=True)
class BuildStep:
    """A step of a build. `is_empty`: whether it made no layer."""

    command: str
    comment: str
    created: str
    is_empty: bool


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What the config of an image says; empty where it says nothing, or cannot be read, as `problem` says.

    `settings`: how it is run, by names for people. `steps`: how it was built, the first one first.
    """

    platform: str = ""
    created: str = ""
    author: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    variables: Sequence[str] = ()
    steps: Sequence[BuildStep] = ()
    problem: str = ""


async def read_config(repository: Repository, config: Descriptor | None) -> ImageConfig:
    """Read what the config of an image says."""
    if config is None or config.media_type not in IMAGE_CONFIGS:
        return ImageConfig()
    try:
        size = (await repository.stat_blob(config.digest)).size
        if size is None or size > CONFIG_LIMIT:
            return ImageConfig(problem=f"the configuration has more than {CONFIG_LIMIT} bytes, and is not read")
        raw = await _read(repository, config)
    except RegistryError as error:
        return ImageConfig(problem=f"the configuration cannot be read: {error.detail or error.message}")
    try:
        if len(raw) > OFF_LOOP_BYTES:
            return _describe(await asyncio.to_thread(parse_document, raw))
        return _describe(parse_document(raw))
    except ValueError as error:
        return ImageConfig(problem=f"the configuration is no document of an image: {error}")


async def _read(repository: Repository, config: Descriptor) -> bytes:
    found = (await repository.blob(config.digest)).blob
    try:
        body = bytearray()
        async for extent in found.ready(0, None):
            body += extent.data if extent.data is not None else await found.read(extent)
        return bytes(body)
    finally:
        found.close()


def _describe(document: Any) -> ImageConfig:
    """Read a document as far as it has the form of a config (image-spec, config.md)."""
    if not isinstance(document, dict):
        raise ValueError("it must be a JSON object")
    run = document.get("config")
    run = run if isinstance(run, dict) else {}
    platform = "/".join(text for name in ("os", "architecture", "variant") if (text := _text(document.get(name))))
    return ImageConfig(
        platform=platform,
        created=_text(document.get("created")),
        author=_text(document.get("author")),
        settings={name: text for name, text in _settings(run) if text},
        labels=_pairs(run.get("Labels")),
        variables=_texts(run.get("Env")),
        steps=[_step(entry) for entry in _list(document.get("history")) if isinstance(entry, dict)],
    )


def _settings(run: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    yield "Entrypoint", " ".join(_texts(run.get("Entrypoint")))
    yield "Command", " ".join(_texts(run.get("Cmd")))
    yield "User", _text(run.get("User"))
    yield "Working directory", _text(run.get("WorkingDir"))
    for name, key in (("Ports", "ExposedPorts"), ("Volumes", "Volumes")):
        found = run.get(key)
        yield name, ", ".join(_texts(list(found))) if isinstance(found, dict) else ""
    yield "Stop signal", _text(run.get("StopSignal"))


def _step(entry: Mapping[str, Any]) -> BuildStep:
    return BuildStep(
        _text(entry.get("created_by")),
        _text(entry.get("comment")),
        _text(entry.get("created")),
        entry.get("empty_layer") is True,
    )


def _text(value: object) -> str:
    return value[:LONGEST] if isinstance(value, str) else ""


def _texts(value: object) -> list[str]:
    return [_text(entry) for entry in _list(value) if isinstance(entry, str)]


def _list(value: object) -> list[Any]:
    return value[:MOST_ENTRIES] if isinstance(value, list) else []


def _pairs(value: object) -> dict[str, str]:
    """The members of an object whose values are texts, in the order of their names."""
    entries = sorted(value.items()) if isinstance(value, dict) else []
    return {_text(name): _text(text) for name, text in entries[:MOST_ENTRIES] if isinstance(text, str)}

"""Fallback checks: which clients of this machine pull through this server, and ask an upstream where it refuses.

A gate behind a client that falls back refuses nothing: the client pulls the same content from the upstream itself.
"""

import json
import socket
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gateway.doctor.check import Check, Remedy, passed, warned
from gateway.known_registries import DOCKER_HUB, default_url

CONNECT_SECONDS = 3.0
_DOCKER, _CONTAINERD, _PODMAN, _BUILDKIT = "dockerd", "containerd", "podman and CRI-O", "BuildKit"


@dataclass(frozen=True, slots=True)
class ClientSetting:
    """What the file of a client says: images of `upstream` are pulled through this server. `falls_back`: whether the
    client asks the upstream itself where this server refuses."""

    client: str
    file: Path
    upstream: str
    falls_back: bool


def examine_fallback(
    hosts: Collection[str], refused: Collection[str], can_reach: Callable[[str], bool], root: Path = Path("/")
) -> list[Check]:
    """Check every setting of a client on this machine that names this server. Blocks.

    `hosts`: HOST:PORT of each address of this server. `refused`: whose gates and rules refuse anything, in words.
    `can_reach`: whether this machine reaches an upstream without this server.
    """
    found = {(setting.client, setting.upstream): setting for setting in client_settings(hosts, root)}
    if not found:
        return [passed("fallback", "no file below /etc lets a client of this machine pull through this server")]
    return [_examine(setting, refused, can_reach) for setting in found.values()]


def _examine(setting: ClientSetting, refused: Collection[str], can_reach: Callable[[str], bool]) -> Check:
    name = f"fallback of {setting.client} for {setting.upstream}"
    if not setting.falls_back:
        return passed(name, f"none: {setting.file} names this server alone")
    asks = f"what this server refuses is requested from {setting.upstream} itself ({setting.file})"
    if not refused:
        return passed(name, f"{asks}, but no gate refuses anything")
    if not can_reach(setting.upstream):
        return passed(name, f"{asks}, which this machine does not reach")
    settable = setting.client in (_CONTAINERD, _PODMAN)
    remedy = Remedy.CLOSE_FALLBACK if settable else Remedy.BLOCK_FALLBACK
    return warned(name, f"{asks}, whatever is refused by {', '.join(refused)}", remedy)


def reaches(upstream: str) -> bool:
    """Whether this machine can connect to the registry of this name, by TLS's port unless it names one. Blocks."""
    parts = urlsplit(default_url(upstream))
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 443), CONNECT_SECONDS):
            return True
    except (OSError, ValueError):
        return False


def client_settings(hosts: Collection[str], root: Path) -> Iterator[ClientSetting]:
    """Find the settings of clients that name this server, below the root of a file system. A file that cannot be read
    says nothing."""
    etc = root / "etc"
    yield from _of_docker(etc / "docker" / "daemon.json", hosts)
    for file in sorted(etc.glob("containerd/certs.d/*/hosts.toml")):
        yield from _of_containerd(file, hosts)
    containers = etc / "containers"
    for file in (containers / "registries.conf", *sorted(containers.glob("registries.conf.d/*.conf"))):
        yield from _of_podman(file, hosts)
    yield from _of_buildkit(etc / "buildkit" / "buildkitd.toml", hosts)


def _of_docker(file: Path, hosts: Collection[str]) -> Iterator[ClientSetting]:
    mirrors = _read(file, json.loads).get("registry-mirrors")
    if any(_is_ours(mirror, hosts) for mirror in _list(mirrors)):
        yield ClientSetting(_DOCKER, file, DOCKER_HUB, True)


def _of_containerd(file: Path, hosts: Collection[str]) -> Iterator[ClientSetting]:
    document = _read(file, tomllib.loads)
    tried = document.get("host")
    others = list(tried) if isinstance(tried, dict) else []
    # containerd 1 reads no file that has no table of a host: it asks the upstream then.
    alone = _is_ours(document.get("server"), hosts) and bool(others) and all(_is_ours(url, hosts) for url in others)
    if any(_is_ours(url, hosts) for url in [document.get("server"), *others]):
        yield ClientSetting(_CONTAINERD, file, file.parent.name, not alone)


def _of_podman(file: Path, hosts: Collection[str]) -> Iterator[ClientSetting]:
    for registry in _list(_read(file, tomllib.loads).get("registry")):
        if not isinstance(registry, dict):
            continue
        location, mirrors = registry.get("location"), _list(registry.get("mirror"))
        upstream = str(registry.get("prefix") or location)
        if _is_ours(location, hosts):
            yield ClientSetting(_PODMAN, file, upstream, False)
        elif any(_is_ours(mirror.get("location"), hosts) for mirror in mirrors if isinstance(mirror, dict)):
            yield ClientSetting(_PODMAN, file, upstream, True)


def _of_buildkit(file: Path, hosts: Collection[str]) -> Iterator[ClientSetting]:
    registries = _read(file, tomllib.loads).get("registry")
    for upstream, registry in registries.items() if isinstance(registries, dict) else ():
        mirrors = _list(registry.get("mirrors")) if isinstance(registry, dict) else []
        if any(_is_ours(mirror, hosts) for mirror in mirrors):
            yield ClientSetting(_BUILDKIT, file, upstream, True)


def _read(file: Path, parse: Callable[[str], Any]) -> Mapping[str, Any]:
    """The document of a file; empty where there is none, or none that can be read."""
    with suppress(OSError, ValueError, RecursionError):
        document = parse(file.read_text())
        if isinstance(document, dict):
            return document
    return {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _is_ours(url: object, hosts: Collection[str]) -> bool:
    """Whether a URL, or a location without a scheme, is at one of the addresses of this server."""
    if not isinstance(url, str):
        return False
    return urlsplit(url if "://" in url else f"//{url}").netloc.lower() in hosts

"""`client-config`: the configuration with which a client pulls through this server, as it runs or is set up."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from gateway import docker_hub
from gateway.cli import folder
from gateway.cli.client_files import Address, Client, Mirror, NotPossible, client_file
from gateway.cli.config import load_settings
from gateway.cli.output import AsJson, ConfigFile, DataFolder, Refused, print_json, refusals
from gateway.db import groups
from gateway.db.engine import DATABASE_FILE
from gateway.namespaces.group import DEFAULT_UPSTREAM
from gateway.processes.listeners import configured_urls
from gateway.settings.load import Settings
from gateway.settings.tables import ListenerSettings, VirtualHostSettings
from gateway.v2.root_selection import url_with_host


def client_config(
    client: Annotated[Client, typer.Argument(help="Who shall pull through this server.")],
    group: Annotated[str, typer.Option(help="The group to pull through. [default: as ns_group]")] = "",
    upstream: Annotated[str, typer.Option(help="Whose images.")] = docker_hub.NAME,
    config: ConfigFile = None,
    data: DataFolder = None,
    as_json: AsJson = False,
) -> None:
    """Print the configuration with which a client pulls through this server."""
    with refusals():
        settings = load_settings(config, data)
        mirror = _mirror(settings, group or settings.ns_group, upstream)
        try:
            file = client_file(client, mirror)
        except NotPossible as error:
            raise Refused(str(error)) from error
    if as_json:
        print_json({"client": client.value, "path": file.path, "text": file.text})
        return
    print(file.text, end="")
    if client is Client.DOCKER:  # JSON has no comments
        print(f"registry-gateway: this belongs into {file.path}; then restart dockerd", file=sys.stderr)


def _mirror(settings: Settings, group: str, upstream: str) -> Mirror:
    """Raises Refused."""
    upstream = docker_hub.canonical_name(upstream)
    if upstream not in settings.upstreams:
        known = ", ".join(sorted(settings.upstreams))
        raise Refused(f"upstream {upstream!r} is not configured: configured are {known}; add it, or give --upstream")
    main, *listeners = _running_urls(settings) or configured_urls(settings)
    roots: list[tuple[str, ListenerSettings | VirtualHostSettings]] = []
    roots += zip(listeners, settings.listener, strict=True)
    roots += [(url_with_host(main, host.name), host) for host in settings.virtual_host]
    found = [url for url, root in roots if (root.group, root.upstream) == (group, upstream)]
    return Mirror(
        main=_address(main),
        root=_address(found[0]) if found else None,
        group=group,
        upstream=upstream,
        by_ns=group == settings.ns_group,
        is_default=upstream == asyncio.run(_default_upstream(settings, group)),
    )


def _running_urls(settings: Settings) -> list[str]:
    """Where the server runs; empty if it does not. Raises Refused if it runs with other settings."""
    try:
        run = json.loads((settings.data / "run.json").read_text())
        os.kill(run["pid"], 0)
    except (FileNotFoundError, NotADirectoryError, ProcessLookupError):
        return []
    except PermissionError:
        pass  # it runs, as somebody else
    urls = [str(url) for url in run["addresses"]]
    if len(urls) != 1 + len(settings.listener):
        raise Refused("the server runs with other listeners than the settings have: start it again")
    return urls


def _address(url: str) -> Address:
    """Raises Refused."""
    parts = urlsplit(url)
    if parts.port == 0:
        raise Refused("the settings let the server take any free port: start it first, or set the port")
    return Address(f"{parts.scheme}://{parts.netloc}")


async def _default_upstream(settings: Settings, group: str) -> str:
    """Of a group that is there and serves, or of a new one where there is no data folder yet. Raises Refused."""
    if not (Path(settings.data) / DATABASE_FILE).is_file():
        return DEFAULT_UPSTREAM
    async with folder.open_existing(settings.data) as database, database.read() as connection:
        found = await groups.get(connection, group)
    if not found.proxy_enabled:
        raise Refused(f"the dependency proxy of group {group!r} is off: enable it, or give --group another")
    return found.default_upstream

"""`client-config`: prints the configuration with which a client pulls through this server."""

import asyncio
from dataclasses import replace
from typing import Annotated
from urllib.parse import urlsplit

import typer

from gateway import known_registries
from gateway.cli import folder
from gateway.cli.gitlab_variables import WHERE, GitlabOptions, gitlab_variables, read_secret
from gateway.cli.plain_options import plain_app
from gateway.cli.refusals import Refused, complain
from gateway.cli.registry_address import registry_url
from gateway.cli.session import Session, with_session
from gateway.data_folder import announced_server
from gateway.db import groups
from gateway.inspection.client_files import Client, ClientRoute, ClientUnsupported, ServerUrl, client_file
from gateway.namespaces.group import DEFAULT_UPSTREAM
from gateway.processes.urls import configured_urls
from gateway.settings.tables import Settings
from gateway.wiring.pull_addresses import pull_addresses

app = plain_app()


@app.command("client-config")
@with_session
def client_config(
    session: Session,
    client: Annotated[Client, typer.Argument(help="The client that pulls through this server.")],
    group: Annotated[str, typer.Option(help="The group to pull through. [default: the setting ns_group]")] = "",
    upstream: Annotated[str, typer.Option(help="The upstream whose images are pulled.")] = known_registries.DOCKER_HUB,
    no_fallback: Annotated[
        bool, typer.Option("--no-fallback", help="Never ask the upstream itself for what this server refuses.")
    ] = False,
    *,
    gitlab: GitlabOptions,
) -> None:
    """Print the configuration of a client that pulls here; for gitlab-ci also the variables of a project."""
    settings = session.settings
    if gitlab.project is not None or gitlab.token_file is not None:
        _print_variables(session, client, gitlab, group)
        return
    route = replace(_route(settings, group or settings.ns_group, upstream), falls_back=not no_fallback)
    try:
        file = client_file(client, route)
    except ClientUnsupported as error:
        raise Refused(str(error)) from error
    document = {"client": client.value, "path": file.path, "text": file.text}
    session.print(document, lambda: print(file.text, end=""))
    if client is Client.DOCKER and not session.as_json:  # JSON has no comments
        complain(
            f"this belongs into {file.path}; then restart dockerd. What this server refuses, by a gate too, dockerd "
            f"requests from {upstream} itself"
        )
    if route.main.is_loopback and not session.as_json:
        complain(
            f"warning: only clients on this machine reach {route.main.url}: for others, set external_url to a URL that "
            "they reach, and host to the address that it leads to"
        )


def _print_variables(session: Session, client: Client, options: GitlabOptions, group: str) -> None:
    """Print the CI/CD variables of a project. Raises Refused."""
    if client is not Client.GITLAB_CI or options.project is None:
        raise Refused("--project P, and --token-file with it, belong to gitlab-ci alone")
    if group:
        raise Refused("the groups of --project are those above it: leave --group out")
    settings, secret = session.settings, read_secret(options.token_file)
    work = gitlab_variables(settings, options.project, registry_url(settings), secret)
    variables, text = asyncio.run(work)
    document = {"client": client.value, "path": WHERE, "text": text, "variables": variables}
    session.print(document, lambda: print(text, end=""))


def _route(settings: Settings, group: str, upstream: str) -> ClientRoute:
    """Find out how a client reaches the images of one upstream through one group. Raises Refused."""
    upstream = known_registries.canonical_name(upstream)
    if upstream not in settings.upstreams:
        known = ", ".join(sorted(settings.upstreams))
        raise Refused(f"upstream {upstream!r} is not configured: configured are {known}; add it, or give --upstream")
    urls = _running_urls(settings) or configured_urls(settings)
    address = pull_addresses(settings, urls).get((group, upstream))
    return ClientRoute(
        main=_server_url(urls[0]),
        root=None if address is None else _server_url(address),
        group=group,
        upstream=upstream,
        by_ns=group == settings.ns_group,
        is_default=upstream == asyncio.run(_default_upstream(settings, group)),
    )


def _running_urls(settings: Settings) -> list[str]:
    """URLs of the running server; empty if none runs. Raises Refused if it runs with other settings."""
    server = announced_server(settings.data)
    if server is None or not server.is_alive:
        return []
    if len(server.urls) != 1 + len(settings.listener):
        raise Refused("the server runs with other listeners than the settings have: start it again")
    return list(server.urls)


def _server_url(url: str) -> ServerUrl:
    """Check that clients can use a URL of the server. Raises Refused if its port is not known yet."""
    parts = urlsplit(url)
    if parts.port == 0:
        raise Refused("the settings let the server take any free port: start it first, or set the port")
    return ServerUrl(f"{parts.scheme}://{parts.netloc}")


async def _default_upstream(settings: Settings, group: str) -> str:
    """Read the default upstream of a group, or that of a new group if there is no data folder yet. Raises Refused."""
    if not await folder.exists(settings):
        return DEFAULT_UPSTREAM
    async with folder.open_existing(settings) as database, database.read() as connection:
        found = await groups.get(connection, group)
    if not found.proxy_enabled:
        raise Refused(f"the dependency proxy of group {group!r} is off: enable it, or give --group another")
    return found.default_upstream

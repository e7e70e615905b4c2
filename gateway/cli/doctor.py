"""`doctor`: finds faults of an installation, and names remedies."""

import asyncio
from dataclasses import replace
from typing import Annotated

import typer

from cache.index.admin import CacheAdmin
from cache.index.sql import MIGRATIONS
from cache.oci.errors import RegistryError
from cache.sqlite import DatabaseUnusable, set_up
from cache.store.filesystem import FilesystemStore
from gateway.auth.exposure import is_loopback
from gateway.cli.folder import read_collection, read_formers, read_groups
from gateway.cli.idle_settings import find_idle_settings
from gateway.cli.image import IMAGE_HELP, GroupOption, locate_argument
from gateway.cli.output import Document, print_table
from gateway.cli.plain_options import plain_app
from gateway.cli.refusals import Refused, find_remedy
from gateway.cli.session import Session, with_session
from gateway.data_folder import announced_server
from gateway.doctor.check import Check, Remedy, failed, passed, warned
from gateway.doctor.clients import PullTarget
from gateway.doctor.collection import examine_collection
from gateway.doctor.fallback import examine_fallback, reaches
from gateway.doctor.installation import Installation, examine_server
from gateway.doctor.issuers import examine_issuers
from gateway.doctor.machine import examine_machine
from gateway.doctor.moved_groups import examine_moved_groups
from gateway.keys.sealing import KEYS_DIRECTORY, Sealer
from gateway.namespaces.group import HUB
from gateway.processes.urls import configured_urls, url_of
from gateway.settings.files import unusable_files
from gateway.settings.load import SettingsError
from gateway.settings.tables import Settings
from gateway.upstreams import Upstreams
from gateway.v2.root_selection import hosts_of, url_with_host
from gateway.wiring.oidc import issuer_client
from gateway.wiring.upstreams import configured_upstreams
from gateway.wiring.values import groups_named

_FILE_REMEDY = "write the file, let the user of the server read it, or correct the setting"
_NAME_IMAGE = f"give --image {IMAGE_HELP}, below the group of --group"
_REMEDIES = {
    Remedy.SELECT_DATA_FOLDER: "name the right one with --data, or make it with `registry-gateway serve`",
    Remedy.FREE_SPACE: "evict something with `registry-gateway cache evict`, or give --data a larger disk",
    Remedy.LOCAL_DISK: "give --data a folder on a local disk",
    Remedy.START_SERVER: "start it with `registry-gateway serve`",
    Remedy.NAME_IMAGE: _NAME_IMAGE,
    Remedy.NAME_OTHER_IMAGE: "see whether this image exists there and the account may pull it, or give another --image",
    Remedy.ALLOW_PULL: "do what the response says; for a group that is meant to serve everybody, "
    "`registry-gateway group update PATH --anonymous-pull`",
    Remedy.EXPLAIN_ACCESS: "pull it with a client that is logged in; `registry-gateway access explain pull PATH "
    "--user NAME` says who may",
    Remedy.CLOSE_GROUP: "turn off anonymous_pull (`registry-gateway group update --no-anonymous-pull`), drop the "
    'login of the group (--upstream-username ""), or take the group from the groups of the upstream',
    Remedy.CORRECT_LOGIN: "correct username and password_file of the upstream, or the login of the group "
    "(`registry-gateway group update --upstream-username --upstream-password-file`), and name its token service in "
    "token_hosts",
    Remedy.CLOSE_FALLBACK: "put the file of `registry-gateway client-config --no-fallback` there",
    Remedy.BLOCK_FALLBACK: "keep this machine from the upstream by its firewall, or name images by the prefix of the "
    "group: this client has no setting against it",
    Remedy.CONFIRM_COLLECTION: "`registry-gateway gc run --dry-run` counts what would go; if it may, "
    "`registry-gateway gc run --yes`",
    Remedy.AWAIT_COLLECTION: "look at the clock of this machine, and whether the database belongs to the data folder "
    "(`registry-gateway verify`); it goes on by itself once that is right",
}

ImageOption = Annotated[
    str | None,
    typer.Option("--image", metavar="IMAGE", help="The image to pull. [default: one that is cached]"),
]

app = plain_app()


@app.command()
@with_session
def doctor(session: Session, image: ImageOption = None, group: GroupOption = HUB) -> None:
    """Find what is wrong, and what to do about it: check settings, data folder, clock, upstreams, credentials and
    quota, and pull from the running server as docker, containerd, podman and buildkit do. Exit code 1 if anything
    failed."""
    checks = examine(session, image, group)
    rows = [(_result(c), c.name, f"{c.detail}; {c.remedy}" if c.remedy else c.detail) for c in checks]
    headings = ["Result", "Check", "Found; what to do"]
    session.print([_document(check) for check in checks], lambda: print_table(headings, rows))
    if any(check.ok is False for check in checks):
        raise typer.Exit(1)


def examine(session: Session, image: str | None, group: str) -> list[Check]:
    """Make all checks; their remedies are texts that name commands and options."""
    return [_in_words(check) for check in _examine(session, image, group)]


def _examine(session: Session, image: str | None, group: str) -> list[Check]:
    try:
        settings = session.settings
    except SettingsError as error:
        remedy = "correct it; `registry-gateway config show` shows where each value comes from"
        return [failed("settings", problem, remedy) for problem in error.problems]
    checks = [passed("settings", f"valid, from {session.config or 'defaults and the environment'}")]
    checks += [warned(f"{idle.kind} {idle.name}", idle.reason, idle.remedy) for idle in find_idle_settings(settings)]
    for file in unusable_files(settings):
        checks.append(failed(f"setting {file.setting}", f"{file.path}: {file.reason}", _FILE_REMEDY))
    if not settings.data.is_dir():
        why = f"there is no data folder {settings.data.absolute()}"
        return [*checks, failed("data folder", why, Remedy.SELECT_DATA_FOLDER)]
    checks += examine_machine(settings.data)
    try:
        installation = _read_installation(session)
    except (DatabaseUnusable, Refused) as error:
        remedy = find_remedy(error) or "restore it, or look at its owner and its disk"
        return [*checks, failed("databases", str(error), remedy)]
    checks += [installation.summary(), *installation.examine_accounts()]
    collection = asyncio.run(read_collection(settings))
    checks += examine_collection(collection.stopped_reason, asks=collection.stopped_at is not None)
    named = groups_named(settings)
    formers = asyncio.run(read_formers(settings, {group, *(path for _, path in named)}))
    checks += examine_moved_groups(named, formers)
    group = formers[group].present if group in formers else group
    target: PullTarget | None = None
    try:
        only = group if group != HUB else None
        target = _named_target(session, installation, image, group) if image else installation.cached_target(only)
    except RegistryError as error:
        checks.append(failed("image", str(error), Remedy.NAME_IMAGE))
    if not image and not installation.has_group(group):
        checks.append(
            failed("group", f"there is no group {group!r}", "give --group one of `registry-gateway group list`")
        )
    checks += asyncio.run(installation.examine_upstreams(target if image else None))
    checks += asyncio.run(_examine_issuers(settings))
    certificate = str(settings.tls_cert) if settings.tls_cert else None
    data = str(settings.data.absolute())
    checks += examine_fallback(_hosts(settings), installation.refusing(), reaches)
    return checks + examine_server(_server_urls(settings), data, certificate, target, image is not None)


async def _examine_issuers(settings: Settings) -> list[Check]:
    clients = {name: issuer_client(issuer) for name, issuer in settings.oidc.items()}
    without_rules = frozenset(name for name, issuer in settings.oidc.items() if not issuer.rule)
    return await examine_issuers(clients, without_rules)


def _hosts(settings: Settings) -> set[str]:
    """HOST:PORT of every address at which clients may name this server, also as it is without the scheme's port."""
    server = announced_server(settings.data)
    urls = [*configured_urls(settings), *(server.urls if server is not None else ())]
    urls += [url_with_host(urls[0], host.name) for host in settings.virtual_host]
    urls += [settings.registry_url] if settings.registry_url else []
    hosts = {host for url in urls for host in hosts_of(url)}
    ports = {host.rpartition(":")[2] for host in hosts if is_loopback(host.rpartition(":")[0].strip("[]"))}
    return hosts | {f"{name}:{port}" for name in ("localhost", "127.0.0.1", "[::1]") for port in ports}


def _read_installation(session: Session) -> Installation:
    """Read groups, upstreams and cached tags from the data folder. Raises Refused, DatabaseUnusable."""
    settings, folder = session.settings, session.folder
    groups = asyncio.run(read_groups(settings))
    set_up(folder.index, MIGRATIONS)
    upstreams = Upstreams(configured_upstreams(settings), Sealer(settings.data / KEYS_DIRECTORY))
    return Installation(groups, upstreams, CacheAdmin(folder.index), FilesystemStore(folder.blobs))


def _named_target(session: Session, installation: Installation, text: str, group: str) -> PullTarget:
    """Parse the image of the command line. Raises RegistryError, Refused, DatabaseUnusable."""
    return installation.target(*locate_argument(session, text, group))


def _server_urls(settings: Settings) -> list[str]:
    """URLs at which the running server may be reached: the announced one and the bound one; empty if none runs."""
    server = announced_server(settings.data)
    if server is None or not server.is_alive or not server.urls:
        return []
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    bound = [url_of(settings, host, settings.port)] if settings.port else []
    # The further URLs are those of listeners, where names are not below a group.
    return list(dict.fromkeys([server.urls[0], *bound]))


def _in_words(check: Check) -> Check:
    """The check with a remedy in words; one that was not made has it in its detail."""
    if not isinstance(check.remedy, Remedy):
        return check
    remedy = _REMEDIES[check.remedy]
    if check.ok is None:
        return replace(check, detail=f"{check.detail}: {remedy}", remedy="")
    return replace(check, remedy=remedy)


def _result(check: Check) -> str:
    if check.ok is None:
        return "not run"
    return ("warning" if check.remedy else "ok") if check.ok else "FAILED"


def _document(check: Check) -> Document:
    return {"name": check.name, "ok": check.ok, "detail": check.detail, "remedy": check.remedy}

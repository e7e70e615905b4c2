"""Checks of upstreams at a start: one small request to each, whose failure is a warning with what to do about it."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import structlog

from cache.runtime.locks import open_lock_file, try_lock_byte
from cache.runtime.tasks import Tasks
from cache.sqlite import DatabaseUnusable
from cache.upstream.errors import Unavailable
from cache.upstream.registry_client import RegistryClient
from gateway.doctor.upstreams import remedy_of, wrong_ping
from gateway.namespaces.group import Group
from gateway.services import Services
from gateway.upstreams import Upstream

log = structlog.get_logger()

CHECK_SECONDS = 30.0


@asynccontextmanager
async def checking_upstreams(services: Services) -> AsyncIterator[None]:
    """Check within the block, in the background, which upstreams can be reached; one worker of a server does it, and
    another one once these settings have changed. Nothing waits for it, and nothing depends on it."""
    upstreams = [services.upstreams.get(name) for name in services.upstreams.names]
    tasks = Tasks()
    with _turn(services.folder.lock("upstream-checks"), upstreams) as is_ours:
        if is_ours:
            tasks.start(_check_all(services, upstreams), "upstream checks")
        try:
            yield
        finally:
            await tasks.close()


@contextmanager
def _turn(file: Path, upstreams: Sequence[Upstream]) -> Iterator[bool]:
    """Whether it is this worker that checks upstreams with these settings, until the end of the block. Each settings
    have a byte of the file: workers of one server, whose hashes are the same, take the lock of the same one."""
    with ExitStack() as opened:
        try:
            descriptor = open_lock_file(file)
            opened.callback(os.close, descriptor)
            is_ours = try_lock_byte(descriptor, hash(tuple(upstreams)) % 2**31)
        except OSError:  # a full disk is told of elsewhere
            is_ours = False
        yield is_ours


async def _check_all(services: Services, upstreams: Sequence[Upstream]) -> None:
    try:
        groups = [group for group in await services.directory.list_groups() if group.proxy_enabled]
    except DatabaseUnusable:  # the server itself tells of it
        return
    clients = [
        (upstream, services.upstreams.primary(group, upstream.name))
        for upstream in upstreams
        if (group := _group_for(upstream, groups)) is not None
    ]
    reached = await asyncio.gather(*(_check(upstream, client) for upstream, client in clients))
    if clients:
        log.info("upstreams_checked", reached=sum(reached), of=len(reached))


def _group_for(upstream: Upstream, groups: Sequence[Group]) -> Group | None:
    """A group with whose connections an upstream is checked: if possible one that shows it what this server has to
    identify itself. None where nothing is pulled from it."""
    if "*" in upstream.deny or not upstream.allow:
        return None
    return next((group for group in groups if upstream.lends_to(group)), groups[0] if groups else None)


async def _check(upstream: Upstream, client: RegistryClient) -> bool:
    """Whether an upstream responds as a registry does."""
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            ping = await client.probe().ping()
    except TimeoutError:
        late = Unavailable(f"{client.host} did not respond within {CHECK_SECONDS:.0f} s")
        reason, remedy = late.reason, remedy_of(late)
    except Unavailable as error:
        reason, remedy = error.reason, remedy_of(error)
    else:
        wrong = wrong_ping(ping)
        if wrong is None:
            return True
        reason, remedy = wrong.detail, wrong.remedy
    log.warning("upstream_not_reached", upstream=upstream.name, reason=reason, remedy=remedy)
    return False

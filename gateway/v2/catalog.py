"""The list of all repositories (distribution project, "Catalog"), of which each principal sees what it may pull.

Neither a page, nor its link, nor the time that it takes depends on repositories that its reader may not pull: projects
are chosen first, and then only their repositories are read.
"""

import asyncio
import json
from dataclasses import replace
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from cache.oci.errors import Busy, Unauthorized
from cache.oci.names import NAME_LIMIT
from cache.runtime.turns import NoTurn, Turns
from gateway.auth.principal import Principal
from gateway.auth.requester import requester_of
from gateway.auth.scopes import CATALOG
from gateway.http.errors import API_VERSION
from gateway.registry.native_store import NativeStore
from gateway.v2.opener import RepositoryOpener
from gateway.v2.paging import page_size
from gateway.v2.root_selection import chosen_root

DEFAULT_COUNT = 100
PROJECTS_AT_ONCE = 100
"""Projects that are looked at first for a page, at least: as many as names are wanted, since each has a repository."""
READ_AT_ONCE, SPARE_READ = 1, 1
"""Pages that a process reads at a time, and further ones for whoever else has none: each looks at all projects."""
READ_WAIT = 10.0
"""Seconds that a reader waits for its turn."""
DECIDED_AT_ONCE = 50
"""Projects about which is decided without a pause for other requests, in about 5 ms."""


class Catalog:
    """Handler of the list of repositories."""

    def __init__(self, store: NativeStore, opener: RepositoryOpener) -> None:
        self._store = store
        self._opener = opener
        self._turns = Turns(READ_AT_ONCE, SPARE_READ, READ_WAIT)

    async def list_repositories(self, request: Request, principal: Principal) -> ASGIApp:
        """A page of the names that the principal may pull, in their byte order. Raises Unauthorized, Busy."""
        if principal.limits is not None and CATALOG not in principal.limits.actions:
            raise Unauthorized("the Bearer token does not list the catalog")
        stated = page_size(request.query_params.get("n"))
        count = DEFAULT_COUNT if stated is None else stated
        last = request.query_params.get("last", "")
        address = request.client.host if request.client else ""
        found = await self._in_turn(last, count + 1, replace(principal, limits=None), address) if count else []
        names, headers = found[:count], dict(API_VERSION)
        if len(found) > count:
            query = {} if stated is None else {"n": str(stated)}
            query["last"] = names[-1]
            headers["Link"] = f'<{chosen_root(request.scope).url}/v2/_catalog?{urlencode(query)}>; rel="next"'
        body = json.dumps({"repositories": names}, separators=(",", ":"))
        return Response(body, 200, headers, "application/json")

    async def _in_turn(self, last: str, limit: int, principal: Principal, address: str) -> list[str]:
        """The names of a page once it is the reader's turn. Raises Busy."""
        try:
            async with self._turns.turn(requester_of(principal, address)):
                return await self._names(last, limit, principal)
        except NoTurn as error:
            raise Busy("too many lists of repositories are read at once: try again") from error

    async def _names(self, last: str, limit: int, principal: Principal) -> list[str]:
        """The first names after a text that a principal may pull.

        A repository has the path of its project, or one below it. So those of the projects before a path, and of its
        parts from the beginning, are all names before it, and some after. Each further look is at twice as many.
        """
        reach = await self._opener.reach(principal)
        names: list[str] = []
        after, also, count = last, _projects_before(last), max(limit, PROJECTS_AT_ONCE)
        while True:
            reached = await self._store.list_projects(reach, after, count + 1, also)
            pullable = await self._pullable(principal, dict(reached[:count]))
            if pullable:
                names = sorted([*names, *await self._store.list_repositories(pullable, last, limit)])
            if len(reached) <= count:
                return names[:limit]
            _, following = reached[count]
            if len(names) >= limit and names[limit - 1] < following:
                return names[:limit]
            after, also, count = reached[count - 1][1], [], 2 * count

    async def _pullable(self, principal: Principal, projects: dict[int, str]) -> list[int]:
        """Ids of the projects, given by id and path, from which a principal may pull."""
        await self._opener.remember_projects_of(projects.values())
        pullable: list[int] = []
        for number, (id, path) in enumerate(projects.items()):
            if number % DECIDED_AT_ONCE == DECIDED_AT_ONCE - 1:
                await asyncio.sleep(0)
            if await self._opener.may_pull(principal, path):
                pullable.append(id)
        return pullable


def _projects_before(last: str) -> list[str]:
    """Paths at or before a text of projects that may have repositories after it."""
    return [last[:end] for end in range(1, min(len(last), NAME_LIMIT) + 1) if last[end : end + 1] <= "/"]

"""The list of all repositories (distribution project, "Catalog"), of which each principal sees what it may pull.

Neither a page, nor its link, nor the time that it takes depends on repositories that its reader may not pull: projects
are chosen first, and then only their repositories are read.
"""

import json
from dataclasses import replace
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from cache.oci.errors import Unauthorized
from cache.oci.names import NAME_LIMIT
from gateway.auth.principal import Principal
from gateway.auth.scopes import CATALOG
from gateway.http.errors import API_VERSION
from gateway.registry.native_store import NativeStore
from gateway.v2.opener import RepositoryOpener
from gateway.v2.paging import page_size
from gateway.v2.root_selection import chosen_root

DEFAULT_COUNT = 100
PROJECTS_AT_ONCE = 100
"""Projects whose repositories are read first for a page; twice as many with each further look."""


class Catalog:
    """Handler of the list of repositories."""

    def __init__(self, store: NativeStore, opener: RepositoryOpener) -> None:
        self._store = store
        self._opener = opener

    async def list_repositories(self, request: Request, principal: Principal) -> ASGIApp:
        """A page of the names that the principal may pull, in their byte order. Raises Unauthorized."""
        if principal.limits is not None and CATALOG not in principal.limits.actions:
            raise Unauthorized("the Bearer token does not list the catalog")
        stated = page_size(request.query_params.get("n"))
        count = DEFAULT_COUNT if stated is None else stated
        last = request.query_params.get("last", "")
        found = await self._names(last, count + 1, replace(principal, limits=None)) if count else []
        names, headers = found[:count], dict(API_VERSION)
        if len(found) > count:
            query = {} if stated is None else {"n": str(stated)}
            query["last"] = names[-1]
            headers["Link"] = f'<{chosen_root(request.scope).url}/v2/_catalog?{urlencode(query)}>; rel="next"'
        body = json.dumps({"repositories": names}, separators=(",", ":"))
        return Response(body, 200, headers, "application/json")

    async def _names(self, last: str, limit: int, principal: Principal) -> list[str]:
        """The first names after a text that a principal may pull.

        A repository has the path of its project, or one below it. So those of the projects before a path, and of its
        parts from the beginning, are all names before it, and some after.
        """
        reach = await self._opener.reach(principal)
        names: list[str] = []
        after, also, count = last, _projects_before(last), PROJECTS_AT_ONCE
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
        return [id for id, path in projects.items() if await self._opener.may_pull(principal, path)]


def _projects_before(last: str) -> list[str]:
    """Paths at or before a text of projects that may have repositories after it."""
    return [last[:end] for end in range(1, min(len(last), NAME_LIMIT) + 1) if last[end : end + 1] <= "/"]

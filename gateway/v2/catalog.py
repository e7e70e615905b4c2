"""The list of all repositories (distribution project, "Catalog"), of which each principal sees what it may pull."""

import asyncio
import json
from dataclasses import replace
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from cache.oci.errors import Unauthorized
from cache.values import PageStart
from gateway.auth.principal import Principal
from gateway.auth.scopes import CATALOG
from gateway.http.errors import API_VERSION
from gateway.registry.native_store import NativeStore
from gateway.v2.opener import RepositoryOpener
from gateway.v2.paging import SEALED, PageLinks, page_size
from gateway.v2.root_selection import chosen_root

DEFAULT_COUNT = 100
EXAMINED = 1000
"""Repositories that one request looks at; a page is shorter where few of them may be pulled."""


class Catalog:
    """Handler of the list of repositories."""

    def __init__(self, store: NativeStore, opener: RepositoryOpener, links: PageLinks) -> None:
        self._store = store
        self._opener = opener
        self._links = links

    async def list_repositories(self, request: Request, principal: Principal) -> ASGIApp:
        """A page of the names that the principal may pull, in their byte order. Raises Unauthorized."""
        if principal.limits is not None and CATALOG not in principal.limits.actions:
            raise Unauthorized("the Bearer token does not list the catalog")
        count = page_size(request.query_params.get("n"))
        names, after = await self._page(
            await self._position(request.query_params.get("last")),
            DEFAULT_COUNT if count is None else count,
            replace(principal, limits=None),
        )
        headers = dict(API_VERSION)
        if after is not None:
            query = {} if count is None else {"n": str(count)}
            query["last"] = await asyncio.to_thread(self._written, after, names)
            headers["Link"] = f'<{chosen_root(request.scope).url}/v2/_catalog?{urlencode(query)}>; rel="next"'
        body = json.dumps({"repositories": names}, separators=(",", ":"))
        return Response(body, 200, headers, "application/json")

    async def _page(self, after: str, count: int, principal: Principal) -> tuple[list[str], str | None]:
        """At most `count` names after a path, and the path after which the next page begins; None on the last one."""
        names: list[str] = []
        pullable: dict[int, bool] = {}
        stored = await self._store.list_repositories(after, EXAMINED + 1) if count else []
        first = {repository.project_id: repository.path for repository in reversed(stored)}
        await self._opener.remember_projects_of(first.values())
        for repository in stored[:EXAMINED]:
            if len(names) == count:
                return names, after
            if repository.project_id not in pullable:
                pullable[repository.project_id] = await self._opener.may_pull(principal, repository.path)
            if pullable[repository.project_id]:
                names.append(repository.path)
            after = repository.path
        return names, after if len(stored) > EXAMINED else None

    async def _position(self, last: str | None) -> str:
        """The path after which a page begins. Raises TagInvalid for a sealed one that is none of this list."""
        if last is None or not last.startswith(SEALED):
            return last or ""
        return (await asyncio.to_thread(self._links.read, last, CATALOG)).after

    def _written(self, after: str, names: list[str]) -> str:
        """The parameter for the next page. The path of a repository that the page does not show is sealed: not all may
        know of it."""
        if names and names[-1] == after:
            return after
        return self._links.write(PageStart("", after, 1), CATALOG)

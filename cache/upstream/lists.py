"""Pages of lists as other registries send them: how one is requested, and where the next begins; pure.

The specification has `last=<tag>`; registries also have pages of their own, whose query means something to them alone.
Of a Link only the query is used: the request for the next page goes to the upstream's own address, as all do.
"""

import re
from collections.abc import Collection
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

from cache.upstream.urls import origin_of
from cache.values import Origin, PageStart

PAGE_SIZE = 1000
"""Names of a page that is requested from an upstream: ECR refuses a larger `n`."""

QUERY_LIMIT = 4096
"""Characters of the query of a next page; sealed it must fit into a request's target."""

_LINK = re.compile(r"<([^<>]*)>([^<>]*)")
_IS_NEXT = re.compile(r';\s*rel\s*=\s*"?next"?\s*(?:[;,]|$)', re.IGNORECASE)
_QUERY = re.compile(r"[!-~]+")


def page_query(count: int | None, start: PageStart) -> str:
    """The query of the upstream's page in which a page begins. `count`: None if the client wants no limit.

    The size of the upstream's pages does not depend on that of ours, so that clients with different ones share a
    request.
    """
    if start.query is not None:
        return start.query
    size = {"n": str(PAGE_SIZE)} if count is not None else {}
    return urlencode(size | ({"last": start.after} if start.after else {}))


def next_page(link: str, url: str, origins: Collection[Origin], names: list[str]) -> PageStart | None:
    """Where the next page of tags begins, by the Link header of the response to `url`; None if there is none.

    A Link that cannot be followed states that there is more: the page then begins after the last of the `names`, as
    the specification has it.
    """
    after = names[-1] if names else ""
    try:
        query = next_query(link, url, origins)
    except ValueError:
        return PageStart(None, after) if after else None
    return PageStart(query, after) if query else None


def next_query(link: str, url: str, origins: Collection[Origin]) -> str:
    """The query of the page that follows, by the Link header of the response to `url`; empty at the end.

    `origins`: of the upstream, and of the target of its redirect. A Link that repeats the request ends the list. Raises
    ValueError for one that cannot be followed, because it leads elsewhere, is no URL, or is too long.
    """
    target = next((target for target, rest in _LINK.findall(link) if _IS_NEXT.search(rest)), None)
    if target is None:
        return ""
    found = urljoin(url, target)
    if not _is_at(origin_of(found), origins):
        raise ValueError("the list continues at another host")
    query = urlsplit(found).query
    if len(query) > QUERY_LIMIT or (query and not _QUERY.fullmatch(query)):
        raise ValueError("the link to the next page is no URL, or too long")
    place, here = _place(query), _place(urlsplit(url).query)
    return query if place and place != here else ""


def _is_at(origin: Origin, origins: Collection[Origin]) -> bool:
    """Whether a Link leads to one of these origins: as it is, or without the https that a proxy in front has added."""
    plain = origin.scheme == "http" and origin.port == 80
    return origin in origins or (plain and Origin("https", origin.host, 443) in origins)


def _place(query: str) -> list[tuple[str, str]]:
    """Return what a query says of the place in the list, which its size does not change."""
    return sorted((name, value) for name, value in parse_qsl(query, keep_blank_values=True) if name != "n")

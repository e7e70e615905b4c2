"""Pages of tags for clients, cut from those of upstreams, which may be longer or begin earlier than requested; pure."""

from cache.values import PageStart, TagPage


def cut(page: TagPage, query: str, start: PageStart, count: int | None) -> TagPage:
    """Cut at most `count` names from the upstream's page of a query, from a start on.

    A page that lists the name after which it should begin shows that the upstream has ignored the request for it.
    """
    if count == 0:
        return TagPage([], None, page.size)  # no Link then (distribution-spec, "Listing Tags")
    begin = _begin(page.tags, start)
    if count is None or len(page.tags) - begin <= count:
        repeats = page.next is not None and page.next.query is None and page.next.after == start.after
        return TagPage(page.tags[begin:] if begin else page.tags, None if repeats else page.next, page.size)
    names = page.tags[begin : begin + count]
    return TagPage(names, PageStart(query, names[-1], begin + count), page.size)


def _begin(names: list[str], start: PageStart) -> int:
    if not start.after:
        return start.skip
    if 0 < start.skip <= len(names) and names[start.skip - 1] == start.after:
        return start.skip
    return names.index(start.after) + 1 if start.after in names else start.skip

"""Judged tags of a repository, page by page, and those of them that a rule deletes, in batches of one transaction each.

The newest are judged first, and what is deleted is gathered and sorted by name: neighbours lie in the same pages of the
database's indexes, each of which a transaction writes once, however many of its rows it deletes.
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from functools import partial

from gateway.auth.protection import TagGuard, describe_rule
from gateway.db import tags
from gateway.db.engine import Database
from gateway.db.tags import DatedName
from gateway.namespaces.protection import Protection
from gateway.registry.cleanup import DatedTag, Judge, JudgedTag, TagVerdict, unprotected

PAGE = 500
"""Tags that are judged at once, in some milliseconds."""
BATCH = 1_000
"""Tags that one transaction deletes, for which other writers wait some tens of milliseconds."""
GATHERED = 20_000
"""Tags that are sorted before they are deleted: some MiB at most."""


def protection_by(rules: Protection) -> Callable[[str], str]:
    """What keeps tags from a cleanup: each rule that keeps them from anybody, in words."""
    guard = TagGuard(rules)

    def protection(name: str) -> str:
        rule = guard.find_keeping(name)
        return describe_rule(rule) if rule is not None else ""

    return protection if guard.has_rules else unprotected


async def judged_pages(
    database: Database, repository_id: int, judge: Judge
) -> AsyncGenerator[Sequence[JudgedTag], None]:
    """Judge the tags of a repository page by page, the newest first."""
    last: DatedName | None = None
    while True:
        listed = partial(tags.list_by_date, repository_id=repository_id, after=last, limit=PAGE)
        page = await database.query(listed)
        if page:
            last = page[-1]
            yield [judge.judge(DatedTag(row.name, row.moved_at)) for row in page]
        if len(page) < PAGE:
            return


async def doomed_batches(
    database: Database, repository_id: int, judge: Judge
) -> AsyncGenerator[tuple[int, Sequence[DatedName]], None]:
    """Judge the tags of a repository, and divide those to delete into batches, each sorted by name. After each page it
    yields how many it has judged, without a batch; each batch comes alone."""
    gathered: list[DatedName] = []
    async with aclosing(judged_pages(database, repository_id, judge)) as pages:
        async for page in pages:
            gathered += [_row_of(each) for each in page if each.verdict is TagVerdict.DELETED]
            yield len(page), ()
            if len(gathered) >= GATHERED:
                for batch in _sorted_batches(gathered):
                    yield 0, batch
                gathered = []
    for batch in _sorted_batches(gathered):
        yield 0, batch


def _sorted_batches(gathered: Sequence[DatedName]) -> list[list[DatedName]]:
    ordered = sorted(gathered, key=lambda tag: tag.name)
    return [ordered[first : first + BATCH] for first in range(0, len(ordered), BATCH)]


def _row_of(judged: JudgedTag) -> DatedName:
    date = judged.tag.published_at
    assert date is not None, "a tag of unknown date is never deleted"
    return DatedName(judged.tag.name, date)

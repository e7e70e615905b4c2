"""Tag lists: the part of a repository's tags that a page shows, in the order that its address names."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from gateway.db.tags import DatedName
from gateway.db.windows import ListWindow
from gateway.registry.inventory import Inventory
from gateway.registry.tag_summaries import TagSummary
from gateway.web.forms import Form

PAGE = 50
"""Tags on a page."""

_JOINT = "~"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MOST_DIGITS = 17

SORTS = {
    "published": "Newest first",
    "oldest": "Oldest first",
    "name": "Name, A to Z",
    "name_desc": "Name, Z to A",
}
"""What a list may be sorted by, and how a page calls it."""


@dataclass(frozen=True, slots=True)
class TagPart:
    """A part of a list of tags. `next`: where the next part begins; empty where this is the last one."""

    rows: Sequence[TagSummary]
    sort: str
    search: str
    next: str


async def read_tags(inventory: Inventory, repository_id: int, query: Form) -> TagPart:
    """Read the part of a repository's tags that a query names; what it names wrongly means nothing."""
    sort, search, after = query.one("sort"), query.one("search").strip(), query.one("after")
    sort = sort if sort in SORTS else "published"
    names, following = await (_by_name if sort.startswith("name") else _by_date)(
        inventory, repository_id, sort, search, after
    )
    return TagPart(await inventory.summaries(repository_id, names), sort, search, following)


async def _by_name(
    inventory: Inventory, repository_id: int, sort: str, search: str, after: str
) -> tuple[Sequence[str], str]:
    window = ListWindow(PAGE, after=after or None, descending=sort == "name_desc", search=search)
    part = await inventory.tags(repository_id, window, counted=False)
    return part.rows, part.rows[-1] if part.more else ""


async def _by_date(
    inventory: Inventory, repository_id: int, sort: str, search: str, after: str
) -> tuple[Sequence[str], str]:
    window = ListWindow(PAGE, descending=sort == "published", search=search)
    part = await inventory.dated_tags(repository_id, window, _place(after), counted=False)
    return [row.name for row in part.rows], _text(part.rows[-1]) if part.more else ""


def _text(row: DatedName) -> str:
    return f"{(row.moved_at - _EPOCH) // timedelta(microseconds=1)}{_JOINT}{row.name}"


def _place(text: str) -> DatedName | None:
    """The tag after which a part begins; None for what names none."""
    digits, joint, name = text.partition(_JOINT)
    if not joint or not (digits.isascii() and digits.isdigit() and len(digits) <= _MOST_DIGITS):
        return None
    return DatedName(name, _EPOCH + timedelta(microseconds=int(digits)))

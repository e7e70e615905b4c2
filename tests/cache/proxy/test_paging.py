"""Pages of tags, cut from those of upstreams that ignore what was requested."""

import pytest

from cache.proxy.paging import cut
from cache.values import BEGINNING, PageStart, TagPage

NAMES = ["a", "b", "c", "d", "e"]
MORE = PageStart("next=1", "e")


@pytest.mark.parametrize(
    ("page", "start", "count", "expected"),
    [
        (TagPage(NAMES), BEGINNING, None, TagPage(NAMES)),
        (TagPage(NAMES), BEGINNING, 2, TagPage(["a", "b"], PageStart("q", "b", 2))),
        (TagPage(NAMES), PageStart("q", "b", 2), 2, TagPage(["c", "d"], PageStart("q", "d", 4))),
        (TagPage(NAMES), PageStart("q", "d", 4), 2, TagPage(["e"])),
        (TagPage(NAMES, MORE), PageStart("q", "d", 4), 2, TagPage(["e"], MORE)),
        (TagPage(NAMES, MORE), BEGINNING, 5, TagPage(NAMES, MORE)),
        (TagPage(NAMES), PageStart(None, "c"), None, TagPage(["d", "e"])),
        (TagPage(NAMES), PageStart(None, "x"), None, TagPage(NAMES)),
        (TagPage(NAMES), PageStart("q", "gone", 3), 9, TagPage(["d", "e"])),
        (TagPage(NAMES), PageStart("q", "a", 3), 9, TagPage(["b", "c", "d", "e"])),
        (TagPage(NAMES, PageStart(None, "e")), PageStart(None, "e"), 9, TagPage([])),
        (TagPage(NAMES, MORE), BEGINNING, 0, TagPage([])),
        (TagPage([], MORE), PageStart("q", "e"), 5, TagPage([], MORE)),
    ],
)
def test_a_page_is_cut_where_the_client_is(
    page: TagPage, start: PageStart, count: int | None, expected: TagPage
) -> None:
    assert cut(page, "q", start, count) == expected

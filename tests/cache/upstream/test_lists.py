"""Links of tag lists: where the next page begins, and what ends a list."""

import pytest

from cache.upstream.lists import next_page, page_query
from cache.values import BEGINNING, Origin, PageStart

ORIGINS = [Origin("https", host, 443) for host in ("registry.example", "cdn.example")]
URL = "https://registry.example/prefix/?n=1000&last=b"


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ('</v2/a/tags/list?n=1000&last=d>; rel="next"', PageStart("n=1000&last=d", "d")),
        ("</v2/a/tags/list?last=d>; rel=next", PageStart("last=d", "d")),
        ('<https://registry.example/v2/a/tags/list?last=x%3D%3D>; rel="next"', PageStart("last=x%3D%3D", "d")),
        ('<http://registry.example/other/path?next_page=q&n=5>; rel="next"', PageStart("next_page=q&n=5", "d")),
        ('<https://registry.example:5000/v2/a/tags/list?last=x>; rel="next"', PageStart(None, "d")),
        ('<http://cdn.example:443/v2/a/tags/list?last=x>; rel="next"', PageStart(None, "d")),
        ('<https://cdn.example/v2/a/tags/list?last=y>; rel="next"', PageStart("last=y", "d")),
        ('<?last=d>; title="x"; rel="next"', PageStart("last=d", "d")),
        ('<?last=a>; rel="prev", <?last=d>; rel="next"', PageStart("last=d", "d")),
        ('<https://evil.example/v2/a/tags/list?last=x>; rel="next"', PageStart(None, "d")),
        ('<http://[::1/?last=x>; rel="next"', PageStart(None, "d")),
        ('<?last=a\x80b>; rel="next"', PageStart(None, "d")),
        (f'<?last={"x" * 5000}>; rel="next"', PageStart(None, "d")),
        ('<?last=b&n=1000>; rel="next"', None),
        ('<?n=20&last=b>; rel="next"', None),
        ('</v2/a/tags/list>; rel="next"', None),
        ('<?n=1000>; rel="next"', None),
        ('<>; rel="next"', None),
        ('<?last=a>; rel="prev"', None),
        ("", None),
        ("<" * 5000, None),
    ],
)
def test_a_link_says_where_the_next_page_begins(link: str, expected: PageStart | None) -> None:
    assert next_page(link, URL, ORIGINS, ["c", "d"]) == expected


def test_a_link_elsewhere_from_a_page_without_names_is_the_end() -> None:
    assert next_page('<https://evil.example/?last=x>; rel="next"', URL, ORIGINS, []) is None


@pytest.mark.parametrize(
    ("count", "start", "expected"),
    [
        (None, BEGINNING, ""),
        (5, BEGINNING, "n=1000"),
        (None, PageStart(None, "v1"), "last=v1"),
        (5, PageStart(None, "sha256:ab"), "n=1000&last=sha256%3Aab"),
        (5, PageStart("last=opaque%3D", "v1", 3), "last=opaque%3D"),
        (5, PageStart("", "v1", 3), ""),
    ],
)
def test_a_page_is_requested_by_the_query_of_its_link_or_by_those_of_the_specification(
    count: int | None, start: PageStart, expected: str
) -> None:
    assert page_query(count, start) == expected

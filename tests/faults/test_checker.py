"""Tests of the checker: every rule finds its violation, and accepts what has a cause."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from .checker import Evidence, judge
from .evictions import evictions
from .ledger import Deed, Done, Kind, Seen
from .proxy import ToldLie
from .weather import HONEST

DIGEST = "sha256:" + 64 * "a"
GOOD = Seen(Kind.BLOB, "any", DIGEST, 10, 11, 200, complete=True, received=5, waited=0.1, x_cache="HIT")
LATER = replace(GOOD, begun=20, ended=21)
UNAVAILABLE = replace(LATER, status=503, x_cache=None, retry_after="1")
CUT = replace(GOOD, complete=False)


def found(*seen: Seen, done: tuple[Done, ...] = (), told: tuple[ToldLie, ...] = (), gets: int = 1) -> list[str]:
    """Names of the rules that find a violation."""
    against = judge(Evidence(seen, done, told, {DIGEST: gets}))
    return [rule for rule, sentences in against.items() if sentences]


def lied(at: float, about: str = DIGEST) -> tuple[ToldLie, ...]:
    return (ToldLie(at, about, HONEST),)


@pytest.mark.parametrize(
    ("seen", "rule"),
    [
        (replace(GOOD, right=False), "wrong_bytes"),
        (replace(GOOD, status=500, x_cache=None), "strange_statuses"),
        (replace(GOOD, status=404, x_cache=None), "strange_statuses"),
        (replace(GOOD, status=206), "strange_statuses"),
        (replace(UNAVAILABLE, retry_after=None), "strange_statuses"),
        (replace(GOOD, x_cache=None), "unnamed_outcomes"),
        (replace(GOOD, x_cache="PERHAPS"), "unnamed_outcomes"),
        (replace(GOOD, waited=26), "endless_waits"),
        (replace(CUT, hung=True), "endless_waits"),
        (CUT, "broken_without_cause"),
        (replace(CUT, status=0), "broken_without_cause"),
    ],
)
def test_what_may_never_be_is_found(seen: Seen, rule: str) -> None:
    assert found(seen) == [rule]


def test_a_good_answer_is_good() -> None:
    assert found(GOOD, replace(GOOD, kind=Kind.RANGE, status=206)) == []


def test_what_was_cached_is_not_unavailable_unless_it_was_evicted_since() -> None:
    assert found(GOOD, UNAVAILABLE) == ["lost_content"]
    assert found(GOOD, replace(UNAVAILABLE, image="another")) == []
    assert found(replace(GOOD, x_cache="MISS"), UNAVAILABLE) == []
    assert found(GOOD, UNAVAILABLE, done=(Done(Deed.EVICT, 15, 16, DIGEST),)) == []
    assert found(GOOD, UNAVAILABLE, done=(Done(Deed.EVICT, 5, 6, DIGEST),)) == ["lost_content"]
    assert found(GOOD, UNAVAILABLE, done=(Done(Deed.FAILPOINT, 5, 16, "spool.write=error:ENOSPC@2"),)) == []
    assert found(GOOD, UNAVAILABLE, done=(Done(Deed.FAILPOINT, 5, 16, "spool.write=error:EIO@3"),)) == ["lost_content"]
    assert found(GOOD, UNAVAILABLE, done=(Done(Deed.FULL, 15, 16),)) == []
    assert found(GOOD, UNAVAILABLE, done=(Done(Deed.PAIR, 15, 16, DIGEST, "clock + kill"),)) == ["lost_content"]


def test_what_the_log_says_was_evicted_for_room_is_excused() -> None:
    line = (
        f"2026-11-28T06:22:28.123456Z [info     ] evicted_for_room               bytes=9 digests=['{DIGEST}', "
        f"'sha256:{'0' * 64}']\n"
    )
    at = datetime(2026, 11, 28, 6, 22, 28, tzinfo=UTC).timestamp()
    excused, other = evictions("began\n" + line + line.replace("evicted_for", "no"), at - 15)
    assert (excused.about, excused.begun, excused.ended, other.about[-4:]) == (DIGEST, 15, 16, "0000")
    assert found(GOOD, UNAVAILABLE, done=(excused,)) == []
    assert found(GOOD, UNAVAILABLE, done=(other,)) == ["lost_content"]


def test_a_broken_answer_is_explained_by_a_death_or_by_a_lie_about_it() -> None:
    assert found(CUT, done=(Done(Deed.KILL, 9, 10),)) == []
    assert found(CUT, done=(Done(Deed.KILL, 1, 2),)) == ["broken_without_cause"]
    assert found(CUT, told=lied(9)) == []
    assert found(CUT, told=lied(9, "another")) == ["broken_without_cause"]
    assert found(replace(CUT, status=0), told=lied(9)) == ["broken_without_cause"]


def test_a_content_is_fetched_again_for_a_reason_alone() -> None:
    assert found(gets=2) == ["needless_fetches"]
    assert found(gets=2, told=lied(9)) == []
    assert found(gets=2, done=(Done(Deed.KILL, 1, 2),)) == []
    assert found(gets=2, done=(Done(Deed.EVICT, 1, 2, DIGEST),)) == []
    assert found(gets=2, done=(Done(Deed.EVICT, 1, 2, "another"),)) == ["needless_fetches"]


def test_what_a_full_disk_cannot_keep_is_fetched_for_each_client() -> None:
    missed, full = replace(GOOD, x_cache="COALESCED"), Done(Deed.FULL, GOOD.begun, GOOD.ended)
    assert found(missed, missed, gets=4, done=(full,)) == []
    assert found(missed, missed, gets=5, done=(full,)) == ["needless_fetches"]
    assert found(missed, gets=4, done=(full,)) == ["needless_fetches"]
    assert found(missed, missed, gets=4, done=(replace(full, begun=1, ended=2),)) == ["needless_fetches"]

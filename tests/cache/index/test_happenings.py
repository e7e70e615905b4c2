"""What is remembered of happenings: the last of each kind, how often, bounded, whoever wrote it."""

from datetime import timedelta
from pathlib import Path

import pytest

from cache.index import happenings as module
from cache.index.happenings import Chronicle, Happening, What
from tests.cache.samples import ALICE, ANONYMOUS, APP, NOON, WEB

REFUSED = Happening(What.REFUSED, NOON, ANONYMOUS, APP, "latest", "it said no")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "usage.db"


def test_the_last_of_each_is_kept_and_how_often_it_was(path: Path) -> None:
    one, other = Chronicle(path), Chronicle(path)
    later = NOON + timedelta(hours=1)
    one.note(REFUSED)
    one.note(Happening(What.REFUSED, NOON, ANONYMOUS, APP, "latest", "again"))
    one.flush()
    other.note(Happening(What.REFUSED, later, ANONYMOUS, APP, "latest", "at last"))
    other.note(Happening(What.EVICTED, NOON, ANONYMOUS, APP, "latest", "to make room", 7))
    other.flush()
    last, evicted = one.of_image(ANONYMOUS, APP)
    assert last == Happening(What.REFUSED, later, ANONYMOUS, APP, "latest", "at last", times=3)
    assert evicted == Happening(What.EVICTED, NOON, ANONYMOUS, APP, "latest", "to make room", 7)


def test_an_image_sees_its_own_and_a_digest_is_found_whosever_it_was(path: Path) -> None:
    chronicle = Chronicle(path)
    chronicle.note(REFUSED)
    chronicle.note(Happening(What.FILLED, NOON, ALICE, WEB, "sha256:aa", bytes=10, seconds=2.5))
    chronicle.note(Happening(What.EVICTED, NOON + timedelta(days=1), None, None, "sha256:aa", "to make room"))
    chronicle.flush()
    assert chronicle.of_image(ALICE, APP) == chronicle.of_image(ANONYMOUS, WEB) == []
    assert chronicle.of_image(ANONYMOUS, APP) == [REFUSED]
    evicted, filled = chronicle.of_subjects(["sha256:aa", "sha256:bb"])
    assert (evicted.what, evicted.reason) == (What.EVICTED, "to make room")
    assert (filled.what, filled.bytes, filled.seconds) == (What.FILLED, 10, 2.5)


def test_the_oldest_go_where_there_are_too_many(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT", 3)
    monkeypatch.setattr(module, "_PENDING", 4)
    chronicle = Chronicle(path)
    for number in range(6):
        chronicle.note(Happening(What.FILLED, NOON + timedelta(minutes=number), ANONYMOUS, APP, f"t{number}"))
    chronicle.flush()
    assert [happening.subject for happening in chronicle.of_image(ANONYMOUS, APP)] == ["t5", "t4", "t3"]


def test_nothing_is_known_before_something_was_written(path: Path) -> None:
    chronicle = Chronicle(path)
    chronicle.flush()
    assert not path.exists()
    assert chronicle.of_image(ANONYMOUS, APP) == chronicle.of_subjects(["latest"]) == []

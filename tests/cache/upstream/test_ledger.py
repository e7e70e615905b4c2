"""The ledger: what one process learns of a limit the others know, and a file that is gone or wrong is no trouble."""

import json
import threading
from pathlib import Path

import pytest

from cache.upstream import ledger as ledger_module
from cache.upstream.allowance import RequestKind, StatedLimit, after_response
from cache.upstream.errors import RateLimited
from cache.upstream.ledger import Ledger, read
from cache.upstream.quota import Quota
from cache.values import CredentialId, Source
from tests.cache.samples import ALICE, ANONYMOUS


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "quota.json"


LIMITED = StatedLimit(100, 0, 21600, "1.2.3.4")


def refuse(quota: Quota, retry: int = 60) -> None:
    with quota.request(RequestKind.PULL) as counted:
        counted.refused(LIMITED, retry)


def test_a_pause_holds_for_every_process_at_once_and_for_no_other_credential(path: Path, clock: Clock) -> None:
    one, other = Quota(Ledger(path, clock), ANONYMOUS), Quota(Ledger(path, clock), ANONYMOUS)
    assert other.pause(RequestKind.PULL) == 0
    refuse(one)
    assert other.pause(RequestKind.PULL) == 60
    with pytest.raises(RateLimited, match="used up until 22:14 UTC") as caught, other.request(RequestKind.PULL):
        raise AssertionError("it was sent")
    assert caught.value.retry_after == 60
    with other.request(RequestKind.CONTENT) as counted:
        counted.responded(None)
    assert Quota(Ledger(path, clock), ALICE).pause(RequestKind.PULL) == 0


def test_after_a_pause_one_process_sends_one_request_and_the_others_wait_for_it(path: Path, clock: Clock) -> None:
    quotas = [Quota(Ledger(path, clock), ANONYMOUS) for _ in range(4)]
    refuse(quotas[0])
    clock.now += 60
    assert [quota.pause(RequestKind.PULL) for quota in quotas] == [0] * 4
    with quotas[1].request(RequestKind.PULL) as counted:
        for quota in quotas:
            with pytest.raises(RateLimited), quota.request(RequestKind.PULL):
                raise AssertionError("it was sent")
        counted.responded(StatedLimit(100, 7, 21600))
    for quota in quotas:
        with quota.request(RequestKind.PULL) as counted:
            counted.responded(StatedLimit(100, 6, 21600))


def test_of_many_threads_one_goes_first(path: Path, clock: Clock) -> None:
    quotas = [Quota(Ledger(path, clock), ANONYMOUS) for _ in range(8)]
    refuse(quotas[0])
    clock.now += 60
    gate, sent = threading.Barrier(8), []

    def go(quota: Quota) -> None:
        gate.wait(30)
        try:
            with quota.request(RequestKind.PULL):
                sent.append(quota)
        except RateLimited:
            pass

    threads = [threading.Thread(target=go, args=(quota,)) for quota in quotas]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(sent) == 1


def test_what_is_left_is_told_to_others_by_a_flush(path: Path, clock: Clock) -> None:
    ledger, other = Ledger(path, clock), Ledger(path, clock)
    with Quota(ledger, ANONYMOUS).request(RequestKind.PULL) as counted:
        counted.responded(StatedLimit(100, 99, 21600))
    assert other.all() == {}
    ledger.flush()
    assert other.find(ANONYMOUS).remaining == 99
    assert read(path)[ANONYMOUS].limit == 100
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_last_word_of_the_upstream_counts_whoever_heard_it(path: Path, clock: Clock) -> None:
    one, other = Ledger(path, clock), Ledger(path, clock)
    key = ANONYMOUS
    one.note(key, lambda known: after_response(known, RequestKind.PULL, StatedLimit(100, 9), clock.now, clock.now))
    other.note(
        key, lambda known: after_response(known, RequestKind.PULL, StatedLimit(100, 8), clock.now, clock.now + 1)
    )
    other.flush()
    one.flush()
    assert Ledger(path, clock).find(key).remaining == 8
    assert one.find(key).remaining == 8


def test_while_what_is_left_is_on_its_way_to_others_the_next_pull_waits(clock: Clock) -> None:
    quota = Quota(Ledger(clock=clock), ANONYMOUS)
    with quota.request(RequestKind.PULL) as counted:
        counted.responded(StatedLimit(100, 2, 21600))
    clock.now += 1
    with quota.request(RequestKind.PULL):
        assert quota.pause(RequestKind.PULL) == 0
        with quota.request(RequestKind.PULL):
            assert quota.pause(RequestKind.PULL) > 0
        assert quota.pause(RequestKind.PULL) == 0


def test_a_file_that_vanishes_takes_nothing_from_who_knows(path: Path, clock: Clock) -> None:
    quota = Quota(Ledger(path, clock), ANONYMOUS)
    refuse(quota)
    path.unlink()
    path.with_suffix(".lock").unlink()
    assert quota.pause(RequestKind.PULL) == 60
    refuse(Quota(Ledger(path, clock), ALICE))
    assert quota.pause(RequestKind.PULL) == 60


GOOD = {"limit": 1, "remaining": 1, "window": 1, "source": "", "told_at": 1, "began": 0, "until": 0}
REST = {"everything": False, "strikes": 0, "samples": []}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"[]",
        b"7",
        b'{"a": 7}',
        b'{"a": {}}',
        b"[" * 100_000,
        json.dumps({"a": GOOD | REST | {"until": "soon"}}).encode(),
        json.dumps({"a": GOOD | REST | {"until": 1e300}}).encode(),
        json.dumps({"a": GOOD | REST | {"limit": -1}}).encode(),
        b'{"a": %b}' % json.dumps(GOOD | REST).replace("[]", "[[1e999, 1]]").encode(),
        b'{"a": %b}' % json.dumps(GOOD | REST).replace("[]", "[[1, 1e999]]").encode(),
        json.dumps({"a": GOOD | REST | {"samples": 7}}).encode(),
        json.dumps({"a": GOOD | REST | {"samples": [[1]]}}).encode(),
        b'{"a": %b}' % json.dumps(GOOD | REST).replace('"until": 0', '"until": NaN').encode(),
    ],
)
def test_a_file_that_is_no_ledger_tells_nothing_and_is_replaced(content: bytes, path: Path, clock: Clock) -> None:
    path.write_bytes(content)
    assert read(path) == {}
    quota = Quota(Ledger(path, clock), ANONYMOUS)
    assert quota.pause(RequestKind.PULL) == 0
    refuse(quota)
    assert Quota(Ledger(path, clock), ANONYMOUS).pause(RequestKind.PULL) == 60


def test_a_folder_that_cannot_be_written_to_leaves_the_process_its_own_knowledge(tmp_path: Path, clock: Clock) -> None:
    quota = Quota(Ledger(tmp_path / "missing" / "quota.json", clock), ANONYMOUS)
    refuse(quota)
    assert quota.pause(RequestKind.PULL) == 60


def test_a_lock_that_is_held_for_ever_is_not_waited_for(path: Path, clock: Clock) -> None:
    with Ledger(path, clock)._exclusively():
        refuse(Quota(Ledger(path, clock), ANONYMOUS))
    assert Quota(Ledger(path, clock), ANONYMOUS).pause(RequestKind.PULL) == 60


def test_a_part_that_is_refused_does_not_stop_the_download_that_it_belongs_to(clock: Clock) -> None:
    quota = Quota(Ledger(clock=clock), ANONYMOUS)
    with quota.request(RequestKind.PART) as counted:
        counted.refused(None, 60)
    assert quota.pause(RequestKind.CONTENT) == 0


def test_a_list_that_is_refused_stops_lists_alone(clock: Clock) -> None:
    quota = Quota(Ledger(clock=clock), ANONYMOUS)
    with quota.request(RequestKind.LIST) as counted:
        counted.refused(None, 60)
    assert not any(quota.pause(kind) for kind in RequestKind)
    with pytest.raises(RateLimited, match="too many lists") as refused, quota.request(RequestKind.LIST):
        pass
    assert refused.value.retry_after == 60
    with quota.request(RequestKind.PULL):
        pass
    clock.now += 60
    with quota.request(RequestKind.LIST):
        pass


def test_upstreams_that_users_name_have_so_many_entries_and_take_none_of_others(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "MOST_NAMED", 10)
    ledger = Ledger(path, clock)
    refuse(Quota(ledger, ANONYMOUS))
    for number in range(30):
        clock.now += 1
        refuse(Quota(ledger, Source(ANONYMOUS.origin, CredentialId("", virtual=f"key{number}"))))
    kept = read(path, clock)
    assert ANONYMOUS in kept and len(kept) <= 1 + 10 + 1
    assert Source(ANONYMOUS.origin, CredentialId("", virtual="key29")) in kept

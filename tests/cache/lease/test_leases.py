"""Leases: one worker holds a lease, others learn so at once, and it ends with its process."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cache.lease.base import Leases, held
from cache.lease.local import LocalLeases
from tests.cache.samples import open_descriptors

HOLD = """
import sys, time
from pathlib import Path
from cache.lease.local import LocalLeases
leases = LocalLeases(Path(sys.argv[1]))
lease, waiting = leases.take("a"), leases.register_waiter("b")
print(lease is not None, flush=True)
time.sleep(60)
"""
Make = Callable[[], Leases]


@pytest.fixture(params=["local"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """Factory of leases; each call stands for another worker."""
    return lambda: LocalLeases(tmp_path / "leases")


def test_one_at_a_time_holds_a_lease(make: Make) -> None:
    one, other = make(), make()
    lease = one.take("a")
    assert lease is not None
    assert other.take("a") is None
    assert one.take("a") is None
    lease.release()
    again = other.take("a")
    assert again is not None
    again.release()


def test_leases_of_other_names_are_free(make: Make) -> None:
    leases = [make().take(f"name {number}") for number in range(200)]
    assert all(leases)
    for lease in leases:
        assert lease is not None
        lease.release()


def test_a_lease_may_be_released_twice_and_the_next_holder_keeps_it(make: Make) -> None:
    lease = make().take("a")
    assert lease is not None
    lease.release()
    with held(make().take("a") or pytest.fail("not free")):
        lease.release()
        assert make().take("a") is None


def test_any_number_wait_and_the_holder_sees_it(make: Make) -> None:
    leases = make()
    assert not leases.has_waiters("a")
    one, two = make().register_waiter("a"), make().register_waiter("a")
    assert leases.has_waiters("a")
    assert not leases.has_waiters("b")
    one.release()
    assert leases.has_waiters("a")
    two.release()
    assert not leases.has_waiters("a")


def test_a_waiter_keeps_the_lease_from_nobody(make: Make) -> None:
    with held(make().register_waiter("a")):
        lease = make().take("a")
        assert lease is not None
        lease.release()


def test_nothing_stays_open(make: Make) -> None:
    before = open_descriptors()
    leases = make()
    with held(leases.take("a") or pytest.fail("not free")), held(leases.register_waiter("a")):
        assert leases.take("a") is None
        assert leases.has_waiters("a")
    assert open_descriptors() <= before


@pytest.mark.usefixtures("processes")
def test_the_leases_of_a_killed_process_are_free(make: Make, tmp_path: Path) -> None:
    leases = make()
    words = [sys.executable, "-c", HOLD, str(tmp_path / "leases")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        assert leases.take("a") is None
        assert leases.has_waiters("b")
        process.kill()
        process.wait(10)
    with held(leases.take("a") or pytest.fail("not free")):
        assert not leases.has_waiters("b")


def test_a_missing_folder_raises(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        LocalLeases(tmp_path / "missing" / "leases").take("a")

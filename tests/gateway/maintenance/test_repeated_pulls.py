"""Repeated pulls of stored blobs: which of them have a blob read again, and how much of that a server does."""

import threading
from collections.abc import Iterator

import pytest

from cache.oci.digest import Digest
from gateway.maintenance.repeated_pulls import (
    AGAIN_SECONDS,
    GUARD_SECONDS,
    MOST_WAITING,
    RECHECK_SECONDS,
    REMEMBERED,
    REST,
    REST_SECONDS,
    PullMemory,
    RepeatedPulls,
    Suspect,
    SuspectReader,
)
from tests.parts.children import in_child
from tests.parts.processes import wait_until

BLOB, OTHER = Digest.of(b"one"), Digest.of(b"other")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


class Noticing:
    """RepeatedPulls whose suspects are kept."""

    def __init__(self, clock: Clock, memory: PullMemory | None = None) -> None:
        self.suspects: list[Suspect] = []
        self._pulls = RepeatedPulls(self.suspects.append, memory or PullMemory(), clock)

    def pull(self, client: str, digest: Digest, *, completes: bool = True, is_native: bool = False) -> None:
        pull = self._pulls.watch(client, digest)
        pull.began(is_native=is_native)
        if completes:
            pull.completed()


@pytest.mark.parametrize("is_native", [False, True])
def test_a_client_that_pulls_a_whole_blob_again_makes_it_a_suspect(clock: Clock, is_native: bool) -> None:
    noticing = Noticing(clock)
    noticing.pull("ann", BLOB, is_native=is_native)
    assert noticing.suspects == []
    clock.now += AGAIN_SECONDS - 1
    noticing.pull("ann", BLOB, is_native=is_native)
    assert noticing.suspects == [Suspect(BLOB, is_native)]


def test_another_client_another_blob_and_a_later_pull_mean_nothing(clock: Clock) -> None:
    noticing = Noticing(clock)
    noticing.pull("ann", BLOB)
    noticing.pull("bob", BLOB)
    noticing.pull("ann", OTHER)
    clock.now += AGAIN_SECONDS
    noticing.pull("ann", BLOB)
    assert noticing.suspects == []


def test_a_pull_that_was_broken_off_means_nothing(clock: Clock) -> None:
    noticing = Noticing(clock)
    noticing.pull("ann", BLOB, completes=False)
    noticing.pull("ann", BLOB)
    assert noticing.suspects == []


@pytest.mark.usefixtures("processes")
def test_another_process_notices_too(clock: Clock) -> None:
    memory = PullMemory()
    in_child(lambda: Noticing(clock, memory).pull("ann", BLOB))
    noticing = Noticing(clock, memory)
    noticing.pull("ann", BLOB)
    assert noticing.suspects == [Suspect(BLOB, False)]


def test_pulls_of_ever_other_blobs_take_no_more_memory(clock: Clock) -> None:
    memory = PullMemory()
    noticing = Noticing(clock, memory)
    size = len(memory._memory)
    for number in range(2 * REMEMBERED):
        noticing.pull("ann", Digest.of(str(number).encode()))
    assert (len(memory._memory), noticing.suspects) == (size, [])


class Reading:
    """A SuspectReader whose checks wait until they are let go, and take as long as they are told."""

    def __init__(self, clock: Clock, memory: PullMemory) -> None:
        self.stopped = threading.Event()
        self.go = threading.Semaphore(0)
        self.seconds = 0.0
        self.failure: Exception | None = None
        self.checked: list[Suspect] = []
        self.reader = SuspectReader(self._check, self.stopped, memory, clock)
        self._clock = clock

    def _check(self, suspect: Suspect) -> None:
        self.go.acquire()
        self._clock.now += self.seconds
        self.checked.append(suspect)
        if self.failure:
            raise self.failure


@pytest.fixture
def memory() -> PullMemory:
    return PullMemory()


@pytest.fixture
def reading(clock: Clock, memory: PullMemory) -> Iterator[Reading]:
    reading = Reading(clock, memory)
    reading.reader.start()
    yield reading
    for _ in range(MOST_WAITING + 2):
        reading.go.release()
    reading.reader.close()


def suspects(count: int) -> list[Suspect]:
    return [Suspect(Digest.of(str(number).encode()), False) for number in range(count)]


def test_a_blob_is_read_once_in_ten_minutes(clock: Clock, memory: PullMemory, reading: Reading) -> None:
    [suspect] = suspects(1)
    assert reading.reader.add(suspect)
    assert not reading.reader.add(suspect)
    reading.go.release()
    wait_until(lambda: reading.checked == [suspect], what="it was not read")
    clock.now += RECHECK_SECONDS - 1
    assert not reading.reader.add(suspect)
    clock.now += 1
    assert reading.reader.add(suspect)


def test_what_another_process_has_read_is_not_read_again(clock: Clock, memory: PullMemory, reading: Reading) -> None:
    [suspect] = suspects(1)
    assert reading.reader.add(suspect)
    other = Reading(clock, memory)
    assert not other.reader.add(suspect)
    clock.now += RECHECK_SECONDS
    assert other.reader.add(suspect)


def test_few_wait_and_what_comes_beyond_them_is_not_read(clock: Clock, memory: PullMemory, reading: Reading) -> None:
    memory.next_reading = clock.now + 3600
    first, *others = suspects(MOST_WAITING + 2)
    assert reading.reader.add(first)
    wait_until(lambda: reading.reader._waiting.empty(), what="the thread took nothing")
    assert [reading.reader.add(suspect) for suspect in others] == [True] * MOST_WAITING + [False]
    assert not reading.checked


@pytest.mark.parametrize(("seconds", "rest"), [(0.0, REST_SECONDS), (20.0, REST * 20)])
def test_after_each_blob_no_process_reads_for_nine_times_as_long(
    clock: Clock, memory: PullMemory, reading: Reading, seconds: float, rest: float
) -> None:
    reading.seconds = seconds
    reading.reader.add(suspects(1)[0])
    reading.go.release()
    wait_until(lambda: memory.next_reading == clock.now + rest, what="the thread did not rest")


class PassingTime(threading.Event):
    """An event whose waiters wait until the clock says so."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self._clock.now += timeout
        return self.is_set()


def test_a_blob_is_read_when_all_processes_have_rested(clock: Clock, memory: PullMemory) -> None:
    memory.next_reading = due = clock.now + 30
    read: list[float] = []
    reader = SuspectReader(lambda _: read.append(clock.now), PassingTime(clock), memory, clock)
    reader.start()
    reader.add(suspects(1)[0])
    wait_until(lambda: memory.next_reading > due, what="nothing was read")
    reader.close()
    assert read == [due]


def test_others_wait_while_a_process_reads(clock: Clock, memory: PullMemory, reading: Reading) -> None:
    reading.reader.add(suspects(1)[0])
    wait_until(lambda: memory.next_reading == clock.now + GUARD_SECONDS, what="the thread did not begin")


@pytest.mark.parametrize("failure", [OSError("broken"), ValueError("unexpected")])
def test_a_failure_ends_no_thread(clock: Clock, memory: PullMemory, reading: Reading, failure: Exception) -> None:
    first, second = suspects(2)
    reading.failure = failure
    reading.reader.add(first)
    reading.go.release()
    wait_until(lambda: memory.next_reading == clock.now + REST_SECONDS, what="the thread did not rest")
    memory.next_reading = 0.0
    reading.reader.add(second)
    reading.go.release()
    wait_until(lambda: reading.checked == [first, second], what="the thread read nothing more")

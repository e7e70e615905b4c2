"""CircuitBreakers: when an upstream is left alone, and when it is asked again."""

import threading
from collections.abc import Callable
from concurrent.futures import Future

import pytest

from cache.upstream.circuit_breaker import (
    CLOSED,
    FIRST_WAIT,
    LONGEST_WAIT,
    PROBE_WITHIN,
    TRIP_AFTER,
    Admission,
    CircuitBreakers,
    CircuitState,
    admission,
    failed,
    given_up,
    probed,
)
from cache.upstream.errors import Unavailable
from cache.upstream.resolver import LIMIT, Lookups
from cache.values import Origin

ORIGIN, OTHER = Origin("https", "registry.example", 443), Origin("https", "token.example", 443)


def opened(at: float = 0.0) -> CircuitState:
    circuit = CLOSED
    for _ in range(TRIP_AFTER):
        circuit = failed(circuit, at, "refused")
    return circuit


# The states.


def test_it_opens_at_the_third_outage_in_a_row_and_says_since_the_first() -> None:
    first = failed(CLOSED, 1.0, "refused")
    second = failed(first, 2.0, "refused")
    assert admission(first, 1.0) is admission(second, 2.0) is Admission.PASS
    third = failed(second, 3.0, "timed out")
    assert admission(third, 3.0) is Admission.REFUSE
    assert (third.since, third.reason) == (1.0, "timed out")


def test_after_a_second_one_probe_goes_and_nobody_beside_it() -> None:
    circuit = opened()
    assert admission(circuit, FIRST_WAIT - 0.01) is Admission.REFUSE
    assert admission(circuit, FIRST_WAIT) is Admission.PROBE
    assert admission(probed(circuit, FIRST_WAIT), FIRST_WAIT + 5) is Admission.REFUSE


def test_every_probe_that_fails_doubles_the_wait_up_to_half_a_minute() -> None:
    circuit, now, waits = opened(), 0.0, []
    for _ in range(7):
        waits.append(circuit.wait)
        now = circuit.retry_at
        circuit = failed(probed(circuit, now), now, "refused", probe=True)
    assert waits == [1, 2, 4, 8, 16, 30, 30]
    assert circuit.wait == LONGEST_WAIT


def test_what_was_sent_before_it_opened_does_not_prolong_the_wait() -> None:
    assert failed(opened(), 0.9, "timed out").retry_at == FIRST_WAIT


def test_a_probe_that_is_lost_gives_way_to_the_next() -> None:
    circuit = probed(opened(), 1.0)
    assert admission(given_up(circuit, 2.0), 2.0) is Admission.PROBE
    assert admission(circuit, 1.0 + PROBE_WITHIN) is Admission.PROBE


def test_one_thing_that_fails_again_and_again_does_not_speak_for_the_whole() -> None:
    circuit = CLOSED
    for _ in range(100):
        circuit = failed(circuit, 0.0, "500", of="acme/app")
    assert admission(circuit, 0.0) is Admission.PASS
    for image in ("acme/web", "acme/db"):
        circuit = failed(circuit, 0.0, "500", of=image)
    assert admission(circuit, 0.0) is Admission.REFUSE


# All circuits of an upstream.


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def circuits(clock: Clock) -> CircuitBreakers:
    return CircuitBreakers(clock, lambda: 1_700_000_000 + clock.now - 1000)


def fail(circuits: CircuitBreakers, image: str, times: int = 1, *, host: bool = False) -> None:
    for _ in range(times):
        circuits.enter(ORIGIN, image).failed("it responded with 500", host=host)


def test_a_host_that_cannot_be_reached_is_left_alone_for_all_images_and_other_hosts_are_not(
    circuits: CircuitBreakers, clock: Clock
) -> None:
    fail(circuits, "acme/app", 3, host=True)
    clock.now += 0.5
    with pytest.raises(Unavailable) as caught:
        circuits.enter(ORIGIN, "acme/web")
    assert "registry.example has been failing since 22:13:20 UTC (it responded with 500)" in caught.value.reason
    assert caught.value.retry_after == 1
    assert circuits.is_open(ORIGIN)
    circuits.enter(OTHER, "acme/web").responded()
    assert not circuits.is_open(OTHER)


def test_an_image_that_fails_alone_is_left_alone_and_the_others_are_asked(circuits: CircuitBreakers) -> None:
    fail(circuits, "acme/app", 3)
    with pytest.raises(Unavailable):
        circuits.enter(ORIGIN, "acme/app")
    circuits.enter(ORIGIN, "acme/web").responded()
    assert not circuits.is_open(ORIGIN)
    with pytest.raises(Unavailable):
        circuits.enter(ORIGIN, "acme/app")


def test_three_images_that_fail_in_a_row_speak_for_the_host(circuits: CircuitBreakers) -> None:
    for image in ("a", "b"):
        fail(circuits, image)
    circuits.enter(ORIGIN, "c").responded()
    for image in ("a", "b", "c"):
        assert not circuits.is_open(ORIGIN)
        fail(circuits, image)
    assert circuits.is_open(ORIGIN)


def test_it_closes_by_itself_with_the_first_answer(circuits: CircuitBreakers, clock: Clock) -> None:
    fail(circuits, "a", 3, host=True)
    clock.now += 1
    probe = circuits.enter(ORIGIN, "b")
    with pytest.raises(Unavailable):
        circuits.enter(ORIGIN, "a")
    probe.responded()
    circuits.enter(ORIGIN, "a").responded()
    assert not circuits.is_open(ORIGIN)


def test_a_probe_whose_client_leaves_is_followed_by_another(circuits: CircuitBreakers, clock: Clock) -> None:
    fail(circuits, "a", 3, host=True)
    clock.now += 1
    circuits.enter(ORIGIN, "a").release()
    circuits.enter(ORIGIN, "a").failed("refused", host=True)
    clock.now += 1.5
    with pytest.raises(Unavailable):
        circuits.enter(ORIGIN, "a")


def test_only_the_first_thing_told_of_a_request_counts(circuits: CircuitBreakers) -> None:
    for _ in range(5):
        passage = circuits.enter(ORIGIN, "a")
        passage.responded()
        passage.failed("too late", host=True)
        passage.release()
    assert not circuits.is_open(ORIGIN)


def test_three_different_wrong_contents_make_a_host_suspect_for_a_while(
    circuits: CircuitBreakers, clock: Clock
) -> None:
    for _ in range(5):
        circuits.note_invalid_content(ORIGIN, "blob one")
    circuits.enter(ORIGIN, "a").responded()
    circuits.note_invalid_content(ORIGIN, "blob two")
    circuits.note_valid_content(ORIGIN)
    for blob in ("one", "two", "three"):
        circuits.enter(ORIGIN, "a").responded()
        circuits.note_invalid_content(ORIGIN, f"blob {blob}")
    assert circuits.is_open(ORIGIN)
    with pytest.raises(Unavailable, match="blob three"):
        circuits.enter(ORIGIN, "a")
    clock.now += 1
    assert not circuits.is_open(ORIGIN)
    circuits.enter(ORIGIN, "a").responded()
    circuits.note_invalid_content(ORIGIN, "blob one")
    circuits.enter(ORIGIN, "a").responded()
    circuits.note_invalid_content(ORIGIN, "blob four")
    clock.now += 1.5
    with pytest.raises(Unavailable, match="blob four"):
        circuits.enter(ORIGIN, "a")
    clock.now += 0.5
    circuits.note_valid_content(ORIGIN)
    circuits.note_invalid_content(ORIGIN, "blob five")
    circuits.enter(ORIGIN, "a").responded()


def test_images_without_number_do_not_take_memory_without_end(circuits: CircuitBreakers) -> None:
    for number in range(3000):
        circuits.enter(OTHER, "good").responded()
        try:
            fail(circuits, f"image/{number}")
        except Unavailable:
            circuits.note_response([(ORIGIN, "")])
    assert len(circuits._circuits) <= 1001


# Names that are slow to resolve.


def held(released: threading.Event) -> Callable[[str, int], list[str]]:
    def resolve(host: str, port: int) -> list[str]:
        released.wait(20)
        return [host]

    return resolve


def test_all_who_want_one_name_wait_for_one_lookup() -> None:
    release = threading.Event()
    lookups = Lookups(held(release))
    futures = [lookups.start("name.example", 443) for _ in range(50)]
    assert len({id(future) for future in futures}) == 1
    release.set()
    assert futures[0].result(10) == ["name.example"]
    again = lookups.start("name.example", 443)
    assert again is not futures[0]
    assert again.result(10) == ["name.example"]


def test_names_that_hang_take_a_bounded_number_of_threads_and_none_from_another_upstream() -> None:
    release = threading.Event()
    hanging, other = Lookups(held(release)), Lookups(lambda host, port: ["10.0.0.1"])
    waiting: list[Future[list[str] | Exception]] = [
        hanging.start(f"name{number}.example", 443) for number in range(LIMIT)
    ]
    refused = hanging.start("one.more.example", 443).result(0)
    assert isinstance(refused, OSError)
    assert other.start("name.example", 443).result(10) == ["10.0.0.1"]
    release.set()
    for number, future in enumerate(waiting):
        assert future.result(10) == [f"name{number}.example"]
    assert hanging.start("one.more.example", 443).result(10) == ["one.more.example"]


def test_what_the_resolver_raises_is_a_value_for_each_who_waits() -> None:
    def fails(host: str, port: int) -> list[str]:
        raise UnicodeError("label too long")

    result = Lookups(fails).start("name.example", 443).result(10)
    assert isinstance(result, UnicodeError)

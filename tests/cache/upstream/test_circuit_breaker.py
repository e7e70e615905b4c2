"""CircuitBreakers: when an upstream is left alone, and when it is asked again."""

import threading
from collections.abc import Callable
from concurrent.futures import Future

import pytest

from cache.upstream.circuit_breaker import (
    CLOSED,
    FAILED_IMAGES,
    FIRST_WAIT,
    LONGEST_WAIT,
    PROBE_WITHIN,
    TRIP_AFTER,
    WINDOW,
    Admission,
    CircuitBreakers,
    CircuitState,
    ImageRecord,
    RequestOutcome,
    admission,
    failed,
    failing_since,
    given_up,
    outcome_of,
    probed,
)
from cache.upstream.errors import Unavailable
from cache.upstream.resolver import LIMIT, Lookups, NotLookedUp
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


def test_content_that_is_wrong_again_counts_once() -> None:
    circuit = CLOSED
    for _ in range(100):
        circuit = failed(circuit, 0.0, "wrong", of="blob one")
    assert admission(circuit, 0.0) is Admission.PASS
    for blob in ("blob two", "blob three"):
        circuit = failed(circuit, 0.0, "wrong", of=blob)
    assert admission(circuit, 0.0) is Admission.REFUSE


@pytest.mark.parametrize(
    ("status", "speaks", "outcome"),
    [
        *((status, False, RequestOutcome.FAILING) for status in (500, 502, 503, 504)),
        *((status, False, RequestOutcome.ALIVE) for status in (200, 206, 302, 307, 304)),
        *((status, True, RequestOutcome.ALIVE) for status in (401, 403, 404, 410)),
        *((status, False, RequestOutcome.NEUTRAL) for status in (400, 401, 403, 404, 405, 410, 416, 429, 501, 505)),
    ],
)
def test_each_status_shows_one_of_three_things(status: int, speaks: bool, outcome: RequestOutcome) -> None:
    assert outcome_of(status, speaks_for_registry=speaks) is outcome


def records(failed: int, requested: int, at: float = 0.0) -> dict[str, ImageRecord]:
    return {f"image/{number}": ImageRecord(at, at if number < failed else None) for number in range(requested)}


@pytest.mark.parametrize(
    ("failed", "requested", "failing"),
    [(4, 4, False), (5, 5, True), (5, 10, True), (5, 11, False), (50, 100, True), (49, 100, False)],
)
def test_five_images_and_half_of_those_requested_make_a_host_fail(failed: int, requested: int, failing: bool) -> None:
    assert (failing_since(records(failed, requested), 1.0) is not None) is failing


def test_failures_and_requests_of_a_minute_ago_no_longer_count() -> None:
    assert failing_since(records(FAILED_IMAGES, FAILED_IMAGES), WINDOW) is None
    old = {f"old/{number}": ImageRecord(0.0) for number in range(100)}
    new = records(FAILED_IMAGES, FAILED_IMAGES, at=50.0)
    assert failing_since(old | new, 59.0) is None
    assert failing_since(old | new, 61.0) == 50.0


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


ALIVE, NEUTRAL, BROKEN, FAILING, UNREACHED = (
    RequestOutcome.ALIVE,
    RequestOutcome.NEUTRAL,
    RequestOutcome.BROKEN,
    RequestOutcome.FAILING,
    RequestOutcome.UNREACHED,
)


def see(circuits: CircuitBreakers, outcome: RequestOutcome, *images: str) -> None:
    for image in images:
        circuits.enter(ORIGIN, image).ended(outcome, "it responded with 500")


def names(count: int, of: str = "image") -> list[str]:
    return [f"{of}/{number}" for number in range(count)]


def test_a_host_that_cannot_be_reached_is_left_alone_for_all_images_and_other_hosts_are_not(
    circuits: CircuitBreakers, clock: Clock
) -> None:
    see(circuits, UNREACHED, "acme/app", "acme/app", "acme/app")
    clock.now += 0.5
    with pytest.raises(Unavailable) as caught:
        circuits.enter(ORIGIN, "acme/web")
    assert "registry.example has been failing since 22:13:20 UTC (it responded with 500)" in caught.value.reason
    assert caught.value.retry_after == 1
    assert circuits.is_open(ORIGIN)
    circuits.enter(OTHER, "acme/web").ended(ALIVE)
    assert not circuits.is_open(OTHER)


def test_a_sign_of_life_between_two_failed_connections_begins_the_row_anew(circuits: CircuitBreakers) -> None:
    for outcome in (UNREACHED, UNREACHED, ALIVE, UNREACHED, NEUTRAL, UNREACHED):
        see(circuits, outcome, "acme/app")
    assert not circuits.is_open(ORIGIN)
    see(circuits, UNREACHED, "acme/app")
    assert circuits.is_open(ORIGIN)


@pytest.mark.parametrize("outcome", [FAILING, BROKEN])
def test_an_image_that_fails_alone_is_left_alone_and_the_others_are_asked(
    circuits: CircuitBreakers, outcome: RequestOutcome
) -> None:
    see(circuits, outcome, "acme/app", "acme/app", "acme/app")
    with pytest.raises(Unavailable):
        circuits.enter(ORIGIN, "acme/app")
    see(circuits, ALIVE, "acme/web")
    assert not circuits.is_open(ORIGIN)
    with pytest.raises(Unavailable):
        circuits.enter(ORIGIN, "acme/app")


def test_paths_of_an_image_that_fail_shut_out_no_path_that_has_not(circuits: CircuitBreakers, clock: Clock) -> None:
    for path in ("/one", "/two", "/three"):
        circuits.enter(ORIGIN, "acme/app", path).ended(FAILING, "it responded with 500")
    for path in ("/one", "/two", "/three"):
        with pytest.raises(Unavailable):
            circuits.enter(ORIGIN, "acme/app", path)
    probe = circuits.enter(ORIGIN, "acme/app", "/good")
    with pytest.raises(Unavailable):
        circuits.enter(ORIGIN, "acme/app", "/good")
    probe.ended(FAILING, "it responded with 500")
    with pytest.raises(Unavailable):
        circuits.enter(ORIGIN, "acme/app", "/good")
    circuits.enter(ORIGIN, "acme/app", "/better").ended(ALIVE)
    circuits.enter(ORIGIN, "acme/app", "/one").ended(ALIVE)


def test_four_images_say_nothing_of_the_host_and_five_do(circuits: CircuitBreakers) -> None:
    see(circuits, FAILING, *names(4), *names(4))
    assert not circuits.is_open(ORIGIN)
    see(circuits, FAILING, "one/more")
    assert circuits.is_open(ORIGIN)


def test_images_that_work_weigh_against_those_that_fail(circuits: CircuitBreakers) -> None:
    see(circuits, ALIVE, *names(6, "good"))
    see(circuits, FAILING, *names(5))
    assert not circuits.is_open(ORIGIN)
    see(circuits, FAILING, "one/more")
    assert circuits.is_open(ORIGIN)


def test_an_image_that_works_again_has_not_failed(circuits: CircuitBreakers) -> None:
    see(circuits, FAILING, *names(4))
    see(circuits, ALIVE, *names(4))
    see(circuits, FAILING, "one/more")
    assert not circuits.is_open(ORIGIN)


@pytest.mark.parametrize("outcome", [NEUTRAL, BROKEN])
def test_what_shows_nothing_of_a_host_opens_no_circuit_of_it(
    circuits: CircuitBreakers, outcome: RequestOutcome
) -> None:
    see(circuits, outcome, *names(100))
    assert not circuits.is_open(ORIGIN)


@pytest.mark.parametrize("outcome", [FAILING, UNREACHED, BROKEN])
def test_the_target_of_a_redirect_counts_for_the_image_alone(
    circuits: CircuitBreakers, outcome: RequestOutcome
) -> None:
    for image in names(20):
        circuits.enter(OTHER, image, redirected=True).ended(outcome, "refused")
    for _ in range(3):
        circuits.enter(OTHER, "bad/image", redirected=True).ended(outcome, "refused")
    assert not circuits.is_open(OTHER)
    assert circuits.is_open(OTHER, "bad/image")
    circuits.enter(OTHER, "good/image", redirected=True).ended(ALIVE)


def test_the_host_is_probed_by_a_question_of_ours_and_then_by_one_request(
    circuits: CircuitBreakers, clock: Clock
) -> None:
    see(circuits, UNREACHED, "a", "a", "a")
    clock.now += 1
    probe = circuits.enter(ORIGIN, "b")
    assert probe.probes_host
    with pytest.raises(Unavailable):
        circuits.enter(ORIGIN, "a")
    probe.ended(ALIVE)
    assert not circuits.enter(ORIGIN, "a").probes_host
    assert not circuits.is_open(ORIGIN)


def test_a_probe_without_a_response_doubles_the_wait_and_one_request_that_fails_does_not(
    circuits: CircuitBreakers, clock: Clock
) -> None:
    see(circuits, UNREACHED, "a", "a", "a")
    for waited in (1, 2, 4):
        clock.now += waited
        circuits.enter(ORIGIN, "a").probe_failed("refused")
    clock.now += 8
    see(circuits, FAILING, "b")
    assert circuits.is_open(ORIGIN)
    assert circuits.enter(ORIGIN, "c").probes_host


def test_images_that_fail_shut_out_no_image_that_has_not(circuits: CircuitBreakers, clock: Clock) -> None:
    see(circuits, FAILING, *names(5))
    for wait in (1, 2):
        for image in names(5):
            with pytest.raises(Unavailable, match=f"within {wait + 1} s"):
                circuits.enter(ORIGIN, image)
        probe = circuits.enter(ORIGIN, "good/image")
        assert probe.probes_host
        probe.release()
        clock.now += wait
        see(circuits, FAILING, f"image/{wait}")
    see(circuits, ALIVE, "good/image")
    see(circuits, FAILING, *names(4, "new"))
    assert not circuits.is_open(ORIGIN)


@pytest.mark.parametrize("outcome", [None, NEUTRAL])
def test_a_probe_that_showed_nothing_is_followed_by_another(
    circuits: CircuitBreakers, clock: Clock, outcome: RequestOutcome | None
) -> None:
    see(circuits, UNREACHED, "a", "a", "a")
    clock.now += 1
    probe = circuits.enter(ORIGIN, "a")
    if outcome:
        probe.ended(outcome)
    probe.release()
    circuits.enter(ORIGIN, "a").ended(UNREACHED, "refused")
    clock.now += 1.5
    with pytest.raises(Unavailable):
        circuits.enter(ORIGIN, "a")


def test_an_image_whose_circuit_is_open_neither_counts_for_the_host_nor_probes_it(
    circuits: CircuitBreakers, clock: Clock
) -> None:
    see(circuits, FAILING, "bad/image", "bad/image", "bad/image")
    see(circuits, FAILING, *names(3))
    clock.now += WINDOW
    see(circuits, FAILING, "bad/image", *names(4))
    assert not circuits.is_open(ORIGIN)
    see(circuits, UNREACHED, "a", "a", "a")
    clock.now += 2
    with pytest.raises(Unavailable):
        circuits.enter(ORIGIN, "bad/image")
    assert circuits.enter(ORIGIN, "good/image").probes_host


def test_a_refusal_that_turns_out_to_be_the_registry_s_own_closes_the_circuit(
    circuits: CircuitBreakers, clock: Clock
) -> None:
    see(circuits, UNREACHED, "a", "a", "a")
    clock.now += 1
    see(circuits, NEUTRAL, "a")
    assert circuits.is_open(ORIGIN)
    circuits.note_alive(ORIGIN, "a", redirected=False)
    assert not circuits.is_open(ORIGIN)


def test_only_the_first_thing_told_of_a_request_counts(circuits: CircuitBreakers) -> None:
    for _ in range(5):
        passage = circuits.enter(ORIGIN, "a")
        passage.ended(ALIVE)
        passage.ended(UNREACHED, "too late")
        passage.probe_failed("too late")
        passage.release()
    assert not circuits.is_open(ORIGIN)


def test_three_different_wrong_contents_make_an_image_suspect_for_a_while_and_no_other(
    circuits: CircuitBreakers, clock: Clock
) -> None:
    for _ in range(5):
        circuits.note_invalid_content(ORIGIN, "a", "blob one")
    see(circuits, ALIVE, "a")
    circuits.note_invalid_content(ORIGIN, "a", "blob two")
    circuits.note_valid_content(ORIGIN, "a")
    for blob in ("one", "two", "three"):
        see(circuits, ALIVE, "a")
        circuits.note_invalid_content(ORIGIN, "a", f"blob {blob}")
    assert circuits.is_open(ORIGIN, "a")
    assert not circuits.is_open(ORIGIN)
    see(circuits, ALIVE, "b")
    with pytest.raises(Unavailable, match="blob three"):
        circuits.enter(ORIGIN, "a")
    clock.now += 1
    assert not circuits.is_open(ORIGIN, "a")
    see(circuits, ALIVE, "a")
    circuits.note_invalid_content(ORIGIN, "a", "blob one")
    see(circuits, ALIVE, "a")
    circuits.note_invalid_content(ORIGIN, "a", "blob four")
    clock.now += 1.5
    with pytest.raises(Unavailable, match="blob four"):
        circuits.enter(ORIGIN, "a")
    clock.now += 0.5
    circuits.note_valid_content(ORIGIN, "a")
    circuits.note_invalid_content(ORIGIN, "a", "blob five")
    see(circuits, ALIVE, "a")


def test_images_without_number_do_not_take_memory_without_end(circuits: CircuitBreakers) -> None:
    for image in names(3000):
        for outcome in (FAILING, BROKEN):
            circuits.enter(OTHER, image, redirected=True).ended(outcome)
        circuits.enter(ORIGIN, image).ended(NEUTRAL)
        circuits.note_invalid_content(ORIGIN, image, "wrong")
    assert max(len(circuits._images), len(circuits._contents), len(circuits._hosts[ORIGIN].images)) <= 1001


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
    assert isinstance(refused, NotLookedUp)
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

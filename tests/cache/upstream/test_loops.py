"""Names of gateways in the header of loops, and how a request passes them on."""

import threading

import pytest

from cache.runtime.context_threads import context_thread
from cache.upstream.loops import LOOP_HEADER, gateways_in, loop_headers, passing_on

ONE, OTHER = (f"registry-gateway-{number:016x}" for number in (1, 2))


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([], []),
        ([f"{ONE}"], [ONE]),
        ([f"{ONE} ,\t{OTHER}"], [ONE, OTHER]),
        ([OTHER, ONE], [OTHER, ONE]),
        ([f"cdn.example:8080, {ONE}; v=1, cloudflare"], [ONE]),
        ([f"{ONE}0, x{ONE}, {ONE.upper()}, registry-gateway-, {ONE[:-1]}"], []),
        ([f"{ONE}\r\nAuthorization: x"], []),
    ],
)
def test_only_names_of_gateways_are_found(values: list[str], found: list[str]) -> None:
    assert gateways_in(values) == found


def test_a_request_names_those_that_have_sent_it_on_and_then_this_one() -> None:
    assert loop_headers("") == {}
    assert loop_headers(OTHER) == {LOOP_HEADER: OTHER}
    with passing_on([ONE]):
        assert loop_headers(OTHER) == {LOOP_HEADER: f"{ONE}, {OTHER}"}
    assert loop_headers(OTHER) == {LOOP_HEADER: OTHER}


def test_a_thread_sends_on_behalf_of_the_request_that_made_it() -> None:
    seen: list[dict[str, str]] = []
    with passing_on([ONE]):
        thread = context_thread(lambda: seen.append(loop_headers(OTHER)), "download")
    thread.start()
    thread.join()
    plain = threading.Thread(target=lambda: seen.append(loop_headers(OTHER)))
    plain.start()
    plain.join()
    assert seen == [{LOOP_HEADER: f"{ONE}, {OTHER}"}, {LOOP_HEADER: OTHER}]

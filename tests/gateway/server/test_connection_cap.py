"""Tests of the cap on connections: its places, the share of one client, and idle connections."""

import pytest

from cache.runtime.descriptors import PER_CONNECTION, PER_DOWNLOAD, RESERVE, share_descriptors
from gateway.server.connection_cap import REJECTIONS, ConnectionCap, client_of


def test_places_are_given_up_to_the_limit_and_given_back_once() -> None:
    cap = ConnectionCap(3)
    places = [cap.enter("") for _ in range(4)]
    assert [place is not None for place in places] == [True, True, True, False]
    assert places[0] is not None
    for _ in range(3):
        places[0].leave()
    assert [cap.enter("") is not None for _ in range(2)] == [True, False]


def test_one_client_holds_at_most_half_of_the_places() -> None:
    cap, one, other = ConnectionCap(10), client_of("192.0.2.1"), client_of("192.0.2.2")
    held = [cap.enter(one) for _ in range(6)]
    assert [place is not None for place in held] == [True] * 5 + [False]
    assert [cap.enter(other) is not None for _ in range(6)] == [True] * 5 + [False]
    assert held[0] is not None
    held[0].leave()
    assert cap.enter(other) is None
    assert cap.enter(one) is not None


def test_clients_on_loopback_share_no_limit_but_the_cap() -> None:
    cap, client = ConnectionCap(10), client_of("127.0.0.1")
    assert [cap.enter(client) is not None for _ in range(11)] == [True] * 10 + [False]


def test_where_all_places_are_taken_the_longest_idle_connection_gives_way() -> None:
    cap, ended = ConnectionCap(3), list[int]()
    places = [cap.enter("") for _ in range(3)]
    for number, place in enumerate(places):
        assert place is not None
        place.begin_idle(lambda number=number: ended.append(number))  # type: ignore[misc]
    assert places[0] is not None
    places[0].end_idle()
    assert [cap.enter("") is not None for _ in range(3)] == [True, True, False]
    assert ended == [1, 2]


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("127.0.0.1", ""),
        ("127.8.9.1", ""),
        ("::1", ""),
        ("::ffff:127.0.0.1", ""),
        ("10.1.2.3", "10.1.2.3"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_a_client_is_an_address_or_a_network(address: str, client: str) -> None:
    assert client_of(address) == client


def test_few_connections_above_the_cap_are_read_at_once() -> None:
    cap = ConnectionCap(1)
    assert [cap.begin_rejection() for _ in range(REJECTIONS + 1)] == [True] * REJECTIONS + [False]
    cap.end_rejection()
    assert cap.begin_rejection() is True


@pytest.mark.parametrize("limit", [1024, 4096, 20_000, 65_536])
def test_all_connections_and_downloads_together_leave_the_reserve(limit: int) -> None:
    shares = share_descriptors(limit)
    assert min(shares.connections, shares.downloads) > 16
    assert shares.connections * PER_CONNECTION + shares.downloads * PER_DOWNLOAD + RESERVE <= limit


def test_a_process_with_hardly_any_descriptors_still_serves() -> None:
    assert min(share_descriptors(100).connections, share_descriptors(100).downloads) >= 4

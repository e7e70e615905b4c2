"""Headers of a request by their names."""

from typing import Any

from gateway.http.request_headers import first_headers


def test_of_a_repeated_header_the_first_value_is_found() -> None:
    scope: dict[str, Any] = {"headers": [(b"host", b"a"), (b"accept", b"b/c"), (b"host", b"\xff")]}
    assert first_headers(scope) == {"host": "a", "accept": "b/c"}


def test_headers_are_read_once_for_all_who_ask() -> None:
    scope: dict[str, Any] = {"headers": [(b"host", b"a")]}
    assert first_headers(scope) is first_headers(scope)

"""Errors: every one is three words that the specifications know."""

import copy

import pytest

from cache.oci import errors
from cache.oci.errors import RegistryError, UpstreamUnavailable, error_codes

CLASSES = [error for error in vars(errors).values() if isinstance(error, type) and issubclass(error, RegistryError)]


def test_the_table_of_codes_is_the_specification_s_with_unknown_and_unavailable() -> None:
    """Surfaces of the gateway add codes and statuses of their own to the table once their modules are imported."""
    of_this_module = {error.code: {other.status for other in CLASSES if other.code == error.code} for error in CLASSES}
    known = {code: statuses for code, statuses in error_codes().items() if code in of_this_module}
    assert {code: [s for s in statuses if s in of_this_module[code]] for code, statuses in known.items()} == {
        "BLOB_UNKNOWN": [404],
        "BLOB_UPLOAD_INVALID": [400],
        "BLOB_UPLOAD_UNKNOWN": [404],
        "DENIED": [403, 507],
        "DIGEST_INVALID": [400],
        "MANIFEST_BLOB_UNKNOWN": [404],
        "MANIFEST_INVALID": [400],
        "MANIFEST_UNKNOWN": [404],
        "NAME_INVALID": [400],
        "NAME_UNKNOWN": [404],
        "PAGINATION_NUMBER_INVALID": [400],
        "RANGE_INVALID": [416],
        "SIZE_INVALID": [400, 413],
        "TAG_INVALID": [400],
        "TOOMANYREQUESTS": [429],
        "UNAUTHORIZED": [401],
        "UNAVAILABLE": [503, 508],
        "UNKNOWN": [500, 502],
        "UNSUPPORTED": [400, 404, 405, 415],
    }


@pytest.mark.parametrize("error", CLASSES)
def test_an_error_has_a_code_in_capitals_an_error_status_and_a_message(error: type[RegistryError]) -> None:
    assert error.code == error.code.upper()
    assert error.code.replace("_", "").isalpha()
    assert 400 <= error.status < 600
    assert error.message


@pytest.mark.parametrize("error", CLASSES)
def test_the_text_of_an_error_is_its_message_and_its_detail_if_it_has_one(error: type[RegistryError]) -> None:
    assert str(error()) == error.message
    assert str(error("so it is")) == f"{error.message}: so it is"
    assert str(error({"Name": "x"})) == f"{error.message}: {{'Name': 'x'}}"


@pytest.mark.parametrize("error", CLASSES)
def test_a_copy_of_an_error_says_the_same(error: type[RegistryError]) -> None:
    for one in (error(), error("why")):
        twin = copy.copy(one)
        assert type(twin) is error
        assert (str(twin), twin.detail, twin.headers) == (str(one), one.detail, one.headers)


def test_headers_are_a_copy_of_what_was_given() -> None:
    headers = {"Allow": "GET"}
    error = errors.Unsupported(headers=headers)
    headers["Allow"] = "PUT"
    assert error.headers == {"Allow": "GET"}
    assert errors.Denied().headers == {}


def test_an_unavailable_upstream_says_when_to_come_back() -> None:
    assert UpstreamUnavailable().headers == {"Retry-After": "5"}
    assert UpstreamUnavailable("down", retry_after=60).headers == {"Retry-After": "60"}

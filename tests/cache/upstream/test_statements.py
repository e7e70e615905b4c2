"""What a response means: who spoke, and what follows for the content; one table."""

import pytest

from cache.upstream.statements import Meaning, head_proves_nothing, lacks_referrers, meaning_of

REGISTRY = {"docker-distribution-api-version": "registry/2.0"}
ERRORS = b'{"errors":[{"code":"ANYTHING","message":"of the registry\'s own"}]}'
PAGE = b"<html>Forbidden</html>"
CONTENT, ABSENT, DENIED = Meaning.CONTENT, Meaning.ABSENT, Meaning.DENIED
LIMITED, OUTAGE, NOTHING = Meaning.LIMITED, Meaning.OUTAGE, Meaning.NOTHING


@pytest.mark.parametrize(
    ("status", "own", "by_registry", "by_another"),
    [
        (200, True, CONTENT, CONTENT),
        (206, False, CONTENT, CONTENT),
        (304, True, Meaning.UNCHANGED, Meaning.UNCHANGED),
        (307, True, OUTAGE, OUTAGE),
        (400, True, OUTAGE, OUTAGE),
        (401, True, DENIED, NOTHING),
        (401, False, NOTHING, NOTHING),
        (403, True, DENIED, NOTHING),
        (403, False, NOTHING, NOTHING),
        (404, True, ABSENT, NOTHING),
        (404, False, ABSENT, NOTHING),
        (410, True, ABSENT, NOTHING),
        (410, False, ABSENT, NOTHING),
        (429, True, LIMITED, LIMITED),
        (429, False, OUTAGE, OUTAGE),
        (500, True, OUTAGE, OUTAGE),
        (501, True, OUTAGE, OUTAGE),
        (503, False, OUTAGE, OUTAGE),
    ],
)
def test_what_a_response_means_follows_from_its_status_and_its_speaker(
    status: int, own: bool, by_registry: Meaning, by_another: Meaning
) -> None:
    assert meaning_of(status, REGISTRY, own=own) is by_registry
    assert meaning_of(status, {}, ERRORS, own=own) is by_registry
    assert meaning_of(status, {"content-type": "text/html"}, PAGE, own=own) is by_another
    assert meaning_of(status, {}, b"", own=own) is by_another


@pytest.mark.parametrize("body", [b"", b"[]", b'{"errors":null}', b'{"errors":{}}', b'{"message":"no"}', b"\xff"])
def test_only_an_errors_array_is_an_error_document(body: bytes) -> None:
    assert meaning_of(404, {}, body, own=True) is NOTHING


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_storage_service_that_refuses_a_blob_is_an_outage(status: int) -> None:
    """What refuses one signed URL may grant the next; only a registry's own statement ends the attempt."""
    assert meaning_of(status, {}, b"<Error/>", own=False, of_blob=True) is OUTAGE
    assert meaning_of(status, {}, b"<Error/>", own=True, of_blob=True) is NOTHING
    assert meaning_of(404, {}, ERRORS, own=False, of_blob=True) is ABSENT


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 406, 410, 416, 429, 500, 501, 502, 503])
def test_a_refused_head_proves_nothing_and_an_outage_or_a_limit_needs_no_get(status: int) -> None:
    meaning = meaning_of(status, REGISTRY, own=True)
    assert head_proves_nothing(status, meaning, truthful=False) is (status not in (429, 500, 502, 503))


@pytest.mark.parametrize(("status", "believed"), [(401, True), (403, True), (404, True), (405, False), (501, False)])
def test_the_head_of_a_truthful_registry_is_believed_if_the_registry_speaks(status: int, believed: bool) -> None:
    meaning = meaning_of(status, REGISTRY, own=True)
    assert head_proves_nothing(status, meaning, truthful=True) is not believed
    assert head_proves_nothing(status, meaning_of(status, {}, own=True), truthful=True)


@pytest.mark.parametrize(
    ("status", "media_type", "own", "lacks"),
    [
        (200, "application/vnd.oci.image.index.v1+json", True, False),
        (200, "text/html; charset=utf-8", True, True),
        (400, "application/json", True, True),
        (401, "application/json", True, False),
        (404, "text/plain", True, True),
        (404, "text/html", False, True),
        (405, "application/json", True, True),
        (406, "application/json", True, True),
        (415, "application/json", True, True),
        (429, "application/json", True, False),
        (429, "text/html", False, True),
        (503, "application/json", True, False),
        (503, "text/html", False, False),
    ],
)
def test_a_registry_without_referrers_says_so_in_many_ways(
    status: int, media_type: str, own: bool, lacks: bool
) -> None:
    headers = REGISTRY | {"content-type": media_type}
    assert lacks_referrers(status, headers, meaning_of(status, headers, own=own), own=own) is lacks

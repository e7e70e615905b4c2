"""Media types: which are manifests, which of those are indexes, and what a Content-Type says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.oci.media_types import (
    ACCEPTED,
    DOCKER_LIST,
    DOCKER_MANIFEST,
    INDEXES,
    MANIFESTS,
    OCI_INDEX,
    OCI_MANIFEST,
    OCTET_STREAM,
    essence,
    is_index,
    is_manifest,
)


@pytest.mark.parametrize(
    ("media_type", "manifest", "index"),
    [
        (OCI_MANIFEST, True, False),
        (DOCKER_MANIFEST, True, False),
        (OCI_INDEX, True, True),
        (DOCKER_LIST, True, True),
        (OCTET_STREAM, False, False),
        ("application/vnd.docker.distribution.manifest.v1+prettyjws", False, False),
        ("application/vnd.oci.image.config.v1+json", False, False),
        ("application/json", False, False),
        (OCI_INDEX.upper(), False, False),
        (OCI_INDEX + "; charset=utf-8", False, False),
        ("", False, False),
    ],
)
def test_a_media_type_is_a_manifest_or_an_index_by_its_exact_text(media_type: str, manifest: bool, index: bool) -> None:
    assert is_manifest(media_type) is manifest
    assert is_index(media_type) is index


def test_an_upstream_is_asked_for_every_manifest_type_once_and_no_other() -> None:
    assert not INDEXES & MANIFESTS
    assert set(ACCEPTED) == INDEXES | MANIFESTS
    assert len(ACCEPTED) == len(set(ACCEPTED))


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        (OCI_INDEX, OCI_INDEX),
        (f" {OCI_INDEX} ; charset=utf-8", OCI_INDEX),
        (OCI_INDEX.upper(), OCI_INDEX),
        ('text/html;a="b;c"', "text/html"),
        (f"{OCI_INDEX}, {OCI_INDEX}", OCI_INDEX),
        (f"{OCI_INDEX}; charset=utf-8, {OCI_INDEX}; charset=utf-8", OCI_INDEX),
        (f"{OCI_INDEX},{OCI_INDEX.upper()}", OCI_INDEX),
        (f'"{OCI_INDEX}"', OCI_INDEX),
        (f"{OCI_INDEX}, text/html", f"{OCI_INDEX}, text/html"),
        (";", ""),
        ("", ""),
    ],
)
def test_the_essence_of_a_content_type_has_no_parameters_and_no_capitals(content_type: str, expected: str) -> None:
    assert essence(content_type) == expected


@given(st.sampled_from(ACCEPTED), st.text())
def test_parameters_never_change_the_essence(media_type: str, parameters: str) -> None:
    assert essence(f"{media_type};{parameters}") == media_type

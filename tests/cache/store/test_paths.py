"""Paths of blobs by digest, and back."""

from pathlib import Path

import pytest

from cache.oci.digest import Digest
from cache.store.paths import blob_digest, blob_path

ROOT = Path("/data/cache")


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_path_leads_back_to_its_digest(algorithm: str) -> None:
    digest = Digest.of(b"content", algorithm)
    assert blob_digest(blob_path(ROOT, digest)) == digest


def test_blobs_lie_in_folders_by_algorithm_and_first_two_digits() -> None:
    digest = Digest.of(b"")
    assert blob_path(ROOT, digest) == ROOT / "sha256" / "e3" / digest.hex


HEX = Digest.of(b"").hex


@pytest.mark.parametrize(
    "path",
    [
        f"sha256/e4/{HEX}",
        f"sha512/e3/{HEX}",
        f"sha1/e3/{HEX[:40]}",
        f"sha256/e3/{HEX}.part",
        f"sha256/E3/{HEX.upper()}",
    ],
)
def test_a_path_of_no_blob_has_no_digest(path: str) -> None:
    assert blob_digest(ROOT / path) is None

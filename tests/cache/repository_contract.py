"""What every Repository keeps to. A test module inherits this and gives the `repository` fixture."""

import pytest

from cache.oci.digest import Digest
from cache.oci.errors import BlobUnknown, ManifestUnknown
from cache.oci.manifest import Manifest
from cache.oci.names import Tag
from cache.repository import Repository
from cache.store.base import OpenBlob
from tests.cache.samples import LATEST, blob_of, manifest_of

MANIFEST = manifest_of("one")
CONTENT, BLOB = blob_of(100_000)
ABSENT = Digest.of(b"in no repository")


async def read(blob: OpenBlob) -> bytes:
    try:
        return b"".join([await blob.read(extent) async for extent in blob.ready(0, None)])
    finally:
        blob.close()


class RepositoryContract:
    """`repository` holds MANIFEST under the tag LATEST, and BLOB."""

    @pytest.mark.parametrize("reference", [LATEST, MANIFEST.descriptor.digest], ids=["tag", "digest"])
    async def test_a_manifest_is_found_whole_and_its_descriptor_agrees(
        self, repository: Repository, reference: Tag | Digest
    ) -> None:
        target = await repository.stat_manifest(reference)
        found = await repository.manifest(reference)
        assert isinstance(found.manifest, Manifest)
        assert found.manifest == MANIFEST
        assert target.descriptor == MANIFEST.descriptor
        assert found.manifest.descriptor.digest.holds_for(found.manifest.raw)

    async def test_a_tag_and_its_digest_lead_to_the_same_manifest(self, repository: Repository) -> None:
        by_tag = await repository.manifest(LATEST)
        by_digest = await repository.manifest(by_tag.manifest.descriptor.digest)
        assert by_tag.manifest.raw == by_digest.manifest.raw

    async def test_a_blob_is_found_with_its_digest_and_its_size(self, repository: Repository) -> None:
        assert (await repository.stat_blob(BLOB)).size in (len(CONTENT), None)
        found = await repository.blob(BLOB)
        assert found.blob.digest == BLOB
        await found.blob.verified()
        assert found.blob.size == len(CONTENT)
        assert await read(found.blob) == CONTENT

    async def test_what_is_not_there_is_unknown(self, repository: Repository) -> None:
        for reference in (ABSENT, Tag("absent")):
            with pytest.raises(ManifestUnknown):
                await repository.manifest(reference)
            with pytest.raises(ManifestUnknown):
                await repository.stat_manifest(reference)
        with pytest.raises(BlobUnknown):
            await repository.blob(ABSENT)
        with pytest.raises(BlobUnknown):
            await repository.stat_blob(ABSENT)

    async def test_tags_are_listed(self, repository: Repository) -> None:
        assert (await repository.tags(None)).page.tags == [str(LATEST)]

    async def test_without_referrers_the_list_is_empty(self, repository: Repository) -> None:
        assert (await repository.referrers(MANIFEST.descriptor.digest, None)).page.manifests == []

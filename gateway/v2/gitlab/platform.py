"""The platform of an image, read from its config (image-spec, config.md)."""

from collections.abc import Mapping

from cache.oci.descriptor import Descriptor
from cache.oci.document import parse_document
from cache.oci.errors import RegistryError
from cache.oci.media_types import essence
from cache.repository import Repository
from cache.store.base import OpenBlob

CONFIG_LIMIT = 1024 * 1024
"""Bytes of a config that is read."""

_CONFIGS = ("application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json")
_STATED = ("architecture", "os")


async def read_platform(repository: Repository, config: Descriptor) -> Mapping[str, object] | None:
    """What a config states of the platform; None for one that is of no image, is too large, or cannot be read."""
    if essence(config.media_type) not in _CONFIGS or config.size > CONFIG_LIMIT:
        return None
    try:
        found = await repository.blob(config.digest)
    except RegistryError:
        return None
    try:
        document = parse_document(await _read(found.blob))
    except (RegistryError, ValueError):
        return None
    finally:
        found.blob.close()
    if not isinstance(document, dict):
        return None
    return {key: value for key in _STATED if isinstance(value := document.get(key), str)}


async def _read(blob: OpenBlob) -> bytes:
    """The bytes of a small blob. Raises ValueError for a large one, RegistryError."""
    content = bytearray()
    async for extent in blob.ready(0, None):
        content += await blob.read(extent)
        if len(content) > CONFIG_LIMIT:
            raise ValueError("the config is larger than its manifest says")
    return bytes(content)

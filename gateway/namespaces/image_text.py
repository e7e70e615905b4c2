"""Images as people write them: `[UPSTREAM/]NAME[:TAG|@DIGEST]`."""

from cache.oci.digest import Digest
from cache.oci.names import Tag


def split_image(text: str) -> tuple[str, str]:
    """Split `[UPSTREAM/]NAME[:TAG|@DIGEST]` into name and reference, as written; an omitted reference is empty.

    Of a tag and a digest the digest counts, as it does for clients.
    """
    name, at, digest = text.partition("@")
    name, _, tag = name.partition(":")
    return name, f"@{digest}" if at else tag


def parse_image(text: str) -> tuple[str, Tag | Digest | None]:
    """Parse name and reference, which is None if omitted. Raises TagInvalid, DigestInvalid; the name is not checked."""
    name, reference = split_image(text)
    if reference.startswith("@"):
        return name, Digest.parse(reference[1:])
    is_named = bool(reference) or text.endswith(":")  # an empty variable of a script must not mean the whole image
    return name, Tag.parse(reference) if is_named else None

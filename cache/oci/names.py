"""Repository names, tags and references, as the distribution specification spells them ("Pulling manifests")."""

import re
from dataclasses import dataclass

from cache.oci.digest import Digest
from cache.oci.errors import NameInvalid, TagInvalid

NAME_LIMIT = 255
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True, order=True)
class RepositoryName:
    """Checked name of a repository: components of lower-case letters and digits, separated by slashes."""

    text: str

    @classmethod
    def parse(cls, text: str) -> "RepositoryName":
        """Check the text of a name; at most 255 characters with every component and slash. Raises NameInvalid."""
        if len(text) > NAME_LIMIT:
            raise NameInvalid(f"a repository name has at most {NAME_LIMIT} characters, this one has {len(text)}")
        if not _NAME.fullmatch(text):
            raise NameInvalid(
                f"{text!r} must be lower-case letters and digits, "
                "separated by one of . _ __ - within and / between components"
            )
        return cls(text)

    @property
    def components(self) -> list[str]:
        return self.text.split("/")

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True, order=True)
class Tag:
    """Checked name of a tag."""

    text: str

    @classmethod
    def parse(cls, text: str) -> "Tag":
        """Check the text of a tag. Raises TagInvalid."""
        if not _TAG.fullmatch(text):
            raise TagInvalid(f"{text[:150]!r} must be 1 to 128 of letters, digits, . _ - and not begin with . or -")
        return cls(text)

    def __str__(self) -> str:
        return self.text


def is_tag(text: str) -> bool:
    """Whether a text follows the grammar of tags."""
    return _TAG.fullmatch(text) is not None


def parse_reference(text: str) -> Tag | Digest:
    """A digest if there is a colon (no tag has one), else a tag. Raises DigestInvalid or TagInvalid."""
    return Digest.parse(text) if ":" in text else Tag.parse(text)

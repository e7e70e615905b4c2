"""Path convertors: a name, digest or reference in a path is a value or a refusal.

The patterns are wide and the values strict, so that a wrong name is told what is wrong with it instead of that there
is no such path.
"""

from starlette.convertors import CONVERTOR_TYPES, Convertor

from cache.oci.digest import Digest
from cache.oci.errors import NameInvalid
from cache.oci.names import RepositoryName, Tag, parse_reference


class NameConvertor(Convertor[RepositoryName]):
    regex = ".+"

    def convert(self, value: str) -> RepositoryName:
        return RepositoryName.parse(value)

    def to_string(self, value: RepositoryName) -> str:
        return value.text


class DigestConvertor(Convertor[Digest]):
    regex = "[^/]+"

    def convert(self, value: str) -> Digest:
        return Digest.parse(value)

    def to_string(self, value: Digest) -> str:
        return str(value)


class ReferenceConvertor(Convertor[Tag | Digest]):
    regex = "[^/]+"

    def convert(self, value: str) -> Tag | Digest:
        return parse_reference(value)

    def to_string(self, value: Tag | Digest) -> str:
        return str(value)


def register() -> None:
    """Makes the convertors known to the router, which has one table for all; may be called again."""
    CONVERTOR_TYPES.update(name=NameConvertor(), digest=DigestConvertor(), reference=ReferenceConvertor())


def check_raw_path(raw_path: bytes) -> None:
    """Raises NameInvalid for a path under /v2 with an escape other than that of the colon.

    The router sees the path decoded, where `%2f` has become a slash; none of the characters of names, tags and digests
    needs an escape.
    """
    if b"%" in raw_path.lower().replace(b"%3a", b""):
        raise NameInvalid("a path holds a percent escape that no name, tag or digest needs")

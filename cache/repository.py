"""What a lookup in a proxied repository comes to."""

from dataclasses import dataclass
from datetime import timedelta

from cache.oci.descriptor import Descriptor
from cache.oci.digest import Digest
from cache.oci.manifest import Manifest
from cache.store.base import OpenBlob
from cache.values import Outcome


@dataclass(frozen=True, slots=True)
class Answer:
    """How a lookup ended; `age` and `warning` are there when it was answered STALE."""

    outcome: Outcome
    age: timedelta | None = None
    warning: str = ""


@dataclass(frozen=True, slots=True)
class FoundManifest:
    manifest: Manifest
    answer: Answer


@dataclass(frozen=True, slots=True)
class FoundTarget:
    descriptor: Descriptor
    answer: Answer


@dataclass(frozen=True, slots=True)
class FoundBlob:
    """An open blob, which the caller closes."""

    blob: OpenBlob
    answer: Answer


@dataclass(frozen=True, slots=True)
class FoundSize:
    """Bytes of a blob; None where the upstream did not say."""

    size: int | None
    answer: Answer


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What a tag pointed to here before, if anything, and what it points to."""

    before: Digest | None
    manifest: Manifest

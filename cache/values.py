"""Vocabulary of the cache in addition to the specifications' words; pure values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Any
from urllib.parse import urlsplit

from cache.oci.descriptor import Descriptor
from cache.oci.digest import Digest
from cache.oci.names import RepositoryName, Tag

REASON_LIMIT = 200
"""Characters of a reason that is shown, logged or stored."""


def safe_reason(text: str) -> str:
    """A reason for people, of which an upstream may have chosen parts: one line of at most REASON_LIMIT printable ASCII
    characters, so that it breaks no header and no log line, and fills no file."""
    plain = "".join(character if " " <= character <= "~" else "?" for character in text[: REASON_LIMIT + 1])
    return plain if len(plain) <= REASON_LIMIT else f"{plain[: REASON_LIMIT - 3]}..."


@dataclass(frozen=True, slots=True, order=True)
class Origin:
    """Origin of an upstream: scheme, host and port, all explicit (RFC 6454)."""

    scheme: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "Origin":
        """Read the text form of `str(origin)`. Raises ValueError."""
        parts = urlsplit(text)
        if not parts.scheme or not parts.hostname or parts.port is None:
            raise ValueError(f"not an origin with scheme, host and port: {text[:150]!r}")
        return cls(parts.scheme, parts.hostname, parts.port)

    @property
    def netloc(self) -> str:
        """Host and port for people; the port is left out where the scheme implies it."""
        implied = (self.scheme, self.port) in (("http", 80), ("https", 443))
        return self._host if implied else f"{self._host}:{self.port}"

    @property
    def _host(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host

    def __str__(self) -> str:
        return f"{self.scheme}://{self._host}:{self.port}"


@dataclass(frozen=True, slots=True, order=True)
class Registry:
    """A registry: its origin and, where it shares that with others, the path that stands before its repository names.

    `prefix`: as in `https://host/v2/PREFIX/NAME/...`, without slashes at its ends; empty for a registry that has its
    origin for itself.
    """

    origin: Origin
    prefix: str = ""

    @classmethod
    def parse(cls, text: str) -> "Registry":
        """Read the text form of `str(registry)`. Raises ValueError."""
        return cls(Origin.parse(text), urlsplit(text).path.strip("/"))

    def full_name(self, image: RepositoryName) -> str:
        """The name by which the registry's host knows an image, in URLs and in the scope of a token."""
        return f"{self.prefix}/{image}" if self.prefix else image.text

    def __str__(self) -> str:
        return f"{self.origin}/{self.prefix}" if self.prefix else str(self.origin)


@dataclass(frozen=True, slots=True)
class CredentialId:
    """Identifies the credential with which an upstream is used; holds no secret.

    `group_id` is the group with a login of its own; None for the configured account of `upstream`, an upstream's name.
    `virtual`: the key of an upstream of virtual registries, which shares nothing that it has proved, also where it has
    no account. A user name alone is no account: registries have one for all tokens, and a certificate has none. If all
    are absent, requests are anonymous.
    """

    username: str = ""
    group_id: int | None = None
    upstream: str = ""
    virtual: str = ""

    @classmethod
    def parse(cls, text: str) -> "CredentialId":
        """Read the stored text: empty, `upstream:UPSTREAM:NAME`, `user:NAME`, `group:ID:NAME` or `virtual:KEY:NAME`,
        whose name may be empty. Raises ValueError."""
        kind, _, rest = text.partition(":")
        if kind == "user" and rest:
            return cls(rest)
        owner, colon, username = rest.partition(":")
        if kind == "virtual" and owner and colon:
            return cls(username, virtual=owner)
        if kind == "upstream" and owner and username:
            return cls(username, upstream=owner)
        if kind == "group" and colon and owner.isascii() and owner.isdigit():
            return cls(username, int(owner))
        if text:
            raise ValueError(f"not the id of a credential: {text[:150]!r}")
        return ANONYMOUS

    @property
    def is_anonymous(self) -> bool:
        return self.group_id is None and not self.username

    def __str__(self) -> str:
        """The stored text, also in quota.json: it must stay as it is."""
        if self.virtual:
            return f"virtual:{self.virtual}:{self.username}"
        if self.group_id is not None:
            return f"group:{self.group_id}:{self.username}"
        if self.upstream:
            return f"upstream:{self.upstream}:{self.username}"
        return f"user:{self.username}" if self.username else ""


ANONYMOUS = CredentialId()


@dataclass(frozen=True, slots=True)
class Source:
    """An upstream as seen by one credential: the key of pointers, links, flights and back-off.

    The configured name of an upstream is part of the credential alone: two names for one registry share what strangers
    may pull, and an upstream that moves to another one starts with an empty cache. `prefix`: that of its Registry.
    """

    origin: Origin
    credential: CredentialId = ANONYMOUS
    prefix: str = ""
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_hash", hash((self.origin, self.credential, self.prefix)))

    @classmethod
    def at(cls, registry: Registry, credential: CredentialId = ANONYMOUS) -> "Source":
        """A registry as seen by one credential."""
        return cls(registry.origin, credential, registry.prefix)

    @property
    def registry(self) -> Registry:
        return Registry(self.origin, self.prefix)

    @classmethod
    def parse(cls, text: str) -> "Source":
        """Read the text form of `str(source)`. Raises ValueError."""
        registry, _, credential = text.partition("#")
        return cls.at(Registry.parse(registry), CredentialId.parse(credential))

    def __hash__(self) -> int:
        """The hash taken at creation: a source is part of every key that is looked up for a cached manifest."""
        return self._hash

    def __str__(self) -> str:
        return str(self.registry) if self.credential == ANONYMOUS else f"{self.registry}#{self.credential}"


@dataclass(frozen=True, slots=True)
class TagPointer:
    """Tag → manifest, as the upstream stated at `checked_at`. The manifest itself may not be cached yet."""

    source: Source
    image: RepositoryName
    tag: Tag
    target: Descriptor
    checked_at: datetime


_NEVER = timedelta(0)


@dataclass(frozen=True, slots=True)
class Sighting:
    """A digest under a tag: when this server first and last saw it there, without another digest in between.

    `longest`: the longest earlier time of that kind; a tag may come back to a digest.
    """

    tag: Tag
    digest: Digest
    first_seen: datetime
    last_seen: datetime
    longest: timedelta = _NEVER


ANCESTORS_READ = 2000
"""Number of ancestors that an index lists of one digest; those that are the closest come first."""


@dataclass(frozen=True, slots=True)
class Ancestor:
    """A manifest that leads to a digest, by way of `child` if it has one; without one it is the digest itself.

    `first_seen`, `longest`: the earliest and the longest of its sightings under tags of the image; None and zero if
    no tag ever pointed to it.
    """

    digest: Digest
    child: Digest | None = None
    first_seen: datetime | None = None
    longest: timedelta = _NEVER


@dataclass(frozen=True, slots=True)
class Link:
    """Right of an image to a digest, proved by its source."""

    source: Source
    image: RepositoryName
    digest: Digest


@dataclass(frozen=True, slots=True)
class BlobInfo:
    """Digest of a blob, and its size in bytes."""

    digest: Digest
    size: int


@dataclass(frozen=True, slots=True)
class Part:
    """The bytes from `start` to `stop` of a blob of `size` bytes."""

    start: int
    stop: int
    size: int

    @property
    def range(self) -> str:
        """Value of the request header (RFC 9110, 14.2)."""
        return f"bytes={self.start}-{self.stop - 1}"

    @property
    def content_range(self) -> str:
        """Value of the response header (RFC 9110, 14.4)."""
        return f"bytes {self.start}-{self.stop - 1}/{self.size}"


@dataclass(frozen=True, slots=True)
class Rest:
    """All bytes of a blob from `start` on; `size` is that of the whole blob, None if it is unknown."""

    start: int
    size: int | None

    @property
    def range(self) -> str:
        return f"bytes={self.start}-"


class OutageKind(Enum):
    """What an upstream does during an outage."""

    UNREACHED = "unreached"
    FAILING = "failing"
    LATE = "late"
    LIMITED = "limited"
    LOGIN_REFUSED = "login_refused"
    INVALID = "invalid"


class Fault(Enum):
    """Fault of an upstream's response that must not be passed on."""

    DIGEST = "digest"
    LENGTH = "length"
    HTML = "html"
    MEDIA_TYPE = "media_type"
    MANIFEST = "manifest"
    SIZE = "size"
    JSON = "json"
    BROKEN = "broken"


class Damage(Enum):
    """Difference between stored content and its record in the index."""

    MISSING = "missing"
    SIZE = "size"
    DIGEST = "digest"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class PageStart:
    """Where a page of tags begins: within the upstream's page that `query` requests, after the tag `after`.

    `query`: as the upstream's Link has it; None for the specification's own parameters. `after`: empty for the
    beginning. `skip`: names of that page to leave out if it does not list `after` any more.
    """

    query: str | None = None
    after: str = ""
    skip: int = 0


BEGINNING = PageStart()


@dataclass(frozen=True, slots=True)
class TagPage:
    """One page of a repository's tags. `next`: where the next page begins; None on the last one. `size`: bytes of the
    response."""

    tags: list[str]
    next: PageStart | None = None
    size: int = field(default=0, compare=False)


class WrittenDescriptor(dict[str, Any]):
    """A descriptor of a list of referrers with its JSON, which is written once. Neither may be changed."""

    __slots__ = ("text",)

    def __init__(self, members: Mapping[str, Any], text: bytes) -> None:
        super().__init__(members)
        self.text = text


@dataclass(frozen=True, slots=True)
class ReferrersPage:
    """The descriptors that refer to a subject. `filtered`: whether the upstream applied the filter by artifact type.
    `size`: bytes of the response. `next`: number where the next page begins; None on the last one, and for a list that
    has no pages."""

    manifests: list[dict[str, Any]]
    filtered: bool
    size: int = field(default=0, compare=False)
    next: int | None = None


class Outcome(Enum):
    """Outcome of a lookup; its value is that of the X-Cache header."""

    HIT = "HIT"
    MISS = "MISS"
    STALE = "STALE"
    REVALIDATED = "REVALIDATED"
    COALESCED = "COALESCED"


FREE_OUTCOMES = frozenset({Outcome.HIT.value, Outcome.STALE.value, Outcome.COALESCED.value})
"""Values of the outcomes with which a manifest costs the upstream nothing."""


@dataclass(frozen=True, slots=True)
class ImageKey:
    """The key of an image of a source in the cache's index, or of one tag or digest of it."""

    source: Source
    name: RepositoryName
    reference: Tag | Digest | None = None

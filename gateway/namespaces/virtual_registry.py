"""Virtual registries as values: an ordered list of upstreams under one name, below which their images are pulled.

They belong to groups at the top of the tree (GitLab, "Container virtual registry"); their names under /v2 begin with
`virtual_registries/container/ID/`.
"""

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from cache.oci.errors import NameInvalid
from cache.oci.names import RepositoryName
from cache.upstream.reach import Reach
from cache.upstream.urls import origin_of
from cache.values import Origin
from gateway.namespaces.errors import VirtualRegistryRefused

REGISTRIES = 5
"""Virtual registries that a group may have."""
UPSTREAMS = 5
"""Upstreams that a virtual registry may have."""
KEPT_UPSTREAMS = 50
"""Upstreams that a group may have, those that no registry uses among them."""

NAME_LIMIT, DESCRIPTION_LIMIT, URL_LIMIT, USERNAME_LIMIT, PASSWORD_LIMIT = 255, 1024, 255, 510, 510

DEFAULT_VALIDITY = 24
"""Hours for which the word of an upstream on a tag holds, unless it says otherwise."""
LONGEST_VALIDITY = 100 * 366 * 24
FOR_EVER = timedelta(hours=LONGEST_VALIDITY)
"""What a validity of 0 hours means: the upstream is not asked again."""

PREFIX = LABEL = "virtual_registries"
"""What their names begin with, and what stands for their upstreams in metrics and the log: people choose the names of
these, and how many there are."""
_TYPE = "container"
_ID = re.compile(r"[1-9][0-9]{0,9}")


@dataclass(frozen=True, slots=True)
class VirtualRegistry:
    """A virtual registry of a group. `description`: empty for none."""

    id: int
    group_id: int
    name: str
    description: str
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class VirtualUpstream:
    """A registry from which virtual registries of a group pull. `password_sealed` is None exactly when `username` is.
    `cache_key`: under what its content is cached; another key is an empty cache."""

    id: int
    group_id: int
    url: str
    name: str
    description: str
    cache_validity_hours: int
    username: str | None
    password_sealed: str | None = field(repr=False)
    cache_key: str
    created_at: datetime
    updated_at: datetime

    @property
    def ttl(self) -> timedelta:
        """How long its word on a tag holds."""
        return timedelta(hours=self.cache_validity_hours) if self.cache_validity_hours else FOR_EVER


@dataclass(frozen=True, slots=True)
class RegistryUpstream:
    """An upstream in a virtual registry, at a position that counts from 1."""

    id: int
    registry_id: int
    upstream_id: int
    position: int


@dataclass(frozen=True, slots=True)
class VirtualPlace:
    """A virtual registry with its upstreams in their order."""

    registry: VirtualRegistry
    upstreams: tuple[VirtualUpstream, ...]


@dataclass(frozen=True, slots=True)
class VirtualName:
    """What a name below a virtual registry names: the id of that, and the image at the upstreams."""

    registry_id: int
    image: RepositoryName


def is_virtual(name: RepositoryName) -> bool:
    """Whether a name can be that of an image of a virtual registry, and of nothing else."""
    return name.text.startswith(f"{PREFIX}/")


def parse_virtual_name(name: RepositoryName) -> VirtualName | None:
    """Read the name of an image of a virtual registry; None for one that names none."""
    first, kind, id, image = (*name.text.split("/", 3), "", "", "", "")[:4]
    if first != PREFIX or kind != _TYPE or not _ID.fullmatch(id) or not image:
        return None
    try:
        return VirtualName(int(id), RepositoryName.parse(image))
    except NameInvalid:
        return None


def check_upstream_url(url: str, private_hosts: frozenset[str]) -> None:
    """Check where an upstream is: at an https URL without a login in it or, at a host that the settings name, at an
    http URL. Raises VirtualRegistryRefused."""
    try:
        origin = origin_of(url)
    except ValueError:
        raise VirtualRegistryRefused("url", "must be an https URL with a host") from None
    parts = urlsplit(url)
    if not url.isascii() or not url.isprintable() or " " in url or len(url) > URL_LIMIT:
        raise VirtualRegistryRefused("url", f"must have at most {URL_LIMIT} characters without blanks")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise VirtualRegistryRefused("url", "must have no login, no query and no fragment")
    if not 0 < origin.port < 65536:
        raise VirtualRegistryRefused("url", "has no valid port")
    if origin.scheme == "http" and not is_private_host(origin, private_hosts):
        raise VirtualRegistryRefused("url", "must begin with https: this server sends nothing unencrypted there")


def is_private_host(origin: Origin, private_hosts: frozenset[str]) -> bool:
    """Whether the settings let upstreams be at a host that may have private addresses, and http."""
    return Reach(private_hosts=private_hosts).allows_private(origin.host, origin.port)

"""AuditEvent: one thing that was done to content, by whom; values only."""

from enum import Enum
from typing import NamedTuple


class EventKind(Enum):
    """What was done. A `fill` brought content of an upstream into the cache, and an `evict` took some out of it on
    somebody's request, or by a policy; a `grant` gave a right to a project or group, and a `revoke` took one."""

    PULL = "pull"
    PUSH = "push"
    DELETE = "delete"
    FILL = "fill"
    MOVE = "move"
    RESTORE = "restore"
    PIN = "pin"
    GRANT = "grant"
    REVOKE = "revoke"
    EVICT = "evict"
    UPDATE = "update"


class Subject(Enum):
    """What it was done to. A manifest may have been named by a tag; `tag` means the tag alone."""

    MANIFEST = "manifest"
    TAG = "tag"
    BLOB = "blob"
    REPOSITORY = "repository"
    PROJECT = "project"
    GROUP = "group"
    TOKEN = "token"


class Surface(Enum):
    """Where it was done: by the registry's API, the REST API, the web pages, a command, a cleanup policy, or the cache
    for whoever pulls."""

    REGISTRY = "registry"
    REST = "rest"
    PAGES = "pages"
    COMMAND = "command"
    CACHE = "cache"
    CLEANUP = "cleanup"


class AuditEvent(NamedTuple):
    """One event. None means that there is no such thing, or that it is not known.

    `at`: seconds since 1970. `path`: the repository as the main address names it; of a fill, the upstream and the image
    there, and of a move the new path. `former`: the digest that a pushed or restored tag pointed to before, the path of
    what has moved, or the moment of an earlier pin. `who`: whose credential was accepted, by names and numbers that are
    no secrets. `user`: the name of that user or deploy token alone. `client`: the address of the client. `outcome`: as
    X-Cache, of a pin its moment, and of a right what was given or taken.
    """

    at: float
    event: EventKind
    subject: Subject
    surface: Surface
    path: str
    tag: str | None = None
    digest: str | None = None
    former: str | None = None
    who: str | None = None
    user: str | None = None
    client: str | None = None
    outcome: str | None = None
    request_id: str | None = None

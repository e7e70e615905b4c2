"""AuditEvent: one thing that was done to content, or to who may do it, by whom; values only."""

from enum import Enum
from typing import NamedTuple


class EventKind(Enum):
    """What was done. A `fill` brought content of an upstream into the cache, and an `evict` took some out of it on
    somebody's request, or by a policy; a `grant` gave a right to a project or group, and a `revoke` took one. What is
    made, changed and deleted otherwise without being content, such as a member, has a `create`, an `update` and a
    `delete`."""

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
    CREATE = "create"
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
    USER = "user"
    MEMBER = "member"
    PERSONAL_TOKEN = "personal token"
    DEPLOY_TOKEN = "deploy token"
    PROTECTION_RULE = "protection rule"
    CLEANUP_POLICY = "cleanup policy"
    WEBHOOK = "webhook"
    VIRTUAL_REGISTRY = "virtual registry"
    VIRTUAL_UPSTREAM = "virtual upstream"

    @property
    def is_content(self) -> bool:
        """Whether it is something that is pulled, or what holds that."""
        return self in _CONTENT


_CONTENT = frozenset({Subject.MANIFEST, Subject.TAG, Subject.BLOB, Subject.REPOSITORY})


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
    there, of a move the new path, and of what is no content the group, project or user that has it. `former`: the
    digest that a pushed or restored tag pointed to before, the path of what has moved, the moment of an earlier pin, or
    the properties that an update has changed. `who`: whose credential was accepted, by names and numbers that are no
    secrets. `user`: the name of that user or deploy token alone. `client`: the address of the client. `outcome`: as
    X-Cache, of a pin its moment, of a right what was given or taken, and of what was made or changed its properties.
    `target`: of what a path has several, which one: the name of a member, or the number and name of a token.
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
    target: str | None = None

    @property
    def ends(self) -> tuple[str | None, str | None]:
        """What was there before, and what is there since."""
        match self.event:
            case EventKind.PUSH | EventKind.RESTORE:
                return self.former, self.digest
            case EventKind.DELETE:
                return self.digest or self.former, None
            case EventKind.MOVE:
                return self.former, self.path
            case EventKind.REVOKE:
                return self.outcome, None
            case EventKind.PIN | EventKind.CREATE | EventKind.UPDATE | EventKind.GRANT:
                return self.former, self.outcome
        return None, None

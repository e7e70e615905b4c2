"""Matrix of permissions as data: who may pull by visibility and access level, and what roles and scopes may do.

A cell lists requirements of which one suffices: an `Audience`, or a role, which stands for every stronger one too.
Nothing is decided here; `gateway.auth.permissions` reads these tables and knows no rights beside them.
"""

from collections.abc import Mapping
from enum import Enum

from gateway.namespaces.credentials import Scope
from gateway.namespaces.node import Visibility
from gateway.namespaces.project import RegistryAccess
from gateway.namespaces.role import Role


class Action(Enum):
    """Kind of access: three to a repository, and `admin` to the settings of a project or a group. Five more are those
    of the REST API: to know that a project or group exists, to delete one tag, to delete, move or restore whole
    repositories, to dispose of a whole project or group, and to see its tokens."""

    PULL = "pull"
    PUSH = "push"
    DELETE = "delete"
    ADMIN = "admin"
    KNOW = "know"
    DELETE_TAG = "delete-tag"
    MANAGE = "manage"
    OWN = "own"
    TOKENS = "tokens"


class Audience(Enum):
    """Audience that has a right without being members; the values end the sentence "… may pull"."""

    EVERYBODY = "everybody"
    SIGNED_IN = "every signed-in user who is not external"


Requirement = Audience | Role
Cell = tuple[Requirement, ...]

_REPORTERS: Cell = (Role.REPORTER,)
_NOBODY: Cell = ()

PULL: Mapping[tuple[Visibility, RegistryAccess], Cell] = {
    (Visibility.PUBLIC, RegistryAccess.ENABLED): (Audience.EVERYBODY,),
    (Visibility.PUBLIC, RegistryAccess.PRIVATE): _REPORTERS,
    (Visibility.PUBLIC, RegistryAccess.DISABLED): _NOBODY,
    (Visibility.INTERNAL, RegistryAccess.ENABLED): (Audience.SIGNED_IN, Role.REPORTER),
    (Visibility.INTERNAL, RegistryAccess.PRIVATE): _REPORTERS,
    (Visibility.INTERNAL, RegistryAccess.DISABLED): _NOBODY,
    (Visibility.PRIVATE, RegistryAccess.ENABLED): _REPORTERS,
    (Visibility.PRIVATE, RegistryAccess.PRIVATE): _REPORTERS,
    (Visibility.PRIVATE, RegistryAccess.DISABLED): _NOBODY,
}
"""Who may pull from a project (GitLab, "Container registry visibility permissions"). An external user who is a guest of
an internal project is neither signed in, in the sense of the table, nor a reporter."""

ROLES: Mapping[Action, Role] = {
    Action.PUSH: Role.DEVELOPER,
    Action.DELETE: Role.MAINTAINER,
    Action.ADMIN: Role.MAINTAINER,
    Action.DELETE_TAG: Role.DEVELOPER,
    Action.MANAGE: Role.MAINTAINER,
    Action.OWN: Role.OWNER,
    Action.TOKENS: Role.MAINTAINER,
}
"""Weakest role in a project for what is no pull; neither visibility nor the access level `private` changes it."""

SETTINGS = frozenset({Action.ADMIN, Action.OWN, Action.TOKENS})
"""Actions that concern no content: those of a project whose registry is disabled, too; no job does them."""

JOB_ROLES: Mapping[Action, Role] = {
    Action.PUSH: Role.DEVELOPER,
    Action.DELETE: Role.DEVELOPER,
    Action.DELETE_TAG: Role.DEVELOPER,
    Action.MANAGE: Role.MAINTAINER,
}
"""Weakest role of a job's user for what the job does to its own project; a job administers nothing."""

CREATE: Role = Role.DEVELOPER
"""Weakest role in a group, or above it, for pushes that create the project that they lack, where settings allow it."""

GROUP_PULL: Role = Role.GUEST
"""Weakest role in a group, or above it, for pulls through its dependency proxy."""

GROUP_ROLES: Mapping[Action, Role] = {
    Action.ADMIN: Role.OWNER,
    Action.OWN: Role.OWNER,
    Action.TOKENS: Role.MAINTAINER,
}
"""Weakest role in a group, or above it, for its settings, and for seeing its tokens."""

KNOWS: Mapping[Visibility, Cell] = {
    Visibility.PUBLIC: (Audience.EVERYBODY,),
    Visibility.INTERNAL: (Audience.SIGNED_IN, Role.GUEST),
    Visibility.PRIVATE: (Role.GUEST,),
}
"""Who may know that a project or group exists, and so is told why something is refused."""

PERSONAL_SCOPES: Mapping[Action, frozenset[Scope]] = {
    Action.PULL: frozenset({Scope.API, Scope.READ_API, Scope.READ_REGISTRY, Scope.WRITE_REGISTRY}),
    Action.PUSH: frozenset({Scope.API, Scope.WRITE_REGISTRY}),
    Action.DELETE: frozenset({Scope.API, Scope.WRITE_REGISTRY}),
    Action.ADMIN: frozenset({Scope.API}),
    Action.KNOW: frozenset({Scope.API, Scope.READ_API}),
    Action.DELETE_TAG: frozenset({Scope.API}),
    Action.MANAGE: frozenset({Scope.API}),
    Action.OWN: frozenset({Scope.API}),
    Action.TOKENS: frozenset({Scope.API, Scope.READ_API}),
}
"""Scopes of a personal token of which one is needed, beside the user's own right. `write_registry` carries pulls,
since clients that push ask for both."""

DEPLOY_SCOPES: Mapping[Action, frozenset[Scope]] = {
    Action.PULL: frozenset({Scope.READ_REGISTRY, Scope.WRITE_REGISTRY}),
    Action.PUSH: frozenset({Scope.WRITE_REGISTRY}),
    Action.DELETE: frozenset(),
    Action.ADMIN: frozenset(),
    Action.KNOW: frozenset(),
    Action.DELETE_TAG: frozenset(),
    Action.MANAGE: frozenset(),
    Action.OWN: frozenset(),
    Action.TOKENS: frozenset(),
}
"""Scopes of a deploy token of which one is needed; where there is none, no deploy token may do it."""

VIRTUAL_ADMIN: Role = Role.MAINTAINER
"""Weakest role in a group for changes of its virtual registries; any role in it, or in anything in it, may pull from
them (GitLab, "Container virtual registry")."""

VIRTUAL_SCOPES = frozenset({Scope.API, Scope.READ_VIRTUAL_REGISTRY})
"""Scopes of a personal token of which one is needed for pulls from virtual registries; of a deploy token the latter."""

READING_SCOPES = frozenset({Scope.API, Scope.READ_API})
"""Scopes of a personal token of which one is needed for whatever is read by the REST API."""

CHANGING_SCOPES = frozenset({Scope.API})
"""Scopes of a personal token of which one is needed for whatever is changed by the REST API."""

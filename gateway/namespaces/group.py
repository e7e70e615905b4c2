"""Group: a node of the tree with a dependency proxy below it, and the rules that every change of one must keep."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from cache.oci.names import RepositoryName
from cache.policy.gate import OPEN, Gate, decide_image
from gateway import known_registries
from gateway.namespaces.errors import (
    AnonymousPullRefused,
    GroupUnknown,
    LoginMisdirected,
    NodeNotEmpty,
    ParentUnknown,
    VisibilityRefused,
)
from gateway.namespaces.node import NodeKey, NodeKind, PathEntry, Visibility, check_visibility, enumerate_paths
from gateway.namespaces.paths import parent_path, parse_group_path, parse_upstream_name

HUB = "hub"
"""Path of the group that a new installation is given."""

DEFAULT_UPSTREAM = known_registries.DOCKER_HUB


@dataclass(frozen=True, slots=True)
class Login:
    """Credential that a group presents to its default upstream."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Group:
    """One stored group.

    `upstream_password_sealed` is None exactly when `upstream_username` is. `fresh_only`: stale content is refused.
    `gate`: None where every image passes. `quota`: bytes that the projects below it may store together, None where
    there is no limit. `as_of`: the moment that the projects below it are pinned to; None where none is.
    `listed_as`: old paths of it by which settings name it.
    """

    id: int
    path: str
    visibility: Visibility
    proxy_enabled: bool
    anonymous_pull: bool
    default_upstream: str
    upstream_username: str | None
    upstream_password_sealed: str | None = field(repr=False)
    created_at: datetime
    fresh_only: bool = False
    gate: Gate | None = None
    quota: int | None = None
    as_of: datetime | None = None
    listed_as: frozenset[str] = frozenset()

    @property
    def key(self) -> NodeKey:
        return NodeKey(NodeKind.GROUP, self.id)

    def lets_through(self, upstream: str, image: RepositoryName) -> bool:
        """Whether its gate lets the tags of an image through, however young they are."""
        gate = self.gate or OPEN
        names = known_registries.short_names(upstream, image)
        return not gate.cooldown and decide_image(gate, upstream, image, names).allowed

    def without_login(self) -> "Group":
        """The group without an upstream login."""
        return replace(self, upstream_username=None, upstream_password_sealed=None)


def new_group(path: str, now: datetime) -> Group:
    """A group as it is created: private, with its dependency proxy on; its id is 0 until it is stored.

    Raises PathInvalid.
    """
    return Group(0, parse_group_path(path), Visibility.PRIVATE, True, False, DEFAULT_UPSTREAM, None, None, now)


def with_visibility(group: Group, visibility: Visibility) -> Group:
    """The group with another visibility; where that is narrower, strangers do not pull through it."""
    anonymous_pull = group.anonymous_pull and visibility is Visibility.PUBLIC
    return replace(group, visibility=visibility, anonymous_pull=anonymous_pull)


def check_creation(group: Group, above: PathEntry | None) -> None:
    """Check that a new group has a place in the tree. `above`: the node above it, if one exists.

    Raises ParentUnknown.
    """
    path = parent_path(group.path)
    if path and above is None:
        raise ParentUnknown(f"group {group.path!r} needs the group {path!r} above it: create that first")
    if above is not None and above.key.kind is not NodeKind.GROUP:
        raise ParentUnknown(
            f"group {group.path!r} cannot lie in the {above.key.kind} {above.path!r}: only groups hold groups"
        )


def check_update(old: Group, new: Group, parent: "Group | None" = None, more_visible: Sequence[str] = ()) -> None:
    """Check that a stored group may become another.

    `parent`: the group above it. `more_visible`: paths of nodes below it with a larger audience than it would have.
    Raises AnonymousPullRefused, VisibilityRefused, UpstreamNameInvalid, LoginMisdirected.
    """
    if new.visibility is not old.visibility:
        if parent is not None:
            check_visibility(f"group {new.path!r}", new.visibility, parent.path, parent.visibility)
        if more_visible:
            raise VisibilityRefused(
                f"group {new.path!r} cannot be {new.visibility}, because what it holds is more visible "
                f"({enumerate_paths(more_visible)}): make that {new.visibility} first"
            )
    if new.anonymous_pull and new.visibility is not Visibility.PUBLIC:
        raise AnonymousPullRefused(f"group {new.path!r} cannot be {new.visibility} and allow anonymous pull")
    moved = parse_upstream_name(new.default_upstream) != old.default_upstream
    if moved and old.upstream_password_sealed and new.upstream_password_sealed == old.upstream_password_sealed:
        raise LoginMisdirected(
            f"group {new.path!r} has a login for {old.default_upstream}, which {new.default_upstream} must not see"
        )


def check_deletion(group: Group, inside: Sequence[str]) -> None:
    """Check that a group may be deleted. `inside`: paths of nodes below it. Raises NodeNotEmpty."""
    if inside:
        raise NodeNotEmpty(f"group {group.path!r} holds {enumerate_paths(inside)}: delete what is inside it first")


def unknown_group(path: str, present: str | None = None) -> GroupUnknown:
    """The error for a path that no group has. `present`: where one is now that had it."""
    return GroupUnknown(f"there is no group {path!r}" + (f", which has moved to {present!r}" if present else ""))

"""Nodes of the tree: users' namespaces, groups and projects, each with a path that no other node has."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from gateway.namespaces.errors import VisibilityRefused


class NodeKind(StrEnum):
    """Kind of a node; users and groups share their paths."""

    USER = "user"
    GROUP = "group"
    PROJECT = "project"


class Visibility(StrEnum):
    """Audience of a node of the tree: everybody, everybody with a login, members."""

    PUBLIC = "public"
    INTERNAL = "internal"
    PRIVATE = "private"

    @property
    def openness(self) -> int:
        """Rank of the audience: the larger, the more people belong to it."""
        return _OPENNESS[self]


_OPENNESS = {Visibility.PRIVATE: 0, Visibility.INTERNAL: 1, Visibility.PUBLIC: 2}


@dataclass(frozen=True, slots=True, order=True)
class NodeKey:
    """Identity of a node, which a move keeps and no later node of its kind is given."""

    kind: NodeKind
    id: int

    def __str__(self) -> str:
        """The text `KIND:ID`."""
        return f"{self.kind}:{self.id}"

    @classmethod
    def parse(cls, text: str) -> "NodeKey":
        """Read the text `KIND:ID`. Raises ValueError."""
        kind, _, number = text.partition(":")
        return cls(NodeKind(kind), int(number))


Way = tuple[NodeKey, ...]
"""Nodes on the way to a node, from the top of the tree down, itself included."""


@dataclass(frozen=True, slots=True)
class PathEntry:
    """A node at its path, as the paths of the tree are looked up: nothing but who stands where."""

    path: str
    key: NodeKey


def prefixes_of(path: str) -> Sequence[str]:
    """List the paths of all nodes that may stand on the way to a path, itself included, from the top down."""
    parts = path.split("/")
    return ["/".join(parts[: count + 1]) for count in range(len(parts))]


NAMED_AT_MOST = 3
"""Nodes that a refusal names; one more is looked up to know whether there are more."""


def enumerate_paths(paths: Sequence[str]) -> str:
    """Enumerate the first paths of those that stand in the way of a change."""
    named = ", ".join(paths[:NAMED_AT_MOST])
    return named if len(paths) <= NAMED_AT_MOST else f"{named} and more"


def check_visibility(what: str, visibility: Visibility, above: str, widest: Visibility) -> None:
    """Check that a node is not more visible than the group above it. Raises VisibilityRefused.

    `what`: the kind and path of the node. `above`, `widest`: path and visibility of that group.
    """
    if visibility.openness > widest.openness:
        raise VisibilityRefused(
            f"{what} cannot be {visibility} in the {widest} group {above!r}: "
            f"make it {widest}, or the group {visibility}"
        )

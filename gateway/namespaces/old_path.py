"""Old paths: where groups, projects and repositories were before they moved; pure, nothing is looked up.

A node keeps its old path for a while: nothing else can be made there, and names that begin with it lead to the node. A
repository has no names below its own, so its old path is its old name alone.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from gateway.namespaces.errors import MoveRefused, PathReserved
from gateway.namespaces.expiry import format_moment

RESERVED = "is not free: something had it that has moved, and its old path still leads there"
"""What clients are told of an old path, where that of what has moved may be hidden from them: not what it is, nor
where."""


class MovedKind(StrEnum):
    """Kind of what can move; the words are those of NodeKind."""

    GROUP = "group"
    PROJECT = "project"
    REPOSITORY = "repository"


@dataclass(frozen=True, slots=True)
class OldPath:
    """A path that something had before it moved. `present`: its path now; `until`: when the old one ends."""

    path: str
    kind: MovedKind
    id: int
    present: str
    until: datetime

    def present_name(self, name: str) -> str | None:
        """The name that one at or below the old path has now; None for other names."""
        if name == self.path:
            return self.present
        if self.kind is MovedKind.REPOSITORY or not name.startswith(f"{self.path}/"):
            return None
        return self.present + name[len(self.path) :]


@dataclass(frozen=True, slots=True)
class Former:
    """What an old name leads to. `present`: the name now; `until`: when the old one ends; `kind`, `old`, `new`: of what
    has moved last on the way."""

    present: str
    until: datetime
    kind: MovedKind
    old: str
    new: str

    def told(self, name: str) -> str:
        """Tell whoever uses an old name what has moved. `name`: the one to use instead."""
        return (
            f"{self.kind} {self.old} has moved to {self.new}: use {name}, "
            f"since the old name ends at {format_moment(self.until)}"
        )


def follow(name: str, known: Iterable[OldPath]) -> Former | None:
    """Follow a name by one step, by the longest of some old paths; None where none of them leads elsewhere.

    At one path a repository comes before its project, whose old path is the same.
    """
    found = [(old, present) for old in known if (present := old.present_name(name)) is not None]
    if not found:
        return None
    old, present = max(found, key=lambda step: (len(step[0].path), step[0].kind is MovedKind.REPOSITORY))
    return Former(present, old.until, old.kind, old.path, old.present)


def check_reservation(path: str, kind: str, id: int | None, old: OldPath) -> None:
    """Check that an old path of something lets a new or a moved one have a path at or below it.

    `kind`: also that of a user's namespace. `id`: of what moves there; None for what is made new. Raises PathReserved.
    """
    if old.present_name(path) is None or (old.path == path and old.kind == kind and old.id == id):
        return
    raise reserved(kind, path, old)


def reserved(kind: str, path: str, old: OldPath) -> PathReserved:
    """The error for a path that an old one of something else forbids."""
    return PathReserved(
        f"{kind} {path!r} is refused, because {old.path!r} is the old path of {old.kind} {old.present!r} until "
        f"{format_moment(old.until)}: choose another path, or move {old.present!r} back"
    )


def check_move(kind: MovedKind, old: str, new: str, taken_by: str | None) -> None:
    """Check that something may move from one path to another. `taken_by`: the kind of what has the new path.

    Raises MoveRefused.
    """
    if new == old:
        raise MoveRefused(f"{kind} {old!r} has this path already")
    if kind is not MovedKind.REPOSITORY and new.startswith(f"{old}/"):
        raise MoveRefused(f"{kind} {old!r} cannot move below itself, to {new!r}: choose a path outside it")
    if taken_by is not None:
        raise MoveRefused(f"{kind} {old!r} cannot move to {new!r}, which is the path of a {taken_by}: choose another")

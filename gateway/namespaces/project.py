"""Project: a node of the tree that holds repositories, and the rules that every change of one must keep."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from gateway.namespaces.errors import AllowanceRefused, ParentUnknown, ProjectUnknown
from gateway.namespaces.node import NodeKey, NodeKind, PathEntry, Visibility, check_visibility
from gateway.namespaces.paths import parent_path, parse_project_path

MOST_ALLOWANCES = 200
"""Projects and groups whose jobs a project may allow, added one by one: GitLab's limit."""


class RegistryAccess(StrEnum):
    """Access level of a project's container registry: as visible as the project, members alone, nobody."""

    ENABLED = "enabled"
    PRIVATE = "private"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True)
class Project:
    """One stored project.

    `path`: the full one, below a group or a user's namespace. `created_by`: id of a user. `quota`: bytes that it may
    store, None where there is no limit. `as_of`: the moment of its own pin; `pinned_at`: that of the nearest
    pin, which may be that of a group above it; None where tags are pulled as they are now. `limits_jobs`: whether jobs
    of other projects need an allowance; otherwise they pull what their users may.
    """

    id: int
    path: str
    visibility: Visibility
    registry: RegistryAccess
    created_at: datetime
    created_by: int | None = None
    quota: int | None = None
    as_of: datetime | None = None
    pinned_at: datetime | None = None
    limits_jobs: bool = True

    @property
    def key(self) -> NodeKey:
        return NodeKey(NodeKind.PROJECT, self.id)


def new_project(path: str, now: datetime, visibility: Visibility, created_by: int | None) -> Project:
    """A project as it is created, with its registry enabled; its id is 0 until it is stored. Raises PathInvalid."""
    return Project(0, parse_project_path(path), visibility, RegistryAccess.ENABLED, now, created_by)


def check_place(project: Project, above: PathEntry | None) -> None:
    """Check that a new project has a place in the tree. `above`: the node above it, if one exists.

    Raises ParentUnknown.
    """
    path = parent_path(project.path)
    if above is None:
        raise ParentUnknown(f"project {project.path!r} needs the group or user {path!r} above it: create that first")
    if above.key.kind is NodeKind.PROJECT:
        raise ParentUnknown(
            f"project {project.path!r} cannot lie in the project {path!r}: only groups and users hold projects"
        )


def check_audience(project: Project, above: str, widest: Visibility) -> None:
    """Check that a project is not more visible than what is above it; a user's namespace counts as public.

    Raises VisibilityRefused.
    """
    check_visibility(f"project {project.path!r}", project.visibility, above, widest)


def check_allowance(project: Project, allowed: PathEntry) -> None:
    """Check that a project can allow the jobs of a node to pull from it. Raises AllowanceRefused."""
    if allowed.key.kind is NodeKind.USER:
        raise AllowanceRefused(
            f"project {project.path!r} cannot allow the jobs of user {allowed.path!r}: name a project or a group"
        )


def check_allowances(project: Project, count: int) -> None:
    """Check that a project can allow the jobs of so many projects and groups. Raises AllowanceRefused."""
    if count > MOST_ALLOWANCES:
        raise AllowanceRefused(f"project {project.path!r} allows jobs of {MOST_ALLOWANCES} projects and groups at most")


def unknown_project(path: str, present: str | None = None) -> ProjectUnknown:
    """The error for a path that no project has. `present`: where one is now that had it."""
    return ProjectUnknown(f"there is no project {path!r}" + (f", which has moved to {present!r}" if present else ""))

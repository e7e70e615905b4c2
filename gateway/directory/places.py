"""Places: groups and projects with the nodes on the way to them, and where the name of a repository leads."""

from dataclasses import dataclass
from datetime import datetime

from gateway.namespaces.group import Group
from gateway.namespaces.locate import NativeLocation, ProxiedLocation
from gateway.namespaces.node import NodeKey, Way
from gateway.namespaces.old_path import Former
from gateway.namespaces.project import Project
from gateway.namespaces.protection import UNPROTECTED, Protection


@dataclass(frozen=True, slots=True)
class GroupPlace:
    """A group and the way to it."""

    group: Group
    way: Way

    @property
    def path(self) -> str:
        """The path of the group."""
        return self.group.path

    @property
    def key(self) -> NodeKey:
        """What the group is among all nodes."""
        return self.way[-1]


@dataclass(frozen=True, slots=True)
class ProjectPlace:
    """A project, the way to it, and its protection rules. `job_allowances`: projects and groups whose jobs may pull
    from it."""

    project: Project
    way: Way
    job_allowances: frozenset[NodeKey]
    protection: Protection = UNPROTECTED

    @property
    def path(self) -> str:
        """The path of the project."""
        return self.project.path

    @property
    def key(self) -> NodeKey:
        """What the project is among all nodes."""
        return self.way[-1]


Place = GroupPlace | ProjectPlace


@dataclass(frozen=True, slots=True)
class Located:
    """Meaning of a name, for whoever may know it.

    `name`: the canonical one, or the given one where it leads nowhere. `place`: the group or project whose members
    decide; None where there is none. `location`: None where there is no place, where a group's dependency proxy is off
    or the upstream not configured, and where a name lies too deep below a project, as `problem` says. `former`: set for
    an old name, whose place and location are those of what has moved.
    """

    name: str
    place: Place | None
    location: ProxiedLocation | NativeLocation | None = None
    problem: str = ""
    former: Former | None = None

    def at(self, now: datetime) -> "Located":
        """What the name means at a time, with which old names end."""
        if self.former is None or self.former.until > now:
            return self
        return Located(self.name, None)

"""PullReach: the projects from which somebody may be able to pull, as a condition that a query can take."""

from dataclasses import dataclass

from gateway.namespaces.node import NodeKey, Visibility, Way


@dataclass(frozen=True, slots=True)
class PullReach:
    """Projects of which each still needs a decision; from no other one may be pulled.

    `everything`: all projects. `audiences`: those of such a visibility whose registry is enabled. `nodes`: groups,
    users' namespaces and projects, with everything below them. `jobs_of`: those that allow jobs of one of these nodes.
    """

    audiences: frozenset[Visibility] = frozenset()
    nodes: tuple[NodeKey, ...] = ()
    jobs_of: Way = ()
    everything: bool = False


@dataclass(frozen=True, slots=True)
class Knowledge:
    """Groups and projects that somebody may know of, as a condition that a query can take.

    `everything`: all. `audiences`: those of such a visibility. `nodes`: groups, users' namespaces and projects, with
    everything below them; the groups above them are known by their paths.
    """

    audiences: frozenset[Visibility] = frozenset()
    nodes: tuple[NodeKey, ...] = ()
    everything: bool = False

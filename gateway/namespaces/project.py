"""Project: a node of the tree that holds repositories, and the rules that every change of one must keep."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from gateway.namespaces.node import NodeKey, NodeKind, Visibility


class RegistryAccess(StrEnum):
    """Access level of a project's container registry: as visible as the project, members alone, nobody."""

    ENABLED = "enabled"
    PRIVATE = "private"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True)
class Project:
    """One stored project. `path`: the full one, below a group or a user's namespace. `created_by`: id of a user."""

    id: int
    path: str
    visibility: Visibility
    registry: RegistryAccess
    created_at: datetime
    created_by: int | None = None

    @property
    def key(self) -> NodeKey:
        return NodeKey(NodeKind.PROJECT, self.id)

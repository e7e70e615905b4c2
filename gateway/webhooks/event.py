"""RegistryEvent: one thing that happened to content, as the outbox holds it until webhooks are told of it."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from gateway.webhooks.cause import NO_CAUSE, Cause


class Trigger(StrEnum):
    """What a webhook may be told of, by the name of the switch in GitLab's manner."""

    PUSH = "registry_push_events"
    PULL = "registry_pull_events"
    DELETE = "registry_delete_events"
    FILL = "registry_cache_fill_events"

    @property
    def action(self) -> str:
        """The action in the envelope (distribution, "Notifications"); a cache fill is none of its own."""
        return _ACTIONS[self]


_ACTIONS = {Trigger.PUSH: "push", Trigger.PULL: "pull", Trigger.DELETE: "delete", Trigger.FILL: "fill"}


@dataclass(frozen=True, slots=True)
class RegistryEvent:
    """One event; None where there is no such thing, or it is not known.

    `path`: the repository by its main name; of a fill, the upstream and the image there. `project_id`: of a repository
    of a project. `digest`: of a tag, what it pointed to; a deletion without one is that of the repository. `size`:
    bytes of the manifest or blob itself.
    """

    id: int
    at: datetime
    trigger: Trigger
    path: str
    project_id: int | None = None
    tag: str | None = None
    digest: str | None = None
    media_type: str | None = None
    size: int | None = None
    cause: Cause = field(default=NO_CAUSE)

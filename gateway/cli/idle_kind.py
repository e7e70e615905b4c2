"""IdleSetting: a setting without effect, as whoever finds one tells of it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class IdleSetting:
    """A setting without effect: its dotted name, or that of a variable, why it has none, and what would give it one.

    `kind`: `group` for groups that nobody can use. `concerns`: the groups and upstreams that it is about.
    """

    name: str
    reason: str
    remedy: str
    kind: str = "setting"
    concerns: frozenset[str] = frozenset()

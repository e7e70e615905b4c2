"""Settings that name a group by a path which it had before it moved."""

from collections.abc import Mapping, Sequence

from gateway.doctor.check import Check, warned
from gateway.namespaces.expiry import format_moment
from gateway.namespaces.old_path import Former


def examine_moved_groups(named: Sequence[tuple[str, str]], formers: Mapping[str, Former]) -> list[Check]:
    """Warn of settings that will not lead to their groups any more. `named`: settings with the paths that they name."""
    return [
        warned(
            f"setting {setting}",
            f"group {path} has moved to {formers[path].present}, which this setting leads to until "
            f"{format_moment(formers[path].until)}",
            f"name {formers[path].present} there before that",
        )
        for setting, path in named
        if path in formers
    ]

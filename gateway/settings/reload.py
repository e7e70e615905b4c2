"""Reload: what changed settings change for a server that runs, and which of them wait for its next start."""

from dataclasses import dataclass

from gateway.settings.keys import NAMED, SettingKey, dotted, names_in, setting_keys, value_of
from gateway.settings.tables import Settings

_ADDRESS: tuple[SettingKey, ...] = (("host",), ("port",))
_AT_START: tuple[SettingKey, ...] = (("data",), ("workers",), ("admin_password_file",), ("database", "url"))


@dataclass(frozen=True, slots=True)
class Reload:
    """The settings with which new workers serve, and the dotted names of changed ones: those that take effect, and
    those that need a restart."""

    settings: Settings
    effective: tuple[str, ...]
    waiting: tuple[str, ...]


def reload(current: Settings, new: Settings) -> Reload:
    """Take over all new settings but those on which a server's start alone acts.

    The addresses are bound for as long as the server runs, and the URL of one that changes goes with it.
    """
    kept = [key for key in (*_ADDRESS, *_AT_START) if value_of(current, key) != value_of(new, key)]
    if any(key in _ADDRESS for key in kept) and current.external_url != new.external_url:
        kept.append(("external_url",))
    if [(each.host, each.port) for each in current.listener] != [(each.host, each.port) for each in new.listener]:
        kept.append(("listener",))
    settings = new
    for key in kept:
        settings = _with(settings, key, value_of(current, key))
    return Reload(settings, tuple(changed(current, settings)), tuple(map(dotted, kept)))


def changed(before: Settings, after: Settings) -> list[str]:
    """List the dotted names of settings with other values; an upstream or issuer that came or went is one."""
    old, new = names_in(before), names_in(after)
    common = {table: sorted(set(old[table]) & set(new[table])) for table in NAMED}
    others = [(table, name) for table in NAMED for name in sorted(set(old[table]) ^ set(new[table]))]
    keys = [key for key in setting_keys(common) if value_of(before, key) != value_of(after, key)]
    return [*map(dotted, keys), *map(dotted, others)]


def _with(settings: Settings, key: SettingKey, value: object) -> Settings:
    """Copy the settings with another value of a setting that is no upstream's."""
    if len(key) == 1:
        return settings.model_copy(update={key[0]: value})
    table, name = key
    return settings.model_copy(update={table: getattr(settings, table).model_copy(update={name: value})})

"""Names of settings: dotted as in the file, as environment variables, and the field of the model that each denotes."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from gateway.fixed_headers import FROM_FILE
from gateway.settings.kinds import SettingKind
from gateway.settings.tables import ListenerSettings, Settings, Table, VirtualHostSettings
from gateway.settings.units import format_duration

SettingKey = tuple[str, ...]
"""The path to one setting."""

CONFIG_VARIABLE = "GATEWAY_CONFIG"
"""The environment variable that names the settings file; it is no setting."""

PLACEHOLDER = "NAME"
"""The name of an upstream or an issuer in the keys of FIELDS, which none can have."""

Names = Mapping[str, Iterable[str]]
"""The names of upstreams and issuers, by the name of the table that has a table for each."""


def _walk(model: type[BaseModel], prefix: SettingKey = ()) -> Iterator[tuple[SettingKey, FieldInfo]]:
    for name, field in model.model_fields.items():
        inner: Any = field.annotation
        if get_origin(inner) is dict and get_args(inner)[1] is not str:
            yield from _walk(get_args(inner)[1], (*prefix, name, PLACEHOLDER))
        elif isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _walk(inner, (*prefix, name))
        else:
            yield (*prefix, name), field


FIELDS = dict(_walk(Settings))
ARRAYS: dict[str, type[BaseModel]] = {"listener": ListenerSettings, "virtual_host": VirtualHostSettings}
WHOLE = {(name,) for name in ARRAYS} | {key for key, field in FIELDS.items() if get_origin(field.annotation) is dict}
"""Settings whose value is a table, or an array of tables, of its own."""

NAMED = tuple(dict.fromkeys(key[0] for key in FIELDS if PLACEHOLDER in key))
"""Tables that have a table for each name."""

TABLES = {key[:depth] for key in FIELDS for depth in range(1, len(key))}


def setting_keys(names: Names) -> list[SettingKey]:
    """List the key of every setting, given the names of upstreams and issuers."""
    fixed = [key for key in FIELDS if PLACEHOLDER not in key]
    return fixed + [
        (table, name, *key[2:])
        for table in NAMED
        for name in names.get(table, ())
        for key in FIELDS
        if key[:2] == (table, PLACEHOLDER)
    ]


def names_in(settings: Settings) -> Names:
    """The names of the upstreams and issuers of settings."""
    return {table: list(getattr(settings, table)) for table in NAMED}


def pattern_of(key: SettingKey) -> SettingKey:
    """Replace the name of an upstream or an issuer by PLACEHOLDER, as in FIELDS."""
    return (key[0], PLACEHOLDER, *key[2:]) if len(key) > 1 and key[0] in NAMED else key


def kind_of(key: SettingKey) -> SettingKind:
    """Get the kind of a setting's values. The key must denote one of FIELDS."""
    return next(entry for entry in FIELDS[pattern_of(key)].metadata if isinstance(entry, SettingKind))


def description_of(key: SettingKey) -> str:
    """Get the sentence that describes a setting."""
    return FIELDS[pattern_of(key)].description or ""


def dotted(key: SettingKey) -> str:
    """Write a key as in a TOML file: `cache.ttl`, `upstreams."docker.io".url`."""
    return ".".join(part if re.fullmatch(r"[\w-]+", part, re.ASCII) else json.dumps(part) for part in key)


def variable_of(key: SettingKey) -> str:
    """Name the environment variable of a setting: `GATEWAY_CACHE__TTL`."""
    return "GATEWAY_" + "__".join(re.sub("[^A-Z0-9]", "_", part.upper()) for part in key)


def value_of(settings: Settings, key: SettingKey) -> object:
    """Get the value of a key in the settings."""
    node: object = settings
    for part in key:
        node = node[part] if isinstance(node, dict) else getattr(node, part)
    return node


def shown(key: SettingKey, value: object) -> object:
    """Convert the value of a setting to what people may see: of headers their names, and the files of their values."""
    if key[-1:] != ("headers",):
        return to_plain(value)
    if not isinstance(value, dict):
        return "***" if value else {}
    from_file = {name for name, text in value.items() if isinstance(text, str) and text.startswith(FROM_FILE)}
    return {str(name): text if name in from_file else "***" for name, text in value.items()}


def to_plain(value: object) -> object:
    """Convert a value to what the file would contain, JSON-able, without the credential that a URL may carry."""
    match value:
        case None:
            return ""
        case bool() | int() | float():
            return value
        case list() | tuple():
            return [to_plain(item) for item in value]
        case Table():
            return {name: to_plain(item) for name, item in value if item is not None}
        case dict():
            return {str(name): to_plain(item) for name, item in value.items()}
        case timedelta():
            return format_duration(value)
        case str():
            return re.sub(r"^\s*(?:(\w*:?//).*|[^/].*:.*)@", r"\1***@", value, flags=re.DOTALL)
        case _:
            return str(value)

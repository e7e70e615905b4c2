"""Loading: merges the sources of the settings, checks the result, and explains every problem."""

import json
import os
import pwd
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from gateway import known_registries, upstream_names
from gateway.settings.keys import (
    ARRAYS,
    CONFIG_VARIABLE,
    FIELDS,
    NAMED,
    PLACEHOLDER,
    TABLES,
    WHOLE,
    SettingKey,
    description_of,
    dotted,
    kind_of,
    names_in,
    pattern_of,
    setting_keys,
    shown,
    to_plain,
    value_of,
    variable_of,
)
from gateway.settings.kinds import SettingKind
from gateway.settings.tables import Settings


class SettingsError(ValueError):
    """The configuration cannot be used; `problems`, and the text, have one line for each problem."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """Settings, and the source of each by dotted name: `default`, `file F`, `environment V` or `flag --f`."""

    settings: Settings
    sources: dict[str, str]


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One setting for people and machines; `value` is JSON-able and shows no credential of a proxy."""

    name: str
    value: object
    source: str
    description: str


def load(config: Path | None, environ: Mapping[str, str], flags: Mapping[str, object]) -> LoadedSettings:
    """Merge the sources (a flag overrides the environment, then the file, then the default) and check the result.

    `flags` maps names of settings to values; None means not given. Raises SettingsError with every problem found, but
    only with that of the file if it cannot be read as TOML.
    """
    draft = _Draft()
    if config is not None:
        draft.read_table(_read_toml(config), f"file {config}")
    draft.read_environment(environ)
    draft.read_flags(flags)
    return draft.finish()


def rows(loaded: LoadedSettings) -> list[SettingRow]:
    """List every setting with its value and source: the plain ones, the cache, then upstream by upstream."""
    return [
        SettingRow(
            dotted(key), shown(key, value_of(loaded.settings, key)), loaded.sources[dotted(key)], description_of(key)
        )
        for key in setting_keys(names_in(loaded.settings))
    ]


def descriptions() -> dict[str, str]:
    """Describe each setting in one sentence, by dotted name, with `NAME` for the name of an upstream."""
    inner = {f"{name}.{key}": field for name, model in ARRAYS.items() for key, field in model.model_fields.items()}
    return {dotted(key): description_of(key) for key in FIELDS} | {n: f.description or "" for n, f in inner.items()}


def setting_names() -> list[str]:
    """List the dotted name of every setting, with `NAME` for the name of an upstream: `upstreams.NAME.url`.

    An array of tables is one setting, and has one for each key of its tables beside it: `listener`, `listener.port`.
    """
    return list(descriptions())


def _problem(key: SettingKey, value: object, source: str, wanted: str) -> str:
    return f"{dotted(key)} = {json.dumps(shown(key, value))} ({source}): {wanted}"


def _keys_of_further_name(variable: str) -> list[SettingKey]:
    """Find the key of a variable for an upstream or issuer that is not in the file, each `_` of its name a dot, or a
    hyphen in that of an issuer; one or none."""
    match = re.fullmatch("GATEWAY_(UPSTREAMS|OIDC)__(.+)__(.+)", variable)
    separator = "." if match and match[1] == "UPSTREAMS" else "-"
    key = (match[1].lower(), match[2].lower().replace("_", separator), match[3].lower()) if match else ()
    return [key] if pattern_of(key) in FIELDS else []


def _nearest(name: str, candidates: Iterable[str]) -> str:
    return f"there is no such setting; the nearest is {get_close_matches(name, candidates, n=1, cutoff=0.0)[0]}"


def _own_user() -> str:
    try:
        return f"user {pwd.getpwuid(os.geteuid()).pw_name}"
    except KeyError:
        return f"user {os.geteuid()}"


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        content = path.read_bytes()
    except OSError as error:
        remedy = "name a readable TOML file"
        if isinstance(error, PermissionError):
            remedy = f"let {_own_user()} read it, and enter the folders above it, or name another file"
        raise SettingsError(f"{path}: cannot be read ({error.strerror}); {remedy}") from error
    try:
        return tomllib.loads(content.decode())
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SettingsError(f"{path}, line {line}: not UTF-8, as TOML must be") from error
    except ValueError as error:
        at = re.search(r" \(at line ([0-9]+)", str(error))
        line = int(at[1]) if at else content.count(b"\n") + 1
        raise SettingsError(f"{path}, line {line}: not valid TOML: {error}") from error


@dataclass(frozen=True, slots=True)
class _Given:
    """An unchecked value and its source."""

    value: object
    source: str


class _Draft:
    """The values given so far, of which a later one overrides an earlier one, and the problems found with them."""

    def __init__(self) -> None:
        self._given: dict[SettingKey, _Given] = {}
        self._problems: list[str] = []

    def read_table(self, table: Mapping[str, object], source: str, prefix: SettingKey = ()) -> None:
        for name, value in table.items():
            if isinstance(value, dict) and value and pattern_of((*prefix, name)) not in WHOLE:
                self.read_table(value, source, (*prefix, name))
            else:
                self._put((*prefix, name), value, source)

    def read_environment(self, environ: Mapping[str, str]) -> None:
        given = {table: [key[1] for key in self._given if key[0] == table and len(key) > 1] for table in NAMED}
        given["upstreams"].insert(0, known_registries.DOCKER_HUB)
        known: dict[str, list[SettingKey]] = {}
        for key in setting_keys({table: dict.fromkeys(names) for table, names in given.items()}):
            known.setdefault(variable_of(key), []).append(key)
        for variable, text in environ.items():
            name = variable.upper()
            if not name.startswith("GATEWAY_") or name == CONFIG_VARIABLE:
                continue
            source = f"environment {variable}"
            keys = known.get(name) or _keys_of_further_name(name)
            if not keys:
                self._problems.append(f"{variable} (environment): {_nearest(name, known)}")
            elif len(keys) > 1:
                self._problems.append(f"{variable} (environment): means any of {', '.join(map(dotted, keys))}")
            else:
                self._put_text(keys[0], text, source)

    def read_flags(self, flags: Mapping[str, object]) -> None:
        for name, value in flags.items():
            source = f"flag --{name.replace('_', '-')}"
            if isinstance(value, str):
                self._put_text((name,), value, source)
            elif value is not None:
                self._put((name,), value, source)

    def finish(self) -> LoadedSettings:
        tables: dict[str, Any] = {}
        for key, given in sorted(self._given.items(), key=lambda item: len(item[0])):
            table = tables
            for part in key[:-1]:
                table = table.setdefault(part, {})
            table[key[-1]] = {} if pattern_of(key) in TABLES else given.value
        settings: Settings | None = None
        try:
            settings = Settings.model_validate(tables)
        except ValidationError as error:
            self._problems += dict.fromkeys(self._explain(details) for details in error.errors())
        else:
            self._problems += self._rules_without_upstream(settings)
        if self._problems or settings is None:
            raise SettingsError(*self._problems)
        return LoadedSettings(settings, {dotted(key): self._source(key) for key in setting_keys(names_in(settings))})

    def _rules_without_upstream(self, settings: Settings) -> list[str]:
        key = ("cache", "rules")
        return [
            _problem(key, [rule], self._source(key), f"there is no upstream {rule.upstream}: add it or correct this")
            for rule in settings.cache.rules
            if rule.upstream is not None and rule.upstream not in settings.upstreams
        ]

    def _source(self, key: SettingKey) -> str:
        return self._given[key].source if key in self._given else "default"

    def _put_text(self, key: SettingKey, text: str, source: str) -> None:
        try:
            value = kind_of(key).parse(text) if pattern_of(key) in FIELDS else text
        except ValueError:
            self._problems.append(_problem(key, text, source, f"must be {kind_of(key).allowed}"))
        else:
            self._put(key, value, source)

    def _put(self, key: SettingKey, value: object, source: str) -> None:
        pattern = pattern_of(key)
        if pattern in TABLES and value != {}:
            self._problems.append(_problem(key, value, source, f"must be a table, [{dotted(key)}]"))
            return
        if pattern not in FIELDS and pattern not in TABLES:
            # The message omits the value: it may be a secret under a name that does not exist.
            name = ".".join(key[1:-1]) or PLACEHOLDER
            candidates = map(dotted, setting_keys({table: [name] for table in NAMED}))
            self._problems.append(f"{dotted(key)} ({source}): {_nearest(dotted(key), candidates)}")
            return
        if pattern in FIELDS:
            self._given[key] = _Given(value, source)
        if PLACEHOLDER in pattern:
            self._given.setdefault(key[:2], _Given({}, source))

    def _explain(self, details: ErrorDetails) -> str:
        loc = tuple(map(str, details["loc"]))
        if loc[0] in ARRAYS and len(loc) > 1:
            return self._explain_entry(loc, details)
        if loc[-1] == "[key]":
            rule = f"the name of an upstream must be {upstream_names.FORM}"
            if loc[0] == "oidc":
                rule = "the name of an issuer must be lower-case letters and digits, with single hyphens between them"
            return f"{dotted(loc[:2])} ({self._source(loc[:2])}): {rule}"
        key = next((loc[:depth] for depth in range(1, len(loc) + 1) if pattern_of(loc[:depth]) in FIELDS), None)
        if key is None:  # a rule for several tables
            return f"{dotted(loc)}: {details['msg']}"
        if details["type"] == "missing" and loc == key:
            return f"{dotted(key)} ({self._source(key[:2])}): is missing; it must be {kind_of(key).allowed}"
        value = self._given[key].value if key in self._given else details["input"]
        wanted = details["msg"] if details["type"] == "rule" else f"must be {kind_of(key).allowed}"
        return _problem(key, value, self._source(key), wanted)

    def _explain_entry(self, loc: SettingKey, details: ErrorDetails) -> str:
        """Explain a problem inside an array of tables, which counts its tables from 1."""
        array, number, *rest = loc
        fields = ARRAYS[array].model_fields
        where = ".".join((f"{array}[{int(number) + 1}]", *rest[:1]))
        source = self._source((array,))
        if not rest:
            return f"{where} ({source}): must be a table, [[{array}]]"
        if rest[0] not in fields:
            return f"{where} ({source}): {_nearest(rest[0], fields)}"
        allowed = next(entry for entry in fields[rest[0]].metadata if isinstance(entry, SettingKind)).allowed
        if details["type"] == "missing":
            return f"{where} ({source}): is missing; it must be {allowed}"
        wanted = details["msg"] if details["type"] == "rule" else f"must be {allowed}"
        return f"{where} = {json.dumps(to_plain(details['input']))} ({source}): {wanted}"

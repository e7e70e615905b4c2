"""The settings: what may be set, what is allowed, and where each value came from, but not what it is for."""

import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args, get_origin
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticCustomError

from gateway import docker_hub
from gateway.settings.kinds import (
    UPSTREAM_NAME_RULE,
    BindHost,
    ExternalUrl,
    GroupPath,
    Kind,
    LogFormat,
    MetricsAccess,
    OptionalPath,
    Port,
    RequiredPath,
    Switch,
    UpstreamName,
    Workers,
    wildcard_has_a_name,
)
from gateway.settings.tables import (
    CacheSettings,
    Listeners,
    ListenerSettings,
    Table,
    UpstreamSettings,
    VirtualHosts,
    VirtualHostSettings,
)
from gateway.settings.units import format_duration


class SettingsError(ValueError):
    """The configuration cannot be used; `problems` has one line for each thing that is wrong, and so has the text."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Settings(Table):
    """Every setting, checked. An empty text or None means not set; the upstream `docker.io` is always there."""

    host: BindHost = Field(default="127.0.0.1", description="The address to listen on.")
    port: Port = Field(default=8080, description="The port to listen on; 0 takes any free one.")
    data: RequiredPath = Field(default=Path("./registry-data"), description="The folder that holds all that is kept.")
    external_url: ExternalUrl = Field(default="", description="The URL clients use; empty: http://HOST:PORT as bound.")
    workers: Workers = Field(default=0, description="How many processes serve; 0: one per core.")
    allow_open_proxy: Switch = Field(default=False, description="Whether anonymous pull is served beyond loopback.")
    ns_group: GroupPath = Field(default="hub", description="The group that serves names with `?ns=`.")
    tls_cert: OptionalPath = Field(default=None, description="The certificate chain, in PEM, to serve HTTPS with.")
    tls_key: OptionalPath = Field(default=None, description="The private key of the certificate, in PEM.")
    zero_copy: Switch = Field(
        default=True, description="Send files from the page cache, where the connection allows it."
    )
    log_format: LogFormat = Field(default="console", description="Log lines for people (console) or machines (json).")
    metrics_access: MetricsAccess = Field(
        default="guarded", description="Who reads /-/metrics: whoever has the token (guarded), everybody, nobody."
    )
    metrics_token_file: OptionalPath = Field(
        default=None, description="The file with the bearer token for the metrics; without one loopback alone."
    )
    cache: CacheSettings = CacheSettings()
    upstreams: dict[UpstreamName, UpstreamSettings] = Field(default_factory=dict)
    listener: Listeners = Field(default=(), description="Further addresses, each for one group and upstream.")
    virtual_host: VirtualHosts = Field(default=(), description="Host names, each for one group and upstream.")

    _wildcard_has_a_name = field_validator("external_url")(wildcard_has_a_name)

    @field_validator("tls_key")
    @classmethod
    def _tls_is_whole(cls, tls_key: Path | None, info: ValidationInfo) -> Path | None:
        if "tls_cert" in info.data and bool(info.data["tls_cert"]) != bool(tls_key):
            raise PydanticCustomError("rule", "tls_cert and tls_key go together: set both or neither")
        return tls_key

    @field_validator("upstreams", mode="before")
    @classmethod
    def _with_docker_hub(cls, tables: Any) -> Any:
        if not isinstance(tables, Mapping):
            return tables
        hub = tables.get(docker_hub.NAME, {})
        hub = {**docker_hub.SETTINGS, **hub} if isinstance(hub, Mapping) else hub
        return {docker_hub.NAME: hub} | {**tables, docker_hub.NAME: hub}

    @field_validator("listener", "virtual_host")
    @classmethod
    def _upstream_is_there(
        cls, entries: tuple[ListenerSettings | VirtualHostSettings, ...], info: ValidationInfo
    ) -> tuple[ListenerSettings | VirtualHostSettings, ...]:
        configured = info.data.get("upstreams")
        for entry in entries:
            if configured is not None and entry.upstream not in configured:
                wanted = "upstream {name} is not configured: configured are {configured}"
                context = {"name": json.dumps(entry.upstream), "configured": ", ".join(sorted(configured))}
                raise PydanticCustomError("rule", wanted, context)
        return entries

    @field_validator("virtual_host")
    @classmethod
    def _names_are_their_own(
        cls, hosts: tuple[VirtualHostSettings, ...], info: ValidationInfo
    ) -> tuple[VirtualHostSettings, ...]:
        taken = {(urlsplit(info.data.get("external_url", "")).hostname or "").lower(): "is the host of external_url"}
        for host in hosts:
            if host.name in taken:
                raise PydanticCustomError("rule", "{name} " + taken[host.name], {"name": json.dumps(host.name)})
            taken[host.name] = "is there twice"
        return hosts


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """Settings, and for each dotted name where it came from: `default`, `file F`, `environment V` or `flag --f`."""

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
    """Merge flag over environment over file over default, and check the whole.

    `flags` maps names of settings to values, None meaning not given. Raises SettingsError with every problem found;
    a file that cannot be read as TOML is the only one reported then.
    """
    draft = _Draft()
    if config is not None:
        draft.read_table(_read_toml(config), f"file {config}")
    draft.read_environment(environ)
    draft.read_flags(flags)
    return draft.finish()


def rows(loaded: LoadedSettings) -> list[SettingRow]:
    """Every setting with its value and source: the plain ones, the cache, then upstream by upstream."""
    return [
        SettingRow(_dotted(key), _plain(_value(loaded.settings, key)), loaded.sources[_dotted(key)], _describe(key))
        for key in _keys(loaded.settings.upstreams)
    ]


def descriptions() -> dict[str, str]:
    """One sentence for each setting, by dotted name, with `NAME` for the name of an upstream."""
    inner = {f"{name}.{key}": field for name, model in _ENTRIES.items() for key, field in model.model_fields.items()}
    return {_dotted(key): _describe(key) for key in _FIELDS} | {n: f.description or "" for n, f in inner.items()}


def setting_names() -> list[str]:
    """The dotted name of every setting, with `NAME` for the name of an upstream: `upstreams.NAME.url`.

    An array of tables is one setting, and has one for each key of its tables beside it: `listener`, `listener.port`.
    """
    return list(descriptions())


# A key is the path to one setting; in _FIELDS the name of an upstream is NAME, which no upstream can have.
_Key = tuple[str, ...]
_NAME = "NAME"


def _walk(model: type[BaseModel], prefix: _Key = ()) -> Iterator[tuple[_Key, FieldInfo]]:
    for name, field in model.model_fields.items():
        inner: Any = field.annotation
        if get_origin(inner) is dict:
            yield from _walk(get_args(inner)[1], (*prefix, name, _NAME))
        elif isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _walk(inner, (*prefix, name))
        else:
            yield (*prefix, name), field


_FIELDS = dict(_walk(Settings))
_ENTRIES: dict[str, type[BaseModel]] = {"listener": ListenerSettings, "virtual_host": VirtualHostSettings}
_TABLES = {key[:depth] for key in _FIELDS for depth in range(1, len(key))}


def _keys(upstreams: Iterable[str]) -> list[_Key]:
    """The key of every setting, given the names of the upstreams."""
    plain = [key for key in _FIELDS if _NAME not in key]
    return plain + [(key[0], name, *key[2:]) for name in upstreams for key in _FIELDS if _NAME in key]


def _pattern(key: _Key) -> _Key:
    return (key[0], _NAME, *key[2:]) if len(key) > 1 and key[0] == "upstreams" else key


def _kind(key: _Key) -> Kind:
    return next(entry for entry in _FIELDS[_pattern(key)].metadata if isinstance(entry, Kind))


def _describe(key: _Key) -> str:
    return _FIELDS[_pattern(key)].description or ""


def _dotted(key: _Key) -> str:
    return ".".join(part if re.fullmatch(r"[\w-]+", part, re.ASCII) else json.dumps(part) for part in key)


def _variable(key: _Key) -> str:
    return "GATEWAY_" + "__".join(re.sub("[^A-Z0-9]", "_", part.upper()) for part in key)


def _value(settings: Settings, key: _Key) -> object:
    node: object = settings
    for part in key:
        node = node[part] if isinstance(node, dict) else getattr(node, part)
    return node


def _plain(value: object) -> object:
    """A JSON-able value as it would be written in the file, without the credential that a URL may carry."""
    match value:
        case None:
            return ""
        case bool() | int() | float():
            return value
        case list() | tuple():
            return [_plain(item) for item in value]
        case Table():
            return {name: _plain(item) for name, item in value if item is not None}
        case dict():
            return {str(name): _plain(item) for name, item in value.items()}
        case timedelta():
            return format_duration(value)
        case str():
            return re.sub(r"^\s*(?:(\w*:?//).*|[^/].*:.*)@", r"\1***@", value, flags=re.DOTALL)
        case _:
            return str(value)


def _problem(key: _Key, value: object, source: str, wanted: str) -> str:
    return f"{_dotted(key)} = {json.dumps(_plain(value))} ({source}): {wanted}"


def _keys_of_new_upstream(variable: str) -> list[_Key]:
    """The key that a variable gives to a new upstream, each `_` of its name a dot; none for any other variable."""
    match = re.fullmatch("GATEWAY_UPSTREAMS__(.+)__(.+)", variable)
    key = ("upstreams", match[1].lower().replace("_", "."), match[2].lower()) if match else ()
    return [key] if _pattern(key) in _FIELDS else []


def _nearest(name: str, candidates: Iterable[str]) -> str:
    return f"there is no such setting; the nearest is {get_close_matches(name, candidates, n=1, cutoff=0.0)[0]}"


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror}); give --config a TOML file") from error
    try:
        return tomllib.loads(content.decode())
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SettingsError(f"{path}, line {line}: not UTF-8, which TOML must be") from error
    except ValueError as error:
        at = re.search(r" \(at line ([0-9]+)", str(error))
        line = int(at[1]) if at else content.count(b"\n") + 1
        raise SettingsError(f"{path}, line {line}: not valid TOML: {error}") from error


@dataclass(frozen=True, slots=True)
class _Given:
    value: object
    source: str


class _Draft:
    """What was given so far, later over earlier, and what was wrong with it."""

    def __init__(self) -> None:
        self._given: dict[_Key, _Given] = {}
        self._problems: list[str] = []

    def read_table(self, table: Mapping[str, object], source: str, prefix: _Key = ()) -> None:
        for name, value in table.items():
            if isinstance(value, dict) and value and name not in (_ENTRIES if not prefix else ()):
                self.read_table(value, source, (*prefix, name))
            else:
                self._put((*prefix, name), value, source)

    def read_environment(self, environ: Mapping[str, str]) -> None:
        upstreams = dict.fromkeys([docker_hub.NAME, *(key[1] for key in self._given if key[0] == "upstreams")])
        known: dict[str, list[_Key]] = {}
        for key in _keys(upstreams):
            known.setdefault(_variable(key), []).append(key)
        for variable, text in environ.items():
            name = variable.upper()
            if not name.startswith("GATEWAY_"):
                continue
            source = f"environment {variable}"
            keys = known.get(name) or _keys_of_new_upstream(name)
            if not keys:
                self._problems.append(f"{variable} (environment): {_nearest(name, known)}")
            elif len(keys) > 1:
                self._problems.append(f"{variable} (environment): means any of {', '.join(map(_dotted, keys))}")
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
            table[key[-1]] = {} if _pattern(key) in _TABLES else given.value
        settings: Settings | None = None
        try:
            settings = Settings.model_validate(tables)
        except ValidationError as error:
            self._problems += dict.fromkeys(self._explain(details) for details in error.errors())
        else:
            self._problems += self._rules_of_strangers(settings)
        if self._problems or settings is None:
            raise SettingsError(*self._problems)
        return LoadedSettings(settings, {_dotted(key): self._source(key) for key in _keys(settings.upstreams)})

    def _rules_of_strangers(self, settings: Settings) -> list[str]:
        key = ("cache", "rules")
        return [
            _problem(key, [rule], self._source(key), f"there is no upstream {rule.upstream}: add it or correct this")
            for rule in settings.cache.rules
            if rule.upstream is not None and rule.upstream not in settings.upstreams
        ]

    def _source(self, key: _Key) -> str:
        return self._given[key].source if key in self._given else "default"

    def _put_text(self, key: _Key, text: str, source: str) -> None:
        try:
            value = _kind(key).parse(text) if _pattern(key) in _FIELDS else text
        except ValueError:
            self._problems.append(_problem(key, text, source, f"must be {_kind(key).allowed}"))
        else:
            self._put(key, value, source)

    def _put(self, key: _Key, value: object, source: str) -> None:
        pattern = _pattern(key)
        if pattern in _TABLES and value != {}:
            self._problems.append(_problem(key, value, source, f"must be a table, [{_dotted(key)}]"))
            return
        if pattern not in _FIELDS and pattern not in _TABLES:
            # The value stays unsaid: it may be a secret under a name that does not exist.
            candidates = map(_dotted, _keys([".".join(key[1:-1]) or _NAME]))
            self._problems.append(f"{_dotted(key)} ({source}): {_nearest(_dotted(key), candidates)}")
            return
        if pattern in _FIELDS:
            self._given[key] = _Given(value, source)
        if _NAME in pattern:
            self._given.setdefault(key[:2], _Given({}, source))

    def _explain(self, details: ErrorDetails) -> str:
        loc = tuple(map(str, details["loc"]))
        if loc[0] in _ENTRIES and len(loc) > 1:
            return self._explain_entry(loc, details)
        if loc[-1] == "[key]":
            return f"{_dotted(loc[:2])} ({self._source(loc[:2])}): {UPSTREAM_NAME_RULE}"
        key = next(loc[:depth] for depth in range(1, len(loc) + 1) if _pattern(loc[:depth]) in _FIELDS)
        if details["type"] == "missing" and loc == key:
            return f"{_dotted(key)} ({self._source(key[:2])}): is missing; it must be {_kind(key).allowed}"
        value = self._given[key].value if key in self._given else details["input"]
        wanted = details["msg"] if details["type"] == "rule" else f"must be {_kind(key).allowed}"
        return _problem(key, value, self._source(key), wanted)

    def _explain_entry(self, loc: _Key, details: ErrorDetails) -> str:
        """What is wrong inside an array of tables, which counts its tables from 1."""
        array, number, *rest = loc
        fields = _ENTRIES[array].model_fields
        where = ".".join((f"{array}[{int(number) + 1}]", *rest[:1]))
        source = self._source((array,))
        if not rest:
            return f"{where} ({source}): must be a table, [[{array}]]"
        if rest[0] not in fields:
            return f"{where} ({source}): {_nearest(rest[0], fields)}"
        allowed = next(entry for entry in fields[rest[0]].metadata if isinstance(entry, Kind)).allowed
        if details["type"] == "missing":
            return f"{where} ({source}): is missing; it must be {allowed}"
        wanted = details["msg"] if details["type"] == "rule" else f"must be {allowed}"
        return f"{where} = {json.dumps(_plain(details['input']))} ({source}): {wanted}"

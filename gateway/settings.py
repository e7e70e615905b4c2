"""The settings: what may be set, what is allowed, and where each value came from, but not what it is for."""

import json
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from difflib import get_close_matches
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    InstanceOf,
    Strict,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticCustomError

from gateway.durations import format_duration, parse_duration
from gateway.sizes import Size, parse_rate, parse_size

DOCKER_HUB = "docker.io"
_BUILT_IN = {"url": "https://registry-1.docker.io", "token_hosts": ("auth.docker.io",)}

_HOST = r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?"
_AUTHORITY = re.compile(rf"(?:{_HOST}|\[[0-9a-f:.]+\])(?::([0-9]{{1,5}}))?")
_URL = re.compile(r"(https?)://([^/@\s]+@)?([^/@\s]+)((?:/[\w.~%-]+)*)/?", re.ASCII | re.IGNORECASE)


class SettingsError(ValueError):
    """The configuration cannot be used; `problems` has one line for each thing that is wrong, and so has the text."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Kind:
    """How a setting is written: what is allowed, in words, and how the text of a variable becomes a value."""

    allowed: str
    parse: Callable[[str], object] = str


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError("not true or false")
    return text.lower() == "true"


def _is_wildcard(host: str) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_unspecified


def _bind_host(text: str) -> str:
    try:
        ip_address(text)
    except ValueError:
        # The resolver reads "0" and "0x0" as 0.0.0.0: what ends in a number is an address or nothing.
        if not re.fullmatch(_HOST, text, re.IGNORECASE) or re.search(r"(?:^|\.)(?:[0-9]+|0[xX][0-9a-fA-F]*)$", text):
            raise
    return text


def _authority(text: str) -> str:
    match = _AUTHORITY.fullmatch(text.lower())
    if match is None or int(match[1] or 0) > 65535:
        raise ValueError("not a host or host:port")
    return text.lower()


def _host_name(text: str) -> str:
    if not re.fullmatch(_HOST, text.lower()):
        raise ValueError("not a host name")
    return text.lower()


def _url(text: str, *, user: bool = False, path: bool = False) -> str:
    match = _URL.fullmatch(text)
    if match is None or (match[2] and not user) or (match[4] and not path):
        raise ValueError("not such a URL")
    return f"{match[1].lower()}://{match[2] or ''}{_authority(match[3])}{match[4]}"


def _wildcard_has_a_name(external_url: str, info: ValidationInfo) -> str:
    host = info.data.get("host", "")
    if not external_url and _is_wildcard(host):
        wanted = "must be the URL that clients use, because host = {host} is every address; or bind one address"
        raise PydanticCustomError("rule", wanted, {"host": host})
    return external_url


_LABEL = "[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_UPSTREAM_NAME = "the name of an upstream must be a lower-case host name with a dot, or localhost, without a port"
_none_if_empty = BeforeValidator(lambda value: None if value == "" else value)
_duration = BeforeValidator(lambda value: parse_duration(value) if isinstance(value, str) else value)
_size = BeforeValidator(lambda value: parse_size(value) if isinstance(value, str) else value)
_rate_size = BeforeValidator(lambda value: parse_rate(value) if isinstance(value, str) else value)
_external = AfterValidator(lambda text: text and _url(text, path=True))
_proxy = AfterValidator(lambda text: text and _url(text, user=True))

UpstreamName = Annotated[str, Field(max_length=253, pattern=rf"^(?:localhost|{_LABEL}(?:\.{_LABEL})+)$")]
Group = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.-]*)*$")]
GroupPath = Annotated[Group, Kind('the path of a group like "hub"')]
Glob = Annotated[str, Field(pattern=r"^(?:[a-z0-9._*?-]|\[!?[a-z0-9._-]+\])(?:[a-z0-9._/*?-]|\[!?[a-z0-9._-]+\])*$")]

Text = Annotated[str, Kind("a text")]
Switch = Annotated[bool, Strict(), Kind("true or false", _boolean)]
Port = Annotated[int, Strict(), Field(ge=0, le=65535), Kind("a whole number from 0 to 65535 (0: any free port)", int)]
Workers = Annotated[int, Strict(), Field(ge=0, le=256), Kind("a whole number from 0 to 256 (0: one per core)", int)]
Duration = Annotated[
    timedelta, Strict(), _duration, Kind("one number with one unit, 30s 5m 12h 30d, of at most 36500d")
]
SizeOrShare = Annotated[
    InstanceOf[Size], _size, Kind("one whole number with one unit, 64KiB 500MiB 10GiB 1TiB, or 80% of the file system")
]
Rate = Annotated[InstanceOf[Size], _rate_size, Kind("one whole number with one unit, 64KiB 500MiB 10GiB, or 0")]
MetricsAccess = Annotated[Literal["guarded", "open", "off"], Kind("guarded, open or off")]
TagGlob = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9._*?\[\]!-]+$")]
LogFormat = Annotated[Literal["console", "json"], Kind("console or json")]
BindHost = Annotated[str, AfterValidator(_bind_host), Kind("an IP address or a host name, without a port")]
RequiredPath = Annotated[Path, _none_if_empty, Kind("a path")]
OptionalPath = Annotated[Path | None, _none_if_empty, Kind("a path, or empty")]
Origin = Annotated[
    str, AfterValidator(_url), Kind("an http(s) URL like https://registry.example.com, with no user, path or query")
]
ExternalUrl = Annotated[
    str, _external, Kind("empty, or an http(s) URL like https://registry.example.com, with no user or query")
]
ProxyUrl = Annotated[
    str, _proxy, Kind("empty, or an http(s) URL like http://proxy.example.com:3128, with no path or query")
]
Urls = Annotated[
    tuple[Annotated[str, AfterValidator(_url)], ...],
    Kind('a list of http(s) URLs like ["https://mirror.example.com"], with no user, path or query', json.loads),
]
Hosts = Annotated[
    tuple[Annotated[str, AfterValidator(_authority)], ...],
    Kind('a list of host or host:port like ["auth.example.com"]', json.loads),
]
HostName = Annotated[str, AfterValidator(_host_name), Kind('a host name like "docker.example.com", without a port')]
KnownUpstream = Annotated[str, Kind('the name of a configured upstream like "docker.io"')]
Groups = Annotated[tuple[Group, ...], Kind('a list of group paths like ["hub", "team/images"]', json.loads)]
Globs = Annotated[
    tuple[Glob, ...], Kind('a list of globs on lower-case image names without tag like ["library/*"]', json.loads)
]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class TagRuleSettings(_Table):
    """How long tags that match are fresh. What is not said is as in `cache`."""

    tags: TagGlob
    ttl: Duration | None = None
    images: Glob = "*"
    upstream: UpstreamName | None = None
    fresh_only: Switch = False


Rules = Annotated[
    tuple[TagRuleSettings, ...],
    Kind(
        'tables like [[cache.rules]] tags = "v*", ttl = "1d", with tags and any of ttl, images, upstream, fresh_only',
        json.loads,
    ),
]


class UpstreamSettings(_Table):
    """One registry behind the gateway; an empty text or None means not set."""

    url: Origin = Field(description="Where the upstream answers.")
    token_hosts: Hosts = Field(default=(), description="Where its token service may be, beside its own host.")
    private_addresses: Switch = Field(default=False, description="Whether it may lie on loopback or a private network.")
    username: Text = Field(default="", description="The user name of the credential for this upstream.")
    password_file: OptionalPath = Field(default=None, description="The file with the password of the credential.")
    groups: Groups = Field(default=(), description="Groups that use the credential; empty: all that ask for a login.")
    ca_file: OptionalPath = Field(default=None, description="PEM certificates of the authorities that vouch for it.")
    proxy: ProxyUrl = Field(default="", description="The outbound HTTP proxy on the way to it.", repr=False)
    allow: Globs = Field(default=("*",), description="Globs on the names of images that may be pulled, without tag.")
    deny: Globs = Field(default=(), description="Globs on the names of images that may not be pulled; deny wins.")
    mirrors: Urls = Field(default=(), description="Other registries that may serve the same content to anybody.")

    @field_validator("password_file")
    @classmethod
    def _credential_is_whole(cls, password_file: Path | None, info: ValidationInfo) -> Path | None:
        if "username" in info.data and bool(info.data["username"]) != bool(password_file):
            raise PydanticCustomError("rule", "username and password_file go together: set both or neither")
        return password_file


class CacheSettings(_Table):
    """How long what was pulled is good for, and how much of it is kept."""

    ttl: Duration = Field(default=timedelta(seconds=60), description="How long a tag is fresh after it was checked.")
    grace: Duration = Field(default=timedelta(days=30), description="How long a tag may be served stale in an outage.")
    negative_ttl: Duration = Field(
        default=timedelta(seconds=10), description="How long an upstream is believed that it has no such manifest."
    )
    prefetch: Switch = Field(default=True, description="Fetch config and layers as soon as a manifest was fetched.")
    rules: Rules = Field(default=(), description="Other times for tags that match; the first that matches counts.")
    max_size: SizeOrShare = Field(
        default=Size(80, percent=True), description="How much is kept at most; a share is that of the file system."
    )
    reserve: SizeOrShare = Field(
        default=Size(5, percent=True), description="How much of the file system is left free, whatever fills it."
    )
    max_unused: Duration = Field(
        default=timedelta(0), description="What nobody has pulled for so long is dropped; 0s keeps it."
    )
    scrub_rate: Rate = Field(
        default=Size(4 << 20), description="Bytes a second that are read to find damage in what is kept; 0 never looks."
    )


class ListenerSettings(_Table):
    """A further address to listen on, whose every name is an image of one upstream, pulled through one group."""

    host: BindHost = Field(default="127.0.0.1", description="The address to listen on.")
    port: Port = Field(description="The port to listen on; 0 takes any free one.")
    group: GroupPath = Field(default="hub", description="The group that every name there is pulled through.")
    upstream: KnownUpstream = Field(default=DOCKER_HUB, description="The upstream that every name there belongs to.")
    external_url: ExternalUrl = Field(default="", description="The URL clients use; empty: http://HOST:PORT as bound.")

    _wildcard_has_a_name = field_validator("external_url")(_wildcard_has_a_name)


class VirtualHostSettings(_Table):
    """The same by host name, on the main port."""

    name: HostName = Field(description="The host name that clients use.")
    group: GroupPath = Field(default="hub", description="The group that every name there is pulled through.")
    upstream: KnownUpstream = Field(default=DOCKER_HUB, description="The upstream that every name there belongs to.")


Listeners = Annotated[
    tuple[ListenerSettings, ...], Kind("an array of tables, [[listener]], each with a port", json.loads)
]
VirtualHosts = Annotated[
    tuple[VirtualHostSettings, ...], Kind("an array of tables, [[virtual_host]], each with a name", json.loads)
]


class Settings(_Table):
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

    _wildcard_has_a_name = field_validator("external_url")(_wildcard_has_a_name)

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
        hub = tables.get(DOCKER_HUB, {})
        hub = {**_BUILT_IN, **hub} if isinstance(hub, Mapping) else hub
        return {DOCKER_HUB: hub} | {**tables, DOCKER_HUB: hub}

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
        case _Table():
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
        upstreams = dict.fromkeys([DOCKER_HUB, *(key[1] for key in self._given if key[0] == "upstreams")])
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
            return f"{_dotted(loc[:2])} ({self._source(loc[:2])}): {_UPSTREAM_NAME}"
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

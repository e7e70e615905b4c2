"""Kinds of values of settings: which values each allows, in words and in code."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, InstanceOf, Strict, ValidationInfo
from pydantic_core import PydanticCustomError

from cache.oci.errors import NameInvalid
from cache.oci.names import RepositoryName
from cache.policy.gate import IMAGE_GLOB
from gateway import upstream_names
from gateway.fixed_headers import check_headers
from gateway.settings.units import Size, parse_duration, parse_rate, parse_size

_HOST = r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?"
_AUTHORITY = re.compile(rf"(?:{_HOST}|\[[0-9a-f:.]+\])(?::([0-9]{{1,5}}))?")
_URL = re.compile(r"(https?)://([^/@\s]+@)?([^/@\s]+)((?:/[\w.~%-]+)*)/?", re.ASCII | re.IGNORECASE)
_DATABASE_URL = re.compile(r"postgresql://[\w.~%+-]+@[\w.~%:\[\]-]+/[\w.~%+-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class SettingKind:
    """A kind of value: the allowed values in words, and the parser of an environment variable's text."""

    allowed: str
    parse: Callable[[str], object] = str


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError("not true or false")
    return text.lower() == "true"


def is_wildcard(host: str) -> bool:
    """Whether a host is every address."""
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


def _issuer_url(text: str) -> str:
    """The URL of an issuer, in which every character counts (OpenID Connect Core 1.0, 3.1.3.7)."""
    _url(text, path=True)
    if not text.startswith("https://"):
        raise ValueError("not https")
    return text


def _database_url(text: str) -> str:
    """A URL of a PostgreSQL database, without a password; the host of a Unix socket is its folder, with %2F for /."""
    if _DATABASE_URL.fullmatch(text) is None:
        raise ValueError("not such a URL")
    host = text.partition("@")[2].partition("/")[0]
    if host[:3].upper() != "%2F":
        _authority(host)
    return text


def _registry_url(text: str) -> str:
    """A URL whose path, if any, may stand before a repository name: no registry and no proxy reads it in another way.

    `/v2` is no such path: it is what clients put before every name.
    """
    url = _url(text, path=True)
    if path := urlsplit(url).path.removeprefix("/"):
        try:
            components = RepositoryName.parse(path).components
        except NameInvalid as error:
            raise ValueError(error.detail) from error
        if components[0] == "v2":
            raise ValueError("the path holds /v2")
    return url


def _headers(headers: dict[str, str]) -> dict[str, str]:
    check_headers(headers)
    return headers


def wildcard_has_a_name(external_url: str, info: ValidationInfo) -> str:
    """Require an external URL if the host is every address. Raises PydanticCustomError."""
    host = info.data.get("host", "")
    if not external_url and is_wildcard(host):
        wanted = "must be the URL that clients use, because host = {host} is every address; or bind one address"
        raise PydanticCustomError("rule", wanted, {"host": host})
    return external_url


_none_if_empty = BeforeValidator(lambda value: None if value == "" else value)
_duration = BeforeValidator(lambda value: parse_duration(value) if isinstance(value, str) else value)
_size = BeforeValidator(lambda value: parse_size(value) if isinstance(value, str) else value)
_rate_size = BeforeValidator(lambda value: parse_rate(value) if isinstance(value, str) else value)
_external = AfterValidator(lambda text: text and _url(text, path=True))
_proxy = AfterValidator(lambda text: text and _url(text, user=True))

UpstreamName = Annotated[str, Field(max_length=upstream_names.MAX_LENGTH, pattern=upstream_names.PATTERN)]
_GroupPath = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.-]*)*$")]
GroupPathText = Annotated[_GroupPath, SettingKind('the path of a group like "hub"')]
Glob = Annotated[str, Field(pattern=IMAGE_GLOB)]

Text = Annotated[str, SettingKind("a text")]
Switch = Annotated[bool, Strict(), SettingKind("true or false", _boolean)]
Port = Annotated[
    int, Strict(), Field(ge=0, le=65535), SettingKind("a whole number from 0 to 65535 (0: any free port)", int)
]
Workers = Annotated[
    int, Strict(), Field(ge=0, le=256), SettingKind("a whole number from 0 to 256 (0: one per core, at most 4)", int)
]
RequestCount = Annotated[
    int, Strict(), Field(ge=0, le=1_000_000), SettingKind("a whole number from 0 to 1000000 (0: any number)", int)
]
Duration = Annotated[
    timedelta, Strict(), _duration, SettingKind("one number with one unit, 30s 5m 12h 30d, of at most 36500d")
]
LoginDuration = Annotated[
    timedelta,
    Strict(),
    _duration,
    Field(ge=timedelta(minutes=1), le=timedelta(days=1)),
    SettingKind("one number with one unit, 30s 5m 12h, from 1m to 1d"),
]
RequiredText = Annotated[str, Field(min_length=1, max_length=1024), SettingKind("a text that is not empty")]
IssuerName = Annotated[str, Field(max_length=32, pattern=r"^[a-z0-9]+(?:-[a-z0-9]+)*$")]
RoleName = Literal["guest", "reporter", "developer", "maintainer", "owner"]
SizeOrShare = Annotated[
    InstanceOf[Size],
    _size,
    SettingKind("one whole number with one unit, 64KiB 500MiB 10GiB 1TiB, or 80% of the file system"),
]
ByteCount = Annotated[
    InstanceOf[Size], _rate_size, SettingKind("one whole number with one unit, 64KiB 500MiB 10GiB, or 0")
]
Rate = ByteCount
MetricsAccessName = Annotated[Literal["guarded", "open", "off"], SettingKind("guarded, open or off")]
TagGlob = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^(?:[A-Za-z0-9._*?-]|\[!?[A-Za-z0-9._-]+\])+$")]
LogFormatName = Annotated[Literal["console", "json"], SettingKind("console or json")]
BindHost = Annotated[str, AfterValidator(_bind_host), SettingKind("an IP address or a host name, without a port")]
RequiredPath = Annotated[Path, _none_if_empty, SettingKind("a path")]
OptionalPath = Annotated[Path | None, _none_if_empty, SettingKind("a path, or empty")]
UpstreamUrl = Annotated[
    str,
    AfterValidator(lambda text: text and _registry_url(text)),
    SettingKind(
        "empty, or an http(s) URL like https://registry.example.com, with no user or query; a path is what stands "
        "before its repository names, without /v2"
    ),
]
ExternalUrl = Annotated[
    str, _external, SettingKind("empty, or an http(s) URL like https://registry.example.com, with no user or query")
]
DatabaseUrl = Annotated[
    str,
    AfterValidator(lambda text: text and _database_url(text)),
    SettingKind(
        "empty, or a URL like postgresql://USER@HOST/NAME, with :PORT where it is not 5432, and without the password"
    ),
]
IssuerUrl = Annotated[
    str,
    AfterValidator(_issuer_url),
    SettingKind("an https URL like https://token.actions.githubusercontent.com, with no user or query"),
]
ProxyUrl = Annotated[
    str, _proxy, SettingKind("empty, or an http(s) URL like http://proxy.example.com:3128, with no path or query")
]
Urls = Annotated[
    tuple[Annotated[str, AfterValidator(_registry_url)], ...],
    SettingKind(
        'a list of http(s) URLs like ["https://mirror.example.com"], with no user or query; a path is what stands '
        "before its repository names, without /v2",
        json.loads,
    ),
]
Hosts = Annotated[
    tuple[Annotated[str, AfterValidator(_authority)], ...],
    SettingKind('a list of host or host:port like ["auth.example.com"]', json.loads),
]
HostPatterns = Annotated[
    tuple[
        Annotated[
            str, AfterValidator(lambda text: f"*.{_host_name(text[2:])}" if text[:2] == "*." else _authority(text))
        ],
        ...,
    ],
    SettingKind('a list of host, host:port or *.host like ["cdn.example.com", "*.pkg.dev"]', json.loads),
]
Networks = Annotated[
    tuple[Annotated[str, AfterValidator(lambda text: str(ip_network(text)))], ...],
    SettingKind('a list of networks or addresses like ["10.0.0.0/8", "192.0.2.7"]', json.loads),
]
CommandLine = Annotated[
    tuple[Annotated[str, Field(min_length=1, pattern=r"^[^\x00]*$")], ...],
    SettingKind('a list of a program and its arguments like ["aws", "ecr", "get-login-password"]', json.loads),
]
HeaderValues = Annotated[
    dict[str, str],
    AfterValidator(_headers),
    SettingKind(
        'a table like {"X-Api-Key" = "file:/etc/key"}: names of headers that the gateway does not send itself, with '
        "values in visible ASCII or file:PATH",
        json.loads,
    ),
]
HostName = Annotated[
    str, AfterValidator(_host_name), SettingKind('a host name like "docker.example.com", without a port')
]
KnownUpstream = Annotated[str, SettingKind('the name of a configured upstream like "docker.io"')]
Groups = Annotated[tuple[_GroupPath, ...], SettingKind('a list of group paths like ["hub", "team/images"]', json.loads)]
Globs = Annotated[
    tuple[Glob, ...],
    SettingKind('a list of globs on lower-case image names without tag like ["library/*"]', json.loads),
]

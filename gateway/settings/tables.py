"""Settings and their tables: an upstream, the cache, a rule for tags, a listener, a virtual host."""

import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from gateway import known_registries
from gateway.settings.kinds import (
    BindHost,
    ByteCount,
    CommandLine,
    DatabaseUrl,
    Duration,
    ExternalUrl,
    Glob,
    Globs,
    GroupPathText,
    Groups,
    HeaderValues,
    HostName,
    HostPatterns,
    Hosts,
    IssuerName,
    IssuerUrl,
    KnownUpstream,
    LogFormatName,
    LoginDuration,
    MetricsAccessName,
    Networks,
    OptionalPath,
    Port,
    ProxyUrl,
    Rate,
    RequestCount,
    RequiredPath,
    RequiredText,
    RoleName,
    SettingKind,
    SizeOrShare,
    Switch,
    TagGlob,
    Text,
    UpstreamName,
    UpstreamUrl,
    Urls,
    Workers,
    is_wildcard,
    wildcard_has_a_name,
)
from gateway.settings.units import Size


class Table(BaseModel):
    """A frozen table of settings; an unknown name is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class TagRuleSettings(Table):
    """Rule for the freshness of matching tags. An omitted ttl is that of `cache`."""

    tags: TagGlob
    ttl: Duration | None = None
    images: Glob = "*"
    upstream: UpstreamName | None = None
    fresh_only: Switch = False


Rules = Annotated[
    tuple[TagRuleSettings, ...],
    SettingKind(
        'tables like [[cache.rules]] tags = "v*", ttl = "1d", with tags and any of ttl, images, upstream, fresh_only',
        json.loads,
    ),
]


class UpstreamSettings(Table):
    """One registry behind the gateway; an empty text or None means not set."""

    url: UpstreamUrl = Field(
        default="", description="URL of the upstream registry; empty: https://NAME. A path stands before its names."
    )
    token_hosts: Hosts = Field(default=(), description="Hosts of its token service, besides its own host.")
    private_addresses: Switch = Field(default=False, description="Whether it may be on loopback or a private network.")
    username: Text = Field(default="", description="The user name of the credential for this upstream.")
    password_command: CommandLine = Field(
        default=(), description="The command that prints the password, instead of a file; run without a shell."
    )
    password_file: OptionalPath = Field(default=None, description="The file with the password of the credential.")
    groups: Groups = Field(default=(), description="Groups that use the credential; empty: all that require a login.")
    ca_file: OptionalPath = Field(default=None, description="PEM certificates to trust for it; empty: the system's.")
    proxy: ProxyUrl = Field(default="", description="The outbound HTTP proxy for requests to it.", repr=False)
    allow: Globs = Field(default=("*",), description="Globs on the names of images that may be pulled, without tag.")
    deny: Globs = Field(default=(), description="Globs on the names of images that may not be pulled; deny wins.")
    redirect_hosts: HostPatterns = Field(
        default=(),
        description="Hosts to which it redirects, whose word on content counts; they never see a credential.",
    )
    client_cert: OptionalPath = Field(default=None, description="The certificate, in PEM, to show to the upstream.")
    client_key: OptionalPath = Field(default=None, description="The private key of the certificate, in PEM.")
    headers: HeaderValues = Field(
        default={}, description="Fixed headers for the upstream; a value file:PATH is read from there.", repr=False
    )
    mirrors: Urls = Field(default=(), description="Other registries that may serve the same content to anybody.")

    @field_validator("password_file")
    @classmethod
    def _credential_is_whole(cls, password_file: Path | None, info: ValidationInfo) -> Path | None:
        command = info.data.get("password_command", ())
        if password_file and command:
            raise PydanticCustomError("rule", "password_command stands for password_file: set one of them")
        if "username" in info.data and bool(info.data["username"]) != bool(password_file or command):
            wanted = "username and password_file go together: set both or neither"
            raise PydanticCustomError("rule", f"{wanted}; password_command may stand for the file")
        return password_file

    @field_validator("client_key")
    @classmethod
    def _certificate_is_whole(cls, client_key: Path | None, info: ValidationInfo) -> Path | None:
        if "client_cert" in info.data and bool(info.data["client_cert"]) != bool(client_key):
            raise PydanticCustomError("rule", "client_cert and client_key go together: set both or neither")
        if client_key and not info.data.get("url", "https").startswith("https"):
            raise PydanticCustomError("rule", "a client certificate needs a url with https")
        return client_key


class CacheSettings(Table):
    """Settings of the cache: how long tags are fresh, and how much content is kept."""

    ttl: Duration = Field(default=timedelta(seconds=60), description="How long a tag is fresh after it was checked.")
    grace: Duration = Field(default=timedelta(days=30), description="How long a tag may be served stale in an outage.")
    negative_ttl: Duration = Field(
        default=timedelta(seconds=10),
        description="How long it is cached that a manifest does not exist upstream.",
    )
    prefetch: Switch = Field(default=True, description="Fetch config and layers as soon as a manifest was fetched.")
    rules: Rules = Field(default=(), description="Other ttls for matching tags; the first rule that matches counts.")
    max_size: SizeOrShare = Field(
        default=Size(80, percent=True),
        description="The maximum size of the cache; a percentage: of the file system.",
    )
    reserve: SizeOrShare = Field(
        default=Size(5, percent=True), description="How much of the file system is kept free, whatever fills it."
    )
    max_unused: Duration = Field(
        default=timedelta(0), description="Evict content that was not pulled for this long; 0s: never."
    )
    scrub_rate: Rate = Field(
        default=Size(4 << 20), description="Cached bytes per second that are read to find damage; 0: none."
    )


class DatabaseSettings(Table):
    """Settings of the database with groups, users and projects."""

    url: DatabaseUrl = Field(
        default="",
        description="The PostgreSQL database, postgresql://USER@HOST/NAME; empty: SQLite in the data folder.",
    )
    password_file: OptionalPath = Field(default=None, description="The file with the password of its user.")

    @field_validator("password_file")
    @classmethod
    def _password_is_of_a_user(cls, password_file: Path | None, info: ValidationInfo) -> Path | None:
        if password_file and not info.data.get("url", "-"):
            raise PydanticCustomError("rule", "password_file needs the url of a database: set both or neither")
        return password_file


class NativeSettings(Table):
    """Settings of the registry of our own, which stores what is pushed to projects."""

    create_on_push: Switch = Field(
        default=False, description="Whether developers create a project by pushing below a group of theirs."
    )
    max_blob: ByteCount = Field(default=Size(100 << 30), description="The largest blob that may be pushed; 0: any.")


class CollectionSettings(Table):
    """Settings of garbage collection: what becomes of pushed content that nothing needs any more."""

    delay: Duration = Field(
        default=timedelta(days=1), description="How long pushed content stays that no tag and no image needs."
    )
    interval: Duration = Field(default=timedelta(seconds=5), description="How often such content is looked for.")

    @field_validator("delay", "interval")
    @classmethod
    def _time_passes(cls, time: timedelta) -> timedelta:
        if time < timedelta(seconds=1):
            raise ValueError("must be at least 1s")
        return time


class AuditSettings(Table):
    """Settings of the audit log: how long it keeps who pulled, pushed and deleted what."""

    keep: Duration = Field(
        default=timedelta(days=90), description="How long events stay in the audit log; 0s: none are recorded."
    )
    max_size: SizeOrShare = Field(
        default=Size(1 << 30),
        description="The maximum size of the audit log; beyond it, its oldest events go.",
    )


class ApiSettings(Table):
    """Settings of the REST API: how many requests it takes."""

    rate_limit: RequestCount = Field(
        default=6000, description="Requests a minute to the REST API of each user or token; 0: any number."
    )
    anonymous_rate_limit: RequestCount = Field(
        default=1200, description="Requests a minute to the REST API of each address without a token; 0: any number."
    )


class WebhookSettings(Table):
    """Settings of webhooks: which receivers may be on a private network."""

    private_hosts: HostPatterns = Field(
        default=(),
        description="Hosts of webhooks that may be on loopback or a private network: NAME, NAME:PORT, *.NAME.",
    )
    ca_file: OptionalPath = Field(
        default=None, description="PEM certificates to trust for webhooks; empty: the system's."
    )


class NameSettings(Table):
    """Settings of names: how long what has moved keeps its old ones."""

    old_paths: Duration = Field(
        default=timedelta(days=90),
        description="How long the old path of what has moved leads to it, and stays reserved; 0s: not at all.",
    )


class ListenerSettings(Table):
    """An additional address, at which every name is an image of one upstream, pulled through one group."""

    host: BindHost = Field(default="127.0.0.1", description="The address to listen on.")
    port: Port = Field(description="The port to listen on; 0 takes any free one.")
    group: GroupPathText = Field(default="hub", description="The group that every name there is pulled through.")
    upstream: KnownUpstream = Field(
        default=known_registries.DOCKER_HUB, description="The upstream that every name there belongs to."
    )
    external_url: ExternalUrl = Field(default="", description="The URL clients use; empty: http://HOST:PORT as bound.")

    _wildcard_has_a_name = field_validator("external_url")(wildcard_has_a_name)


class VirtualRegistrySettings(Table):
    """What virtual registries may pull from, whose upstreams people name."""

    private_hosts: Hosts = Field(
        default=(), description="Hosts where their upstreams may have private addresses, and URLs of http."
    )


class VirtualHostSettings(Table):
    """A host name on the main port, under which every name is an image of one upstream, pulled through one group."""

    name: HostName = Field(description="The host name that clients use.")
    group: GroupPathText = Field(default="hub", description="The group that every name there is pulled through.")
    upstream: KnownUpstream = Field(
        default=known_registries.DOCKER_HUB, description="The upstream that every name there belongs to."
    )


def _with_known(name: str, table: Mapping[str, Any]) -> dict[str, Any]:
    """Complete the table of an upstream by what is known of the registry with its name."""
    known = known_registries.find_registry(name)
    defaults: dict[str, Any] = {"url": known_registries.default_url(name)}
    if known:
        defaults |= {"token_hosts": known.token_hosts, "redirect_hosts": known.redirect_hosts}
    return {**defaults, **{key: value for key, value in table.items() if (key, value) != ("url", "")}}


class ClaimRuleSettings(Table):
    """Claims of ID tokens, and the user, or the project or group with a role there, that they map to; or `account`:
    whoever has them signs in to the pages, with an account of their own."""

    claims: dict[Annotated[str, Field(min_length=1)], Annotated[str, Field(min_length=1)]]
    user: str = ""
    project: str = ""
    group: str = ""
    role: RoleName | None = None
    account: bool = False

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        places = [place for place in (self.project, self.group) if place]
        if not any(pattern.strip("*") for pattern in self.claims.values()):
            raise PydanticCustomError("rule", "a rule needs a claim that says more than *")
        if len(places) + bool(self.user) + self.account != 1 or bool(places) != (self.role is not None):
            raise PydanticCustomError(
                "rule", "a rule has a user, or a project with a role, or a group with a role, or account = true"
            )
        return self


ClaimRules = Annotated[
    tuple[ClaimRuleSettings, ...],
    SettingKind(
        'tables like [[oidc.NAME.rule]] claims = {repository = "acme/app"}, project = "team/app", role = "developer", '
        "each with claims of which one says more than *, and either a user, or a project or a group with a role, or "
        "account = true",
        json.loads,
    ),
]


class OidcSettings(Table):
    """An issuer of ID tokens, by which CI systems log in without a password, and people sign in to the pages."""

    issuer: IssuerUrl = Field(description="The URL of the issuer, exactly as its tokens name it in `iss`.")
    audience: RequiredText = Field(description="What a token must be made for, its `aud`: a name of this server.")
    rule: ClaimRules = Field(
        default=(), description="Claims and what they map to, the first that matches; without one, nothing."
    )
    client_id: str = Field(
        default="",
        description="This server's name at the issuer, by which people sign in to the pages; empty: none do.",
    )
    client_secret_file: OptionalPath = Field(
        default=None, description="The file with the secret of client_id; empty: the issuer needs none."
    )
    login: LoginDuration = Field(
        default=timedelta(hours=1), description="How long a login lasts, also when the token has expired meanwhile."
    )
    max_age: LoginDuration = Field(
        default=timedelta(days=1), description="How long ago a token that logs in may have been issued."
    )
    ca_file: OptionalPath = Field(default=None, description="PEM certificates to trust for it; empty: the system's.")
    private_addresses: Switch = Field(default=False, description="Whether it may be on loopback or a private network.")
    proxy: ProxyUrl = Field(default="", description="The outbound HTTP proxy for requests to it.", repr=False)
    hosts: HostPatterns = Field(
        default=(), description="Other hosts where it has its keys, which a proxy is to be asked for."
    )


Listeners = Annotated[
    tuple[ListenerSettings, ...], SettingKind("an array of tables, [[listener]], each with a port", json.loads)
]
VirtualHosts = Annotated[
    tuple[VirtualHostSettings, ...], SettingKind("an array of tables, [[virtual_host]], each with a name", json.loads)
]


class Settings(Table):
    """Every setting, checked. An empty text or None means not set; the upstream `docker.io` is always there."""

    host: BindHost = Field(default="127.0.0.1", description="The address to listen on.")
    port: Port = Field(default=8080, description="The port to listen on; 0 takes any free one.")
    data: RequiredPath = Field(default=Path("./registry-data"), description="The folder of databases, cache and keys.")
    external_url: ExternalUrl = Field(default="", description="The URL clients use; empty: http://HOST:PORT as bound.")
    registry_url: ExternalUrl = Field(
        default="", description="The registry's own URL where it differs from external_url; empty: it does not."
    )
    workers: Workers = Field(default=0, description="The number of processes that serve; 0: one per core, at most 4.")
    trusted_proxies: Networks = Field(
        default=(), description="Networks of reverse proxies whose X-Forwarded-For names the client, never for rights."
    )
    admin_password_file: OptionalPath = Field(
        default=None, description="The file with the password of the first administrator; empty: generate one."
    )
    insecure_login: Switch = Field(
        default=False, description="Whether people may sign in to the pages by http beyond loopback."
    )
    allow_open_proxy: Switch = Field(default=False, description="Whether anonymous pull is served beyond loopback.")
    ns_group: GroupPathText = Field(default="hub", description="The group that serves names with `?ns=`.")
    tls_cert: OptionalPath = Field(default=None, description="The certificate chain, in PEM, to serve HTTPS with.")
    tls_key: OptionalPath = Field(default=None, description="The private key of the certificate, in PEM.")
    zero_copy: Switch = Field(
        default=True, description="Send files from the page cache, where the connection allows it."
    )
    check_upstreams: Switch = Field(
        default=True, description="Send each upstream one small request at the start, and warn of those that fail it."
    )
    log_format: LogFormatName = Field(
        default="console", description="Log lines for people (console) or machines (json)."
    )
    metrics_access: MetricsAccessName = Field(
        default="guarded",
        description="Readers of /-/metrics: those with the token (guarded), everybody (open), nobody (off).",
    )
    metrics_token_file: OptionalPath = Field(
        default=None, description="The file with the bearer token for the metrics; empty: readable on loopback only."
    )
    cache: CacheSettings = CacheSettings()
    database: DatabaseSettings = DatabaseSettings()
    native: NativeSettings = NativeSettings()
    gc: CollectionSettings = CollectionSettings()
    audit: AuditSettings = AuditSettings()
    names: NameSettings = NameSettings()
    api: ApiSettings = ApiSettings()
    webhooks: WebhookSettings = WebhookSettings()
    virtual_registries: VirtualRegistrySettings = VirtualRegistrySettings()
    upstreams: dict[UpstreamName, UpstreamSettings] = Field(default_factory=dict)
    oidc: dict[IssuerName, OidcSettings] = Field(default_factory=dict)
    listener: Listeners = Field(default=(), description="Additional addresses, each for one group and upstream.")
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
    def _with_defaults(cls, tables: Any) -> Any:
        if not isinstance(tables, Mapping):
            return tables
        whole = {known_registries.DOCKER_HUB: {}} | dict(tables)
        return {
            name: _with_known(name, table) if isinstance(table, Mapping) else table for name, table in whole.items()
        }

    @field_validator("oidc")
    @classmethod
    def _issuers_differ(cls, issuers: dict[str, OidcSettings]) -> dict[str, OidcSettings]:
        urls = [issuer.issuer for issuer in issuers.values()]
        if len(set(urls)) < len(urls):
            raise PydanticCustomError("rule", "two tables have the same issuer: give one of them all rules")
        return issuers

    @field_validator("listener", "virtual_host")
    @classmethod
    def _upstream_is_configured(
        cls, entries: tuple[ListenerSettings | VirtualHostSettings, ...], info: ValidationInfo
    ) -> tuple[ListenerSettings | VirtualHostSettings, ...]:
        configured = info.data.get("upstreams")
        for entry in entries:
            if configured is not None and entry.upstream not in configured:
                wanted = "upstream {name} is not configured: configured are {configured}"
                context = {"name": json.dumps(entry.upstream), "configured": ", ".join(sorted(configured))}
                raise PydanticCustomError("rule", wanted, context)
        return entries

    @field_validator("listener")
    @classmethod
    def _addresses_are_free(
        cls, listeners: tuple[ListenerSettings, ...], info: ValidationInfo
    ) -> tuple[ListenerSettings, ...]:
        taken = {(info.data.get("host"), info.data.get("port")): "that is the main address"}
        for listener in listeners:
            for (host, port), why in taken.items():
                overlap = host == listener.host or is_wildcard(listener.host) or is_wildcard(str(host))
                if port == listener.port != 0 and overlap:
                    wanted = "port {port} is taken: {why}; give the listener another one"
                    raise PydanticCustomError("rule", wanted, {"port": port, "why": why})
            taken[listener.host, listener.port] = "that is another listener"
        return listeners

    @field_validator("virtual_host")
    @classmethod
    def _names_are_unique(
        cls, hosts: tuple[VirtualHostSettings, ...], info: ValidationInfo
    ) -> tuple[VirtualHostSettings, ...]:
        taken = {
            (urlsplit(info.data.get(setting, "")).hostname or "").lower(): f"is the host of {setting}"
            for setting in ("registry_url", "external_url")
        }
        for host in hosts:
            if host.name in taken:
                raise PydanticCustomError("rule", "{name} " + taken[host.name], {"name": json.dumps(host.name)})
            taken[host.name] = "is listed twice"
        return hosts

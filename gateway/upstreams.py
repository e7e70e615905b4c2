"""Upstreams: clients of all configured upstreams, each with the credential that a group may use."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache, partial
from pathlib import Path

import structlog

from cache.oci.names import RepositoryName
from cache.upstream.allowance import Allowance, RequestKind, SavingMode, pause, saving_mode
from cache.upstream.circuit_breaker import CircuitBreakers
from cache.upstream.client import UpstreamClient
from cache.upstream.egress import UNWATCHED, Egress, Traffic
from cache.upstream.errors import Unavailable
from cache.upstream.ledger import Ledger
from cache.upstream.logins import Logins
from cache.upstream.mirrors import MirroredClient
from cache.upstream.quota import Quota
from cache.upstream.reach import Identity, Reach
from cache.upstream.registry_client import RegistryClient
from cache.upstream.tokens import Credential, Tokens
from cache.upstream.urls import registry_of
from cache.values import ANONYMOUS, CredentialId, Fault, Origin, Registry, Source
from gateway.keys.password_command import PasswordCommand
from gateway.keys.sealing import SealBroken, Sealer
from gateway.keys.shared_secret import SUFFIX, SharedSecret
from gateway.keys.upstream_login import open_login
from gateway.keys.upstream_secrets import password_version, read_headers, read_password
from gateway.known_registries import find_registry
from gateway.namespaces.group import Group
from gateway.namespaces.virtual_registry import LABEL

log = structlog.get_logger()

KEPT_RECENT = 10_000
"""How many pairs of group and upstream are remembered with their client."""

_UPSTREAM_FAULTS = (Fault.DIGEST, Fault.LENGTH, Fault.HTML, Fault.BROKEN)


@dataclass(frozen=True, slots=True)
class Upstream:
    """One configured upstream; `username` has a `password_file` or a `password_command`.

    `client_cert`, `client_key` and `headers` are the server's own account, as the user name is: only requests of the
    groups to which it is lent show them to the upstream.
    """

    name: str
    url: str
    token_hosts: frozenset[str] = frozenset()
    private_addresses: bool = False
    username: str = ""
    password_file: Path | None = None
    groups: frozenset[str] = frozenset()
    ca_file: Path | None = None
    proxy: str = ""
    allow: tuple[str, ...] = ("*",)
    deny: tuple[str, ...] = ()
    mirrors: tuple[str, ...] = ()
    redirect_hosts: frozenset[str] = frozenset()
    client_cert: Path | None = None
    client_key: Path | None = None
    headers: tuple[tuple[str, str], ...] = ()
    password_command: tuple[str, ...] = ()

    @property
    def account(self) -> str:
        """Name of the account that this server has at the upstream; empty for none."""
        return self.username or ("client certificate" if self.client_cert else "fixed headers" if self.headers else "")

    @property
    def account_id(self) -> CredentialId:
        """The credential of that account."""
        return CredentialId(self.account, upstream=self.name) if self.account else ANONYMOUS

    @property
    def has_identity(self) -> bool:
        """Whether requests can show more to the upstream than a password."""
        return bool(self.client_cert or self.headers)

    def permits(self, image: RepositoryName) -> bool:
        """Whether the globs permit an image name without tag; `*` also matches slashes, and deny wins."""
        return not _matches_any(image.text, self.deny) and _matches_any(image.text, self.allow)

    def lends_to(self, group: Group) -> bool:
        """Whether a group uses the configured credential: a listed group or, if none is listed, every group that
        requires a login. An open group must not show everybody the content that the server's own account may read."""
        if not self.account:
            return False
        if self.groups:
            return group.path in self.groups or not self.groups.isdisjoint(group.listed_as)
        return not group.anonymous_pull


@dataclass(frozen=True, slots=True)
class OpenAccount:
    """An account whose content everybody may pull, since a group with anonymous pull presents it to an upstream.

    `setting`: where the account is given to the group.
    """

    group: str
    upstream: str
    username: str
    setting: str

    @property
    def reason(self) -> str:
        return f"group {self.group} has anonymous pull: everybody may pull what account {self.username} may read"


def open_accounts(groups: Iterable[Group], configured: Iterable[Upstream]) -> list[OpenAccount]:
    """List the accounts that groups with anonymous pull present to the configured upstreams."""
    upstreams = list(configured)
    return [
        OpenAccount(group.path, upstream.name, username, setting)
        for group in groups
        if group.proxy_enabled and group.anonymous_pull
        for upstream in upstreams
        for username, setting in _account_of(group, upstream)
    ]


def _account_of(group: Group, upstream: Upstream) -> Iterator[tuple[str, str]]:
    """Yield the account that a group presents to an upstream, if there is one, and the setting that gives it."""
    if group.upstream_username is not None and group.default_upstream == upstream.name:
        yield group.upstream_username, f"upstream_username of group {group.path}"
    elif upstream.lends_to(group):
        yield upstream.account, f'groups of upstreams."{upstream.name}"'


@lru_cache(4096)
def _matches_any(name: str, globs: tuple[str, ...]) -> bool:
    """Whether a name matches one of the globs; remembered, since every pull needs it."""
    return any(fnmatchcase(name, glob) for glob in globs)


@dataclass(frozen=True, slots=True)
class UpstreamState:
    """State of an upstream. `limit` and `remaining` are None if the upstream never stated any."""

    name: str
    limit: int | None
    remaining: int | None
    pause: float
    waiting: int
    circuit_open: bool


class Upstreams:
    """Clients of the configured upstreams, made on first use and kept; the clients of one upstream share its egress."""

    def __init__(
        self,
        configured: Iterable[Upstream],
        sealer: Sealer,
        ledger: Ledger | None = None,
        traffic: Callable[[str], Traffic] = lambda name: UNWATCHED,
        secrets: Path | None = None,
        sender: str = "",
    ) -> None:
        """`ledger`: known limits of the sources; by default only this process knows them. `traffic` returns the
        receiver of traffic reports for an upstream's name. `secrets`: folder of what commands print, sealed, which
        processes share; by default each runs them itself. `sender`: see Egress."""
        self.ledger = ledger or Ledger()
        self._traffic = traffic
        self._configured = {upstream.name: upstream for upstream in configured}
        self._registries = {name: registry_of(upstream.url) for name, upstream in self._configured.items()}
        self._sealer = sealer
        self._secrets = secrets
        self._sender = sender
        self._egress: dict[str, Egress] = {}
        self._primaries: dict[tuple[str, CredentialId, str | None], RegistryClient] = {}
        self._clients: dict[tuple[str, CredentialId, str | None], UpstreamClient] = {}
        self._recent: dict[tuple[int, str], tuple[Group, UpstreamClient]] = {}

    @property
    def names(self) -> list[str]:
        return sorted(self._configured)

    def get(self, name: str) -> Upstream:
        return self._configured[name]

    def name_of(self, source: Source) -> str:
        """Configured name of a source's upstream: the first, if several have one registry; else the registry. Those of
        virtual registries have one name together."""
        if source.credential.virtual:
            return LABEL
        known = self._registries.items()
        return next((name for name, registry in known if registry == source.registry), str(source.registry))

    def source(self, group: Group, name: str) -> Source:
        """The source with which a group uses an upstream; content pulled with one credential is not shared with
        another."""
        upstream = self._configured[name]
        registry = self._registries[name]
        if group.upstream_username is not None and name == group.default_upstream:
            return Source.at(registry, CredentialId(group.upstream_username, group.id))
        lent = upstream.lends_to(group)
        return Source.at(registry, upstream.account_id if lent else ANONYMOUS)

    def open_accounts(self, groups: Iterable[Group]) -> list[OpenAccount]:
        """List the accounts that groups with anonymous pull present to these upstreams."""
        return open_accounts(groups, self._configured.values())

    def client(self, group: Group, name: str) -> UpstreamClient:
        """The client with which a group pulls from an upstream: with mirrors, where the upstream has any."""
        # A group is frozen and kept in memory between changes: while it is the same object, so is its client.
        recent = self._recent.get((group.id, name))
        if recent is not None and recent[0] is group:
            return recent[1]
        key = self._key(group, name)
        client = self._clients.get(key)
        if client is None:
            client = self._clients[key] = self._with_mirrors(self.primary(group, name), self._configured[name])
        if len(self._recent) >= KEPT_RECENT:
            self._recent.clear()
        self._recent[group.id, name] = group, client
        return client

    def primary(self, group: Group, name: str) -> RegistryClient:
        """The client of the upstream itself, with the credential that the group uses."""
        key = self._key(group, name)
        primary = self._primaries.get(key)
        if primary is None:
            source = self.source(group, name)
            primary = self._primaries[key] = self._make_primary(source, self._configured[name], group)
        return primary

    def _key(self, group: Group, name: str) -> tuple[str, CredentialId, str | None]:
        credential = self.source(group, name).credential
        return name, credential, group.upstream_password_sealed if credential.group_id is not None else None

    async def prepare(self) -> None:
        """Prepare connections, so that no pull is delayed by one-time work."""
        for name, upstream in self._configured.items():
            await self._egress_to(name, self._registries[name].origin, upstream).prepare()

    def content_verified(self, source: Source, image: RepositoryName) -> None:
        """Record that content of an image matched its digest."""
        for circuits in self._circuits_of(source.registry):
            circuits.note_valid_content(source.origin, source.registry.full_name(image))

    def content_invalid(self, source: Source, image: RepositoryName, fault: Fault, reason: str) -> None:
        """Record that content of an image was wrong. Faults that an image's author may have caused do not count
        against the upstream, and with mirrors neither do others: the content may have come from a mirror, and the next
        one is tried anyway."""
        mirrored = any(self._configured[name].mirrors for name in self._names_of(source.registry))
        if fault in _UPSTREAM_FAULTS and not mirrored:
            for circuits in self._circuits_of(source.registry):
                circuits.note_invalid_content(source.origin, source.registry.full_name(image), reason)

    def has_spare_quota(self, source: Source) -> bool:
        """Whether the source's limit leaves quota for content that no client waits for yet."""
        known, now = self.ledger.find(source), self.ledger.clock()
        return saving_mode(known, now) is SavingMode.NONE and not pause(known, RequestKind.PULL, False, now)

    def states(self, waiting: Mapping[Origin, int]) -> list[UpstreamState]:
        """Current state of each upstream over all its credentials: the least quota left, the longest pause. `waiting`:
        the number of waiting misses by origin."""
        known, now = self.ledger.all(), self.ledger.clock()
        return [
            _state(
                name,
                [allowance for source, allowance in known.items() if source.registry == registry],
                waiting.get(registry.origin, 0),
                any(circuits.is_open(registry.origin) for circuits in self._circuits_at(name)),
                now,
            )
            for name, registry in self._registries.items()
        ]

    def _names_of(self, registry: Registry) -> list[str]:
        return [name for name, own in self._registries.items() if own == registry]

    def _circuits_of(self, registry: Registry) -> list[CircuitBreakers]:
        return [circuits for name in self._names_of(registry) for circuits in self._circuits_at(name)]

    def _circuits_at(self, name: str) -> list[CircuitBreakers]:
        return [self._egress[key].circuits for key in (name, _identified(name)) if key in self._egress]

    async def close(self) -> None:
        for egress in self._egress.values():
            await egress.close()

    def _egress_to(self, key: str, origin: Origin, upstream: Upstream, identity: Identity | None = None) -> Egress:
        egress = self._egress.get(key)
        if egress is None:
            hosts = {f"{origin.host}:{origin.port}", origin.host, *upstream.token_hosts, *upstream.redirect_hosts}
            reach = Reach(
                frozenset(hosts), upstream.private_addresses, upstream.ca_file, upstream.proxy, identity=identity
            )
            egress = self._egress[key] = Egress(reach, traffic=self._traffic(upstream.name), sender=self._sender)
        return egress

    def _egress_for(self, group: Group, origin: Origin, upstream: Upstream) -> Egress:
        """The egress for a group's requests. Those that show an identity have one of their own: what the upstream
        refuses to strangers opens no circuit for them."""
        if not upstream.has_identity or not upstream.lends_to(group):
            return self._egress_to(upstream.name, origin, upstream)
        headers = partial(read_headers, upstream.name, upstream.headers)
        identity = Identity(origin, upstream.client_cert, upstream.client_key, headers)
        return self._egress_to(_identified(upstream.name), origin, upstream, identity)

    def _with_mirrors(self, primary: RegistryClient, upstream: Upstream) -> UpstreamClient:
        """Add the mirrors to an anonymous client: they could not prove a right that a credential has."""
        if not primary.source.credential.is_anonymous or not upstream.mirrors:
            return primary
        return MirroredClient(primary, [self._make_mirror(url, upstream) for url in upstream.mirrors])

    def _make_mirror(self, url: str, upstream: Upstream) -> RegistryClient:
        source = Source.at(registry_of(url))
        egress = self._egress_to(f"{upstream.name} {url}", source.origin, upstream)
        tokens = Tokens(source.origin, upstream.token_hosts, lambda: None)
        return RegistryClient(source, url, egress, tokens, Quota(self.ledger, source, whom="anonymous users"))

    def _make_primary(self, source: Source, upstream: Upstream, group: Group) -> RegistryClient:
        egress = self._egress_for(group, source.origin, upstream)
        tokens = self._tokens(source, upstream, group)
        whom = "anonymous users" if source.credential.is_anonymous else "this gateway's account"
        known = find_registry(source.origin.host)
        quota = Quota(self.ledger, source, upstream.name, whom, known is not None and known.free_checks)
        truthful = known is not None and known.truthful_heads
        return RegistryClient(source, upstream.url, egress, tokens, quota, truthful_heads=truthful)

    def _tokens(self, source: Source, upstream: Upstream, group: Group) -> Tokens:
        place, logins = (source.origin, upstream.token_hosts), Logins(self.ledger, source)
        if source.credential.group_id is not None:
            return Tokens(*place, lambda: _open_login(group, self._sealer), logins=logins)
        username, password_file, command = upstream.username, upstream.password_file, upstream.password_command
        if source.credential.is_anonymous or not username:
            return Tokens(*place, lambda: None)
        if command:
            printed = PasswordCommand(upstream.name, username, command, shared=self._shared_secret(upstream))
            return Tokens(*place, printed, refused=printed.refused, logins=logins)

        def read() -> Credential:
            version = password_version(password_file) if password_file else ""
            return Credential(username, read_password(upstream.name, password_file), version)

        return Tokens(*place, read, logins=logins)

    def _shared_secret(self, upstream: Upstream) -> SharedSecret | None:
        """The secret that the command of an upstream prints, for all processes with the same settings."""
        if self._secrets is None:
            return None
        context = f"output of {upstream.password_command!r} for {upstream.username} of upstream {upstream.name}"
        name = hashlib.sha256(context.encode()).hexdigest()[:32]
        return SharedSecret(self._secrets / f"{name}{SUFFIX}", self._sealer, context)


def _identified(name: str) -> str:
    """The key of the egress that shows the identity of an upstream, beside the one that does not."""
    return f"{name} identified"


def _state(name: str, known: list[Allowance], waiting: int, circuit_open: bool, now: float) -> UpstreamState:
    stated = [(a.remaining, a.limit) for a in known if a.remaining is not None]
    remaining, limit = min(stated, key=lambda pair: pair[0]) if stated else (None, None)
    pause = max((a.until - now for a in known), default=0.0)
    return UpstreamState(name, limit, remaining, max(0.0, pause), waiting, circuit_open)


def _open_login(group: Group, sealer: Sealer) -> Credential | None:
    """Decrypt the group's login at each use, so that cached content is served even if that fails. Raises
    Unavailable."""
    try:
        login = open_login(group, sealer)
    except SealBroken as error:
        log.error("login_not_opened", group=group.path, reason=str(error))
        raise Unavailable(f"the upstream login of group {group.path} cannot be opened; the log states why") from error
    version = hashlib.sha256(str(group.upstream_password_sealed).encode()).hexdigest()[:32]
    return Credential(login.username, login.password, version) if login else None

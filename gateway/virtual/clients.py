"""VirtualClients: clients of the upstreams of virtual registries, which people name and no settings do.

So they reach less than configured upstreams: no address that is private, unless the settings name the host; no proxy;
no certificate, no header and no login of this server. A login goes to the upstream itself, and to the token service
that its registry is known to have.
"""

import asyncio
import hashlib
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from cache.runtime.tasks import Tasks
from cache.upstream.egress import Egress, Traffic
from cache.upstream.errors import Unavailable
from cache.upstream.ledger import Ledger
from cache.upstream.logins import Logins
from cache.upstream.quota import Quota
from cache.upstream.reach import Reach
from cache.upstream.registry_client import RegistryClient
from cache.upstream.tokens import Credential, Tokens
from cache.upstream.urls import registry_of
from cache.values import CredentialId, Source
from gateway.keys.sealing import SealBroken, Sealer
from gateway.known_registries import find_registry
from gateway.namespaces.virtual_registry import LABEL, VirtualUpstream
from gateway.virtual.store import login_context

log = structlog.get_logger()

KEPT = 500
"""Clients that a process keeps, with their connections; beyond it the least used one is closed of the group that has
most."""
LINGER = 3600.0
"""Seconds until a client that is not kept is closed, so that its downloads end before."""
LINGERING = 4
"""Clients of one group that linger; beyond it the first one is closed at once: changes of upstreams make them."""


def source_of(upstream: VirtualUpstream) -> Source:
    """Under what the content of an upstream is cached: shared with no other one, nor with a dependency proxy."""
    return Source.at(registry_of(upstream.url), CredentialId(upstream.username or "", virtual=upstream.cache_key))


@dataclass(frozen=True, slots=True)
class _Made:
    """A client, and of what it was made; other changes of an upstream need no other client."""

    group_id: int
    facts: tuple[str | None, ...]
    client: RegistryClient
    egress: Egress


class VirtualClients:
    """Makes clients on first use, and closes those that it does not keep. For one event loop."""

    def __init__(
        self,
        sealer: Sealer,
        ledger: Ledger,
        traffic: Callable[[str], Traffic],
        private_hosts: frozenset[str],
        sender: str = "",
    ) -> None:
        """`traffic` returns the receiver of traffic reports for a label; `sender`: see Egress."""
        self._sealer = sealer
        self._ledger = ledger
        self._traffic = traffic
        self._private_hosts = private_hosts
        self._sender = sender
        self._clients: OrderedDict[int, _Made] = OrderedDict()
        self._tasks = Tasks()
        self._lingering: dict[int, list[Egress]] = {}

    def client(self, upstream: VirtualUpstream) -> RegistryClient:
        """The client of an upstream as it is now."""
        known = self._clients.get(upstream.id)
        if known is None or known.facts != _facts(upstream):
            self._clients[upstream.id] = made = self._make(upstream)
            if known is not None:
                self._retire(known)
            if len(self._clients) > KEPT:
                self._retire(self._clients.pop(self._least_used()))
            known = made
        if upstream.id in self._clients:
            self._clients.move_to_end(upstream.id)
        return known.client

    async def close(self) -> None:
        """Close every client."""
        await self._tasks.close()
        lingering = [egress for every in self._lingering.values() for egress in every]
        for egress in [*(made.egress for made in self._clients.values()), *lingering]:
            await egress.close()

    def _least_used(self) -> int:
        """The upstream whose client is closed: the least used one of the group that has most."""
        [(most, _)] = Counter(made.group_id for made in self._clients.values()).most_common(1)
        return next(id for id, made in self._clients.items() if made.group_id == most)

    def _make(self, upstream: VirtualUpstream) -> _Made:
        source = source_of(upstream)
        origin, known = source.origin, find_registry(source.origin.host)
        token_hosts = frozenset(known.token_hosts) if known else frozenset[str]()
        redirect_hosts = known.redirect_hosts if known else ()
        hosts = frozenset({f"{origin.host}:{origin.port}", origin.host, *token_hosts, *redirect_hosts})
        reach = Reach(hosts, private_hosts=self._private_hosts, discreet=True)
        egress = Egress(reach, traffic=self._traffic(LABEL), sender=self._sender)
        tokens = Tokens(source.origin, token_hosts, lambda: self._login(upstream), logins=Logins(self._ledger, source))
        whom = "anonymous users" if upstream.username is None else "the account of its group"
        quota = Quota(self._ledger, source, upstream.name, whom, known is not None and known.free_checks)
        truthful = known is not None and known.truthful_heads
        client = RegistryClient(source, upstream.url, egress, tokens, quota, truthful_heads=truthful)
        return _Made(upstream.group_id, _facts(upstream), client, egress)

    def _login(self, upstream: VirtualUpstream) -> Credential | None:
        """The login of an upstream, which is opened for each use. Raises Unavailable."""
        if upstream.username is None or upstream.password_sealed is None:
            return None
        try:
            password = self._sealer.open(upstream.password_sealed, login_context(upstream.group_id, upstream.url))
        except SealBroken as error:
            log.error("login_not_opened", virtual_upstream=upstream.id, reason=str(error))
            reason = f"the login of upstream {upstream.id} cannot be opened; the log states why"
            raise Unavailable(reason) from error
        return Credential(
            upstream.username, password, hashlib.sha256(upstream.password_sealed.encode()).hexdigest()[:32]
        )

    def _retire(self, made: _Made) -> None:
        """Close a client later, or, where many of its group wait for that, close the first one of them now."""
        lingering = self._lingering.setdefault(made.group_id, [])
        lingering.append(made.egress)
        if len(lingering) > LINGERING:
            self._tasks.start(lingering.pop(0).close(), "virtual upstream")
        self._tasks.start(self._close_later(made), "virtual upstream")

    async def _close_later(self, made: _Made) -> None:
        await asyncio.sleep(LINGER)
        lingering = self._lingering.get(made.group_id, [])
        if made.egress in lingering:
            lingering.remove(made.egress)
            await made.egress.close()
        if not lingering:
            self._lingering.pop(made.group_id, None)


def _facts(upstream: VirtualUpstream) -> tuple[str | None, ...]:
    return upstream.url, upstream.username, upstream.password_sealed, upstream.cache_key

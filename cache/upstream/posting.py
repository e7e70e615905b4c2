"""Poster: sends documents to hosts that users of this server name, and that must not lead inward.

It has what requests to upstreams have, and less: every address of a name is checked, and the connection is made to one
that was checked; no redirect is followed, no cookie kept, no connection used twice, and no more read of a response than
its head.
"""

import asyncio
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import httpx2

from cache.upstream.egress import OWN_HEADERS, named_failures
from cache.upstream.errors import Unavailable
from cache.upstream.kept_connections import CREDENTIAL
from cache.upstream.reach import Reach, UpstreamTimings
from cache.upstream.resolver import Resolver
from cache.upstream.transport import AddressCheck, Clients, make_clients, resolve, sending_for
from cache.upstream.urls import origin_of
from cache.values import ANONYMOUS

TIMEOUT = 10.0
"""Seconds of a whole request (GitLab, "Webhook receiver requirements")."""

_TIMINGS = UpstreamTimings(connect=5.0, read=TIMEOUT, body=TIMEOUT)


@dataclass(frozen=True, slots=True)
class PostingRules:
    """Hosts whose addresses need not be public: names or name:port, and `*.NAME` for all hosts below one. `ca_file`:
    trusted beside no others; None for those that the system trusts."""

    private_hosts: frozenset[str] = frozenset()
    ca_file: Path | None = None


class Poster:
    """Sends documents by POST."""

    def __init__(self, rules: PostingRules, resolver: Resolver = resolve, timeout: float = TIMEOUT) -> None:
        hosts = rules.private_hosts
        self._reach = Reach(hosts, private_hosts=hosts, discreet=True, ca_file=rules.ca_file, timings=_TIMINGS)
        self._resolver = resolver
        self._timeout = timeout
        self._made: dict[bool, Clients] = {}
        self._making = threading.Lock()

    async def post(self, url: str, headers: Mapping[str, str], body: bytes, *, verify: bool, owner: str) -> int:
        """Send a document, and return the status of the response. `verify`: whether the host must show a certificate
        that is trusted; `owner`: who has named the host, and takes turns with others for looking names up.

        Raises Unavailable.
        """
        try:
            origin_of(url)
        except ValueError as error:
            raise Unavailable(str(error)) from error
        client = self._clients(verify=verify).waiting
        extensions = {CREDENTIAL: ANONYMOUS, "timeout": client.timeout.as_dict()}
        sent = {**OWN_HEADERS, **headers, "Connection": "close"}
        with named_failures(url), sending_for(owner):
            request = httpx2.Request("POST", url, headers=sent, content=body, extensions=extensions)
            async with asyncio.timeout(self._timeout):
                response = await client.send(request, stream=True)
                await response.aclose()
        return response.status_code

    def allows_private(self, url: str) -> bool:
        """Whether the host of a URL may have an address that is not public. Raises ValueError for what is no URL."""
        origin = origin_of(url)
        return self._reach.allows_private(origin.host, origin.port)

    async def close(self) -> None:
        """Close what is open."""
        for clients in self._made.values():
            await clients.close()

    def _clients(self, *, verify: bool) -> Clients:
        with self._making:
            clients = self._made.get(verify)
            if clients is None:
                reach = replace(self._reach, verify=verify)
                try:
                    clients = make_clients(reach, AddressCheck(reach, self._resolver), ())
                except OSError as error:
                    raise Unavailable(f"the ca_file {reach.ca_file} cannot be used ({error.strerror})") from error
                self._made[verify] = clients
            return clients

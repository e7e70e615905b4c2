"""Options of the pages, and how they may keep people signed in."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from urllib.parse import urlsplit

from gateway.auth.exposure import is_loopback

PullRoot = tuple[str, str]
"""A group, and one upstream of whose images it serves."""


class SignIn(Enum):
    """How a browser may be signed in, by the URL at which clients reach the server."""

    SECURE = "secure"
    """By https: the cookie is sent by nothing else, and no other host can set it (RFC 6265bis, `__Host-`)."""
    PLAIN = "plain"
    """By http on loopback, or where the setting insecure_login allows it."""
    REFUSED = "refused"
    """By http beyond loopback: everybody on the way would read the password."""


@dataclass(frozen=True, slots=True)
class WebOptions:
    """`url`: where clients reach this server, without a slash at its end; `registry`: host and port by which images are
    named. `insecure_login`: whether people may sign in by http beyond loopback. `old_paths`: how long what has moved
    keeps its old path. `ns_group`: the group that serves what clients name by their upstream. `addresses`: where the
    images of an upstream through a group have no prefix."""

    url: str
    registry: str
    old_paths: timedelta
    insecure_login: bool = False
    ns_group: str = "hub"
    addresses: Mapping[PullRoot, str] = field(default_factory=dict)

    @property
    def sign_in(self) -> SignIn:
        """How a browser may be signed in."""
        parts = urlsplit(self.url)
        if parts.scheme == "https":
            return SignIn.SECURE
        return SignIn.PLAIN if self.insecure_login or is_loopback(parts.hostname or "") else SignIn.REFUSED

"""Webhook: where events are sent, which ones, and how it stands; with the rules that every change of one must keep."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from ipaddress import ip_address
from urllib.parse import urlsplit

from cache.upstream.resolver import is_public
from cache.upstream.urls import origin_of
from gateway.namespaces.errors import TreeError
from gateway.namespaces.node import NodeKey
from gateway.webhooks.event import Trigger

URL_LIMIT = 2048
MOST = 100
"""Webhooks of one project, of one group, and of the server (GitLab has 100 for a project)."""

TOLERATED = 4
"""Failures in a row from which on a webhook has a pause (GitLab, "Auto-disabled webhooks")."""
DISABLING = 40
"""Failures in a row that disable it."""
FIRST_PAUSE, LONGEST_PAUSE = timedelta(minutes=1), timedelta(days=1)


class WebhookInvalid(TreeError):
    """A webhook is refused. `attribute`: what of it."""

    def __init__(self, attribute: str, message: str) -> None:
        super().__init__(message)
        self.attribute = attribute


class WebhookUnknown(TreeError):
    """There is no such webhook, or no such delivery of one."""


class AlertStatus(StrEnum):
    """How a webhook stands, in GitLab's words."""

    EXECUTABLE = "executable"
    TEMPORARILY_DISABLED = "temporarily_disabled"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True)
class Webhook:
    """One stored webhook. `node`: the project or group whose events it is told of; None for all of the server.

    `uid`: never returns, for secrets are sealed to it. `failures`: attempts in a row that failed. `disabled_until`: the
    end of its pause. The sealed secrets are None where there are none.
    """

    id: int
    uid: str
    node: NodeKey | None
    url: str
    triggers: frozenset[Trigger]
    created_at: datetime
    name: str = ""
    description: str = ""
    verify_tls: bool = True
    token_sealed: str | None = None
    signing_sealed: str | None = None
    failures: int = 0
    disabled_until: datetime | None = None

    @property
    def is_disabled(self) -> bool:
        """Whether nothing is sent to it until somebody has looked after it."""
        return self.failures >= DISABLING

    @property
    def host(self) -> str:
        """Host and port of its URL, which hold no secret."""
        return origin_of(self.url).netloc

    def status(self, now: datetime) -> AlertStatus:
        """How it stands at a time."""
        if self.is_disabled:
            return AlertStatus.DISABLED
        paused = self.disabled_until is not None and self.disabled_until > now
        return AlertStatus.TEMPORARILY_DISABLED if paused else AlertStatus.EXECUTABLE

    def failed(self, now: datetime) -> "Webhook":
        """The webhook after one more failure."""
        failures = self.failures + 1
        if failures < TOLERATED or failures >= DISABLING:
            return replace(self, failures=failures, disabled_until=None)
        return replace(self, failures=failures, disabled_until=now + pause_after(failures))

    def succeeded(self) -> "Webhook":
        """The webhook after a success."""
        return replace(self, failures=0, disabled_until=None)


def pause_after(failures: int) -> timedelta:
    """How long a webhook pauses after so many failures in a row."""
    return min(LONGEST_PAUSE, FIRST_PAUSE * (1 << min(failures - TOLERATED, 20)))


def check_url(url: str) -> None:
    """Check where a webhook may send to, as far as the URL says: names are looked up for each request.

    Raises WebhookInvalid, whose text does not repeat the URL.
    """
    if len(url) > URL_LIMIT or not url.isascii() or any(not "!" <= character <= "~" for character in url):
        raise WebhookInvalid("url", f"is no URL of at most {URL_LIMIT} printable ASCII characters")
    try:
        origin = origin_of(url)
    except ValueError as error:
        raise WebhookInvalid("url", f"is {error}") from None
    parts = urlsplit(url)
    if parts.username is not None or parts.password is not None:
        raise WebhookInvalid("url", "holds a user name or a password: use a token")
    if parts.fragment:
        raise WebhookInvalid("url", "has a fragment, which is sent to nobody")
    if not 0 < origin.port < 65536:
        raise WebhookInvalid("url", "has no valid port")


def names_private_address(url: str) -> bool:
    """Whether the host of a URL is an address that is not on the public internet."""
    try:
        return not is_public(ip_address(origin_of(url).host.partition("%")[0]))
    except ValueError:
        return False

"""Origins and redirect targets; pure."""

import re
from ipaddress import IPv4Address
from urllib.parse import urljoin, urlsplit

from cache.values import Origin, Registry

REDIRECTS = (301, 302, 303, 307, 308)
REDIRECT_LIMIT = 5
DEFAULT_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[a-z0-9_][a-z0-9._-]{0,252}|[0-9a-f:.]{2,45}(?:%[a-z0-9._-]{1,16})?", re.IGNORECASE)
"""A name as DNS has it (RFC 1035, section 2.3.4), or an address."""
_DOTTED = re.compile(r"[0-9]+(?:\.[0-9]+){3}")


def origin_of(url: str) -> Origin:
    """Origin of a URL. Raises ValueError, whose text repeats nothing of the URL, for anything but an absolute http or
    https URL with a host."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("not a URL") from None
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname or not _is_host(parts.hostname):
        raise ValueError("not an http or https URL with a host")
    port = DEFAULT_PORTS[parts.scheme] if port is None else port
    return Origin(parts.scheme, parts.hostname.lower(), port)


def _is_host(text: str) -> bool:
    """Whether a text can name a host. What looks like an address of IPv4 is one, or nothing."""
    if _DOTTED.fullmatch(text):
        try:
            IPv4Address(text)
        except ValueError:
            return False
    return _HOST.fullmatch(text) is not None


def registry_of(url: str) -> Registry:
    """Registry that has a URL, whose path stands before the names of its repositories. Raises ValueError."""
    return Registry(origin_of(url), urlsplit(url).path.strip("/"))


def root_of(url: str) -> str:
    """A URL without its path, spelled as it was given: below it lies `/v2/`."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def redirect_target(url: str, location: str, authorization: str | None = None) -> str:
    """Target of a redirect (RFC 9110, section 10.2.2). `authorization`: what was sent to the URL.

    Raises ValueError for a location that must not be followed: no URL (RFC 3986), another scheme, a user name in it,
    http after https, or a host that repeats our credential, because hosts are named in reasons.
    """
    # Checked before it is joined, because joining would silently drop tabs and line breaks.
    if not location or not all(33 <= ord(character) <= 126 for character in location):
        raise ValueError("the location is not a URL")
    try:
        target = urljoin(url, location)
    except ValueError:
        raise ValueError("the location is not a URL") from None
    origin = origin_of(target)
    parts = urlsplit(target)
    if parts.username is not None or parts.password is not None:
        raise ValueError("the location holds a user name")
    if origin.scheme == "http" and urlsplit(url).scheme == "https":
        raise ValueError("the location leaves https for http")
    secret = (authorization or "").rpartition(" ")[2].lower()
    if secret and secret in parts.netloc.lower():
        raise ValueError("the location repeats the credential")
    return parts._replace(fragment="").geturl()

"""Origins and redirect targets; pure."""

from urllib.parse import urljoin, urlsplit

from cache.values import Origin

DEFAULT_PORTS = {"http": 80, "https": 443}


def origin_of(url: str) -> Origin:
    """Origin of a URL. Raises ValueError for anything but an absolute http or https URL with a host."""
    parts = urlsplit(url)
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
        raise ValueError(f"not an http or https URL with a host: {parts.scheme}://{parts.hostname}")
    port = DEFAULT_PORTS[parts.scheme] if parts.port is None else parts.port
    return Origin(parts.scheme, parts.hostname.lower(), port)


def redirect_target(url: str, location: str) -> str:
    """Target of a redirect (RFC 9110, section 10.2.2).

    Raises ValueError for a location that must not be followed: no URL (RFC 3986), another scheme, a user name in it,
    http after https.
    """
    # Checked before it is joined, because joining would silently drop tabs and line breaks.
    if not location or not all(33 <= ord(character) <= 126 for character in location):
        raise ValueError("the location is not a URL")
    target = urljoin(url, location)
    parts = urlsplit(target)
    origin = origin_of(target)
    if parts.username is not None or parts.password is not None:
        raise ValueError("the location holds a user name")
    if origin.scheme == "http" and urlsplit(url).scheme == "https":
        raise ValueError("the location leaves https for http")
    return parts._replace(fragment="").geturl()

"""Headers of every page, by which a browser runs nothing but this server's own scripts, and no other site frames it."""

import re
from functools import lru_cache

from starlette.requests import Request

_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}(:\d{1,5})?")
"""What a policy can name; it cannot name an address of IPv6 (Content Security Policy, "host-source")."""

STATIC = "/static/"
"""Path below which scripts, styles and pictures lie, and nothing that anybody has pushed."""


def page_headers(request: Request, *, private: bool) -> dict[str, str]:
    """Headers of a page. `private`: whether it is for one person alone."""
    return {
        "Content-Security-Policy": _policy(request.headers.get("host", "")),
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "same-origin",  # with `no-referrer` browsers send forms with the origin `null`
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cache-Control": "no-store" if private else "no-cache",
        "Vary": "Cookie",
    }


@lru_cache(256)
def _policy(host: str) -> str:
    """The policy for pages at a host, whose scripts and styles come from STATIC alone."""
    own = f"{host}{STATIC}" if _HOST.fullmatch(host) else "'self'"
    sources = {
        "default-src": "'none'",
        "script-src": own,
        "style-src": own,
        "img-src": own,
        "form-action": "'self'",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in sources.items())

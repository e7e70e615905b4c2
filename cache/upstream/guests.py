"""Guests: anonymous tokens for registries to which an upstream redirects.

Names such as those of vendors redirect to another registry, which demands a token of its own
(https://github.com/scarf-sh/gateway). It gets an anonymous one, for the scope that it names itself, and never learns of
the upstream's credential. Its token service gets nothing of the upstream either, and its limits are not the upstream's:
whoever owns one image that is redirected chooses both.
"""

import re
import threading
from collections import OrderedDict
from urllib.parse import unquote, urlsplit

from cache.upstream.egress import Response
from cache.upstream.errors import AccessDenied, RateLimited, Unavailable
from cache.upstream.flow import Flow
from cache.upstream.tokens import Tokens, parse_challenges
from cache.upstream.urls import origin_of
from cache.values import Origin

REGISTRIES_KEPT = 16
"""Registries whose tokens are kept; an upstream can redirect to any number of hosts."""

SCOPE_LIMIT = 1024
"""Characters of a scope that another registry names: its tokens are kept by scope, and a head may have 100 KiB."""

_PATH = re.compile(r"/v2/(.+)/(?:manifests|blobs|tags|referrers)/[^/]+")


class Guests:
    """Anonymous tokens of the registries to which one upstream redirects; shared by tasks and threads."""

    def __init__(self, tokens: Tokens) -> None:
        """`tokens`: those of the upstream, whose token hosts may issue anonymous ones as well."""
        self._tokens = tokens
        self._known: OrderedDict[Origin, Tokens] = OrderedDict()
        self._lock = threading.Lock()

    def authorization(self, url: str, refusal: Response, refused: str | None) -> Flow[str | None]:
        """Header for the repetition of a request that a redirect's target refused with 401, though it had the header
        `refused`; None if the target issues no token to anybody. Raises UpstreamError, but never RateLimited, by which
        the upstream's own limit is known."""
        challenge = ", ".join(refusal.headers.get_list("www-authenticate"))
        named = [found for found in parse_challenges(challenge) if found.scheme == "bearer"]
        match = _PATH.fullmatch(unquote(urlsplit(url).path))
        scope = named[0].parameters.get("scope") or (f"repository:{match[1]}:pull" if match else "") if named else ""
        if not named or not scope or len(scope) > SCOPE_LIMIT:
            return None
        try:
            return (yield from self._of(origin_of(url)).renewed(scope, refused, challenge))
        except AccessDenied:
            return None
        except RateLimited as error:
            raise Unavailable(error.reason, error.retry_after) from error

    def _of(self, origin: Origin) -> Tokens:
        with self._lock:
            found = self._known.pop(origin, None) or self._tokens.anonymous(origin)
            self._known[origin] = found
            while len(self._known) > REGISTRIES_KEPT:
                self._known.popitem(last=False)
        return found

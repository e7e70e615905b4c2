"""Grammar of the names of upstreams, which settings define and which paths and groups mention."""

import re

_LABEL = "[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
PATTERN = rf"^(?:localhost|{_LABEL}(?:\.{_LABEL})+)$"
MAX_LENGTH = 253
"""Limit of a host name in characters (RFC 1035, 2.3.4, without the final dot)."""

FORM = "a lower-case host name with a dot, or localhost, without a port"
"""The grammar in words."""


def is_upstream_name(text: str) -> bool:
    """Whether an upstream may be configured under this name."""
    return len(text) <= MAX_LENGTH and re.fullmatch(PATTERN, text) is not None


def looks_like_upstream(component: str) -> bool:
    """Whether a component of a repository name is meant as the name of an upstream; it may not be a valid one."""
    return "." in component or component == "localhost"

"""The headers of a request by their names, which are read once for all who look for one."""

from collections.abc import Mapping, MutableMapping
from typing import Any

_READ = "gateway.first_headers"


def first_headers(scope: MutableMapping[str, Any]) -> Mapping[str, str]:
    """The first value of each header of a request, by its name in lower case; the same mapping for all who ask.

    To go through all headers for one of them, which most requests do not have, took as long each time as this does.
    """
    found: Mapping[str, str] | None = scope.get(_READ)
    if found is None:
        pairs = reversed(scope["headers"])  # of a repeated one the first value is written last, and so is kept
        found = scope[_READ] = {name.decode("latin-1"): value.decode("latin-1") for name, value in pairs}
    return found

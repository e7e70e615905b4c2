"""Options of the REST API's surface."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class ApiOptions:
    """`url`: where clients reach this server, without a slash at its end; `registry`: host and port by which images are
    named. `old_paths`: how long what has moved keeps its old path."""

    url: str
    registry: str
    old_paths: timedelta

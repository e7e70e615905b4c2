"""Options of the REST API's surface."""

from dataclasses import dataclass
from datetime import timedelta

from gateway.api.rate_limits import UNLIMITED, RateOptions


@dataclass(frozen=True, slots=True)
class ApiOptions:
    """`url`: where clients reach this server, without a slash at its end; `registry`: host and port by which images are
    named. `old_paths`: how long what has moved keeps its old path; `rates`: how many requests are taken."""

    url: str
    registry: str
    old_paths: timedelta
    rates: RateOptions = UNLIMITED

"""Services: the frozen bundle that handlers receive."""

from dataclasses import dataclass

from cache.index.base import History
from cache.proxy import PullThrough
from gateway.metrics import Metrics
from gateway.namespaces import Namespaces
from gateway.upstreams import Upstreams


@dataclass(frozen=True, slots=True)
class Services:
    namespaces: Namespaces
    upstreams: Upstreams
    pull_through: PullThrough
    metrics: Metrics
    history: History

"""Services: the frozen bundle that handlers receive."""

from dataclasses import dataclass

from cache.events import CacheEvents
from cache.index.sql import SqlIndex
from cache.proxy.shared import PullThrough
from gateway.data_folder import CacheFolder
from gateway.directory.directory import Directory
from gateway.observability.metrics import Metrics
from gateway.observability.server_state import ServerState
from gateway.upstreams import Upstreams


@dataclass(frozen=True, slots=True)
class Services:
    directory: Directory
    upstreams: Upstreams
    pull_through: PullThrough
    metrics: Metrics
    events: CacheEvents
    index: SqlIndex
    folder: CacheFolder
    process: ServerState

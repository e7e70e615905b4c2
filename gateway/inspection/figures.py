"""How well the cache has served, from the pulls that were counted; pure."""

from collections.abc import Iterable

from cache.index.usage import PullCount
from cache.values import Outcome
from gateway.observability.metrics import FREE


def figures(counted: Iterable[PullCount]) -> dict[str, object]:
    """Of all upstreams and of each. `hit_rate` is the share of pulls whose bytes did not have to be fetched for them,
    None without pulls; `saved_pulls` are manifests that cost the upstream nothing."""
    counted = list(counted)
    names = sorted({pulls.upstream for pulls in counted})
    return {
        "since": min((pulls.day for pulls in counted), default=None),
        **_of(counted),
        "upstreams": [{"upstream": name, **_of([p for p in counted if p.upstream == name])} for name in names],
    }


def _of(counted: list[PullCount]) -> dict[str, object]:
    pulls = sum(p.pulls for p in counted)
    missed = [p for p in counted if p.outcome == Outcome.MISS.value]
    return {
        "pulls": pulls,
        "hit_rate": round(1 - sum(p.pulls for p in missed) / pulls, 4) if pulls else None,
        "saved_pulls": sum(p.pulls for p in counted if p.kind == "manifest" and p.outcome in FREE),
        "sent_bytes": sum(p.bytes for p in counted),
        "fetched_bytes": sum(p.bytes for p in missed),
    }

"""Figures: how well the cache served the pulls that were counted; pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from cache.index.usage import PullCount
from cache.values import FREE_OUTCOMES, Outcome


@dataclass(frozen=True, slots=True)
class PullFigures:
    """Totals of pulls.

    `hit_rate`: the share of pulls whose bytes were not fetched for them, None without pulls. `saved_pulls`: manifests
    that cost the upstream nothing.
    """

    pulls: int
    hit_rate: float | None
    saved_pulls: int
    sent_bytes: int
    fetched_bytes: int


@dataclass(frozen=True, slots=True)
class CacheFigures:
    """Totals of all upstreams, and of each by its configured name. `since`: the first counted day, None without one."""

    since: str | None
    total: PullFigures
    upstreams: dict[str, PullFigures]


def figures(counted: Sequence[PullCount]) -> CacheFigures:
    """Add up counted pulls."""
    names = sorted({pulls.upstream for pulls in counted})
    return CacheFigures(
        min((pulls.day for pulls in counted), default=None),
        _total(counted),
        {name: _total([p for p in counted if p.upstream == name]) for name in names},
    )


def _total(counted: Sequence[PullCount]) -> PullFigures:
    pulls = sum(p.pulls for p in counted)
    missed = [p for p in counted if p.outcome == Outcome.MISS.value]
    return PullFigures(
        pulls=pulls,
        hit_rate=round(1 - sum(p.pulls for p in missed) / pulls, 4) if pulls else None,
        saved_pulls=sum(p.pulls for p in counted if p.kind == "manifest" and p.outcome in FREE_OUTCOMES),
        sent_bytes=sum(p.bytes for p in counted),
        fetched_bytes=sum(p.bytes for p in missed),
    )

"""Report of a run: one document, and one line of it for people."""

import json
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from .checker import Evidence
from .ledger import Deed, Seen, share
from .push_checker import PushEvidence


@dataclass(frozen=True)
class Report:
    """Figures of a run and, by rule, its violations. `clean`: there are none."""

    workers: int
    clients: int
    seconds: float
    seed: int
    figures: dict[str, Any]
    violations: dict[str, list[str]]

    @property
    def clean(self) -> bool:
        return not any(self.violations.values())

    def document(self) -> str:
        return json.dumps({**asdict(self), "clean": self.clean}, indent=2)

    def line(self) -> str:
        shown, against = self.figures, sum(map(len, self.violations.values()))
        deeds = ", ".join(f"{count} times {deed}" for deed, count in (shown["deeds"] | shown["pairs"]).items())
        return (
            f"{self.workers} workers, {self.clients} clients, {self.seconds / 60:.1f} min, seed {self.seed}, "
            f"{shown['gigabytes']:.1f} GB moved, {deeds or 'no deeds'}, {shown['lies']} lies of the upstream: "
            f"complete responses {shown['complete']}, wrong digest {len(self.violations.get('wrong_bytes', []))}; "
            f"5xx {shown['unavailable']}, broken {shown['broken']}; "
            f"upstream GETs / contents {shown['gets']}/{shown['contents']}; "
            f"head of a hit p50 {milliseconds(shown['hit_p50'])}, p99 {milliseconds(shown['hit_p99'])}; "
            f"recovery after kill of a filler p99 {seconds(shown['recovery_p99'])} (of {shown['recoveries']}); "
            f"acknowledged pushes {sum(shown['pushed'].values())}, deletes {sum(shown['deleted'].values())}, lost "
            f"{len(self.violations.get('lost_pushes', []))}, undone {len(self.violations.get('undone_deletes', []))}; "
            f"left behind {len(self.violations.get('left_behind', []))}; {against} violations"
        )


def figures(evidence: Evidence, recoveries: list[float]) -> dict[str, Any]:
    seen = evidence.seen
    hits = [one.waited for one in seen if one.served and one.x_cache == "HIT"]
    deeds = Counter(deed for deed, _ in {(done.deed, done.begun) for done in evidence.done} if deed is not Deed.PAIR)
    return {
        "gigabytes": sum(one.received for one in seen) / 1e9,
        "requests": len(seen),
        "complete": sum(one.served for one in seen),
        "unavailable": sum(one.status >= 500 for one in seen),
        "broken": sum(one.broken for one in seen),
        "outcomes": dict(Counter(str(one.x_cache) for one in seen if one.served)),
        "statuses": dict(Counter(str(one.status) for one in seen)),
        "deeds": {deed.value: count for deed, count in deeds.items()},
        "pairs": dict(Counter(done.pair for done in evidence.done if done.deed is Deed.PAIR)),
        "lies": len(evidence.told),
        "gets": sum(evidence.gets.values()),
        "contents": len(evidence.gets),
        "hit_p50": share(hits, 50),
        "hit_p99": share(hits, 99),
        "recoveries": len(recoveries),
        "recovery_p50": share(recoveries, 50),
        "recovery_p99": share(recoveries, 99),
        "longest_head": max((one.waited for one in seen), default=0.0),
        "slowest": slowest(seen),
    }


def push_figures(evidence: PushEvidence) -> dict[str, Any]:
    """Figures of the pushers: acknowledged pushes and deletions, by kind of content; requests by status; looks."""
    made = [change for changes in evidence.changes.values() for change in changes if change.acknowledged]
    return {
        "pushed": dict(Counter(change.key.thing.value for change in made if change.value is not None)),
        "deleted": dict(Counter(change.key.thing.value for change in made if change.value is None)),
        "uncertain": sum(not change.acknowledged for changes in evidence.changes.values() for change in changes),
        "push_statuses": dict(Counter(str(step.status) for step in evidence.steps)),
        "push_steps": dict(Counter(step.what for step in evidence.steps)),
        "looks": len(evidence.looks),
    }


def slowest(seen: "list[Seen] | tuple[Seen, ...] | Any") -> str | None:
    last = max(seen, key=lambda one: one.waited, default=None)
    return None if last is None else f"{last.kind.value} {last.digest[:19]} {last.x_cache} {last.status}"


def milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value * 1000:.0f} ms"


def seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"

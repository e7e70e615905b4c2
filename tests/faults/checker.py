"""Checker of what the clients observed: pure functions from a ledger to sentences that describe violations."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from .ledger import DEADLY, Deed, Done, Kind, Seen
from .proxy import ToldLie

X_CACHE = {"HIT", "MISS", "STALE", "REVALIDATED", "COALESCED"}
HELD = {"HIT", "REVALIDATED", "STALE"}
LONGEST_WAIT = 25.0
"""Seconds until a head must arrive; clients give up after 30."""

EXCUSED_FOR = 5.0
"""Seconds after a worker's death in which its clients may still meet broken connections."""

REMEMBERED_FOR = 120.0
"""Seconds in which a lie of the upstream explains an incomplete response, including retries and back-off."""


@dataclass(frozen=True)
class Evidence:
    """Evidence that a run left for the checker. `gets`: number of requests to the upstream for each content's bytes."""

    seen: Sequence[Seen]
    done: Sequence[Done]
    told: Sequence[ToldLie]
    gets: Mapping[str, int]


Rule = Callable[[Evidence], Iterable[str]]


def wrong_bytes(evidence: Evidence) -> Iterable[str]:
    """Rule: no complete response differs from the requested content."""
    for seen in evidence.seen:
        if seen.served and not seen.right:
            yield f"{describe(seen)} was complete and wrong"


def strange_statuses(evidence: Evidence) -> Iterable[str]:
    """Rule: all requested content exists, so it is served, or the response is 502 or 503 with Retry-After."""
    for seen in evidence.seen:
        if seen.status not in (0, 200, 502, 503) and not (seen.status == 206 and seen.kind is Kind.RANGE):
            yield f"{describe(seen)}: not a status for content that exists"
        if seen.status == 503 and seen.retry_after is None:
            yield f"{describe(seen)}: without Retry-After"


def unnamed_outcomes(evidence: Evidence) -> Iterable[str]:
    for seen in evidence.seen:
        if seen.status in (200, 206) and seen.x_cache not in X_CACHE:
            yield f"{describe(seen)}: X-Cache {seen.x_cache}"


def endless_waits(evidence: Evidence) -> Iterable[str]:
    """Rule: a head arrives before clients give up, and then bytes do, unless the rig itself paused the worker."""
    for seen in evidence.seen:
        paused = any(done.deed is Deed.PAUSE and overlap(seen, done, EXCUSED_FOR) for done in evidence.done)
        if seen.hung:
            yield f"{describe(seen)}: nothing arrived for a minute"
        elif seen.waited > LONGEST_WAIT and not paused:
            yield f"{describe(seen)}: its head took {seen.waited:.1f} s"


def lost_content(evidence: Evidence) -> Iterable[str]:
    """Rule: cached content needs no upstream; once it was served from the cache it is never unavailable."""
    forgotten: dict[str, list[Done]] = {}
    full = full_disks(evidence)
    for done in evidence.done:
        if done.deed in (Deed.EVICT, Deed.DAMAGE):
            forgotten.setdefault(done.about, []).append(done)
    served: dict[tuple[str, str, str], Seen] = {}
    for seen in sorted(evidence.seen, key=lambda seen: seen.ended):
        key = (group(seen.kind), seen.image, seen.digest)
        before = served.get(key)
        if seen.served and seen.x_cache in HELD:
            served[key] = seen
        elif seen.status >= 500 and before is not None and before.ended < seen.begun:
            since = [done for done in [*forgotten.get(seen.digest, []), *full] if before.begun < done.ended]
            if not any(done.begun < seen.ended for done in since):
                earlier = f"{before.x_cache} {seen.begun - before.ended:.1f} s before"
                yield f"{describe(seen)}, though it was {earlier}: {seen.refusal}"


def broken_without_cause(evidence: Evidence) -> Iterable[str]:
    """Rule: an incomplete response has a cause: a worker's death, or a lie of the upstream about this content."""
    causes = [done for done in evidence.done if done.deed in (*DEADLY, Deed.PAUSE)]
    lies: dict[str, list[float]] = {}
    for told in evidence.told:
        lies.setdefault(told.about, []).append(told.at)
    refused = [done for done in evidence.done if done.deed in (Deed.REFUSE, Deed.DAMAGE)]
    for seen in evidence.seen:
        if not seen.broken or seen.hung or any(overlap(seen, done, EXCUSED_FOR) for done in causes):
            continue
        lied_to = any(seen.begun - REMEMBERED_FOR < at < seen.ended for at in lies.get(seen.digest, []))
        if seen.status == 0 or not (lied_to or any(overlap(seen, done, EXCUSED_FOR) for done in refused)):
            yield f"{describe(seen)}: broken without a cause"


def needless_fetches(evidence: Evidence) -> Iterable[str]:
    """Rule: content is fetched once, and again only for a reason; while a disk is full, for each client that waits."""
    lies = Counter(told.about for told in evidence.told)
    deaths = sum(done.deed in DEADLY for done in evidence.done)
    forgotten = Counter(done.about for done in evidence.done if done.deed in (Deed.EVICT, Deed.DAMAGE))
    full = full_disks(evidence)
    unkept = Counter(
        seen.digest
        for seen in evidence.seen
        if seen.x_cache in ("MISS", "COALESCED")
        and seen.kind in (Kind.BLOB, Kind.RANGE)
        and any(overlap(seen, done) for done in full)
    )
    for digest, count in evidence.gets.items():
        allowed = 1 + deaths + lies[digest] + forgotten[digest] + len(full) + unkept[digest]
        if count > allowed:
            yield f"{digest[:19]} was fetched {count} times where {allowed} have a reason"


RULES: tuple[Rule, ...] = (
    wrong_bytes,
    strange_statuses,
    unnamed_outcomes,
    endless_waits,
    lost_content,
    broken_without_cause,
    needless_fetches,
)


def judge(evidence: Evidence) -> dict[str, list[str]]:
    """Maps every rule's name to the violations it found; empty lists if there are none."""
    return {rule.__name__: list(rule(evidence)) for rule in RULES}


def full_disks(evidence: Evidence) -> list[Done]:
    """Full disks, and failpoints with ENOSPC: any cached content may be deleted to make room meanwhile."""
    return [done for done in evidence.done if done.deed is Deed.FULL or "ENOSPC" in done.about]


def overlap(seen: Seen, done: Done, after: float = 0.0) -> bool:
    return done.begun <= seen.ended and seen.begun <= done.ended + after


def group(kind: Kind) -> str:
    """Kinds of content that are cached separately: a manifest that is requested by tag also needs its pointer."""
    return "blob" if kind in (Kind.BLOB, Kind.RANGE, Kind.HEAD) else kind.name


def describe(seen: Seen) -> str:
    return (
        f"{seen.kind.value} {seen.image} {seen.digest[:19]} at {seen.begun:.1f} to {seen.ended:.1f}: "
        f"status {seen.status}, {seen.received} bytes, {seen.x_cache}, request {seen.request_id}"
    )

"""Checker of what pushers observed: pure functions from a ledger of pushes to sentences that describe violations."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from .checker import EXCUSED_FOR, LONGEST_WAIT
from .ledger import DEADLY, Deed, Done
from .push_ledger import Change, Key, Look, Step, Thing, may_be_collected, permitted
from .tag_order import crossed


@dataclass(frozen=True)
class PushEvidence:
    """Evidence that the pushers of a run left for the checker. `needs`: what each manifest refers to; `delay`: seconds
    for which the server keeps what nothing needs, None: for ever."""

    changes: Mapping[Key, Sequence[Change]]
    looks: Sequence[Look]
    steps: Sequence[Step]
    done: Sequence[Done]
    needs: Mapping[Key, Sequence[Key]] = field(default_factory=dict)
    delay: float | None = None


Rule = Callable[[PushEvidence], Iterable[str]]


def wrong_pushed_bytes(evidence: PushEvidence) -> Iterable[str]:
    """Rule: no complete response differs from the digest that was requested, or that it states."""
    for step in evidence.steps:
        if not step.right:
            yield f"{describe(step)}: other bytes than its digest"


def lost_pushes(evidence: PushEvidence) -> Iterable[str]:
    """Rule: what was acknowledged is there, and a tag is where its last acknowledged change has put it.

    A server that collects may have deleted what nothing has needed for its delay, and that alone.
    """
    for look, possible in misled(evidence):
        if None not in possible and not (look.value is None and is_collectable(look, evidence)):
            yield f"{look.key}{look.where} was {look.value} at {look.begun:.1f}, not {sentence(possible)}"


def undone_deletes(evidence: PushEvidence) -> Iterable[str]:
    """Rule: what was never pushed, or whose deletion was acknowledged, is not there."""
    for look, possible in misled(evidence):
        if None in possible:
            yield f"{look.key}{look.where} was {look.value} at {look.begun:.1f}, not {sentence(possible)}"


def unordered_looks(evidence: PushEvidence) -> Iterable[str]:
    """Rule: all looks at a tag and all its changes have one order, by whichever name it is read.

    What is missing may have been collected, so of blobs and manifests this is not asked.
    """
    looks: dict[Key, list[Look]] = {}
    for look in evidence.looks:
        if look.key.thing is Thing.TAG:
            looks.setdefault(look.key, []).append(look)
    for key, of_key in looks.items():
        for zone, other in crossed(evidence.changes.get(key, ()), of_key):
            yield (
                f"{key} was {zone.value} from {zone.first_end:.1f} to {zone.last_begin:.1f}, and meanwhile "
                f"{other.value}, which was over by {other.first_end:.1f} or seen from {other.last_begin:.1f}"
            )


def strange_push_statuses(evidence: PushEvidence) -> Iterable[str]:
    """Rule: a request that is right is accepted; a 503 says when to try again, and a 507 has a full disk as its cause.

    An upload whose bytes could not be written has ended, and is unknown from then on.
    """
    for step in evidence.steps:
        if step.status == 0 or step.status in step.expected:
            continue
        excused = troubled(step, evidence.done)
        if step.status == 503 and step.retry_after is None:
            yield f"{describe(step)}: without Retry-After"
        elif step.status not in (503, 507) and not (excused and step.status == 404):
            yield f"{describe(step)}: expected {sorted(step.expected)}"
        elif step.status == 507 and not excused:
            yield f"{describe(step)}: no disk was full"


def endless_pushes(evidence: PushEvidence) -> Iterable[str]:
    """Rule: a response arrives before clients give up, unless the rig itself paused the worker."""
    for step in evidence.steps:
        paused = any(done.deed is Deed.PAUSE and overlaps(step, done) for done in evidence.done)
        if step.hung or (step.waited > LONGEST_WAIT and not paused):
            yield f"{describe(step)}: nothing arrived for {step.waited:.1f} s"


def pushes_broken_without_cause(evidence: PushEvidence) -> Iterable[str]:
    """Rule: a request without a response has a cause: a worker's death, or the client itself."""
    causes = [done for done in evidence.done if done.deed in (*DEADLY, Deed.PAUSE)]
    for step in evidence.steps:
        if step.status == 0 and not step.left and not any(overlaps(step, done) for done in causes):
            yield f"{describe(step)}: broken without a cause"


def lost_bytes_of_uploads(evidence: PushEvidence) -> Iterable[str]:
    """Rule: an upload goes on where it was acknowledged, whoever was killed; only a failing disk ends it.

    Where the full disk does not even take the end of its row, it begins anew instead.
    """
    for step in evidence.steps:
        if step.lost and not troubled(step, evidence.done):
            yield f"{describe(step)}: {step.lost} acknowledged bytes are gone"


RULES: tuple[Rule, ...] = (
    wrong_pushed_bytes,
    lost_pushes,
    undone_deletes,
    unordered_looks,
    strange_push_statuses,
    endless_pushes,
    pushes_broken_without_cause,
    lost_bytes_of_uploads,
)


def judge_pushes(evidence: PushEvidence) -> dict[str, list[str]]:
    """Maps every rule's name to the violations it found; empty lists if there are none."""
    return {rule.__name__: list(rule(evidence)) for rule in RULES}


def misled(evidence: PushEvidence) -> Iterable[tuple[Look, set[str | None]]]:
    """Looks that showed what no order of the changes explains, and what they might have shown."""
    for look in evidence.looks:
        possible = permitted(evidence.changes.get(look.key, ()), look.begun, look.ended)
        if look.value not in possible:
            yield look, possible


def is_collectable(look: Look, evidence: PushEvidence) -> bool:
    """Whether what a look has not found may have been collected."""
    if evidence.delay is None:
        return False
    return may_be_collected(look.key, look.begun, look.ended, evidence.delay, evidence.changes, evidence.needs)


def disk_troubles(done: Sequence[Done]) -> list[Done]:
    """Full disks, and failpoints by which a write fails."""
    return [each for each in done if each.deed is Deed.FULL or "error:" in each.about]


def troubled(step: Step, done: Sequence[Done]) -> bool:
    """Whether a disk failed during the upload of a step."""
    return any(each.begun <= step.ended and step.since <= each.ended for each in disk_troubles(done))


def overlaps(step: Step, done: Done) -> bool:
    return done.begun <= step.ended and step.begun <= done.ended + EXCUSED_FOR


def sentence(values: set[str | None]) -> str:
    return " or ".join(sorted("absent" if value is None else value for value in values))


def describe(step: Step) -> str:
    return (
        f"{step.what} {step.path[:120]} at {step.begun:.1f} to {step.ended:.1f}: status {step.status}, "
        f"request {step.request_id} {step.refusal[:200]}"
    )

"""Mix of faults: clients, lies of the upstream and mischief at the same time; then a rest, and the check."""

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.parts.gateway import Gateway
from tests.parts.registry import Registry

from .checker import Evidence, judge
from .clients import Crowd, pull_everything
from .disk import SmallDisk
from .evictions import evictions
from .hunt import Hunt
from .ledger import Deed, Ledger
from .library import MIB, Image, library
from .mischief import Mischief
from .push_checker import PushEvidence, judge_pushes
from .push_ending import look_at_everything, native_leftovers, uncollected
from .push_ledger import PushLedger
from .pushers import Access, Pushers, create_pusher
from .remains import leftovers, rest_of, unrest
from .report import Report, figures, push_figures
from .rig import Rig
from .steward import Steward
from .upstream import FaultyHub
from .weather import Weather

DEEDS = {
    Deed.KILL: 10,
    Deed.PAUSE: 3,
    Deed.CRASH: 1,
    Deed.RESTART: 1,
    Deed.FAILPOINT: 4,
    Deed.REFUSE: 3,
    Deed.EVICT: 5,
    Deed.DAMAGE: 3,
    Deed.PAIR: 16,
}
DISK = 1024 * MIB
"""Bytes of the data folder's file system: enough for all content and all downloads."""

LONGEST_RUN = 300.0
HEALED_WITHIN = 90.0
RESTS_WITHIN = 90.0


@dataclass(frozen=True)
class Plan:
    """Plan of a run: duration, seed, numbers of workers and clients, and possible deeds.

    `pushers`: clients that push to native repositories meanwhile. `faults`: the share of spoilt responses. `pairs`:
    names of the pairs to draw from; empty: all of them. `small_disk`: whether the data folder is a file system of its
    own, which a pair can fill. `every_pair`: whether the run takes longer than `seconds`, up to LONGEST_RUN, where not
    each pair was done. `delay`: seconds after which pushed content that nothing needs is collected; None: the default.
    """

    seconds: float = 90.0
    seed: int = 1
    workers: int = 2
    clients: int = 20
    faults: float = 0.25
    pushers: int = 6
    deeds: Mapping[Deed, int] = field(default_factory=lambda: dict(DEEDS))
    between: tuple[float, float] = (0.3, 3.0)
    pairs: Sequence[str] = ()
    small_disk: bool = True
    every_pair: bool = False
    delay: float | None = None

    @property
    def hunted(self) -> bool:
        """Whether workers that receive pushes are killed beside the other deeds."""
        return self.pushers > 0 and Deed.KILL in self.deeds


def run(plan: Plan, directory: Path, registry: Registry) -> Report:
    """Runs a plan with all files in `directory`; raises only if the rig itself fails."""
    images = library(registry)
    with ExitStack() as stack:
        disk = stack.enter_context(SmallDisk(directory / "data", DISK)) if plan.small_disk else None
        upstream = stack.enter_context(FaultyHub(registry))
        gateway = Gateway(directory, settings(upstream, plan.delay), arguments=[f"--workers={plan.workers}"])
        gateway.start()
        stack.callback(gateway.kill)
        return _run(plan, Rig(gateway, upstream, images, disk))


def settings(upstream: FaultyHub, delay: float | None = None) -> dict[str, Any]:
    """Settings of the server: tags are revalidated often, so that the upstream matters."""
    collection = {} if delay is None else {"gc": {"delay": f"{delay:.0f}s", "interval": "1s"}}
    return {"upstreams": {"docker.io": upstream.settings()}, "cache": {"ttl": "2s"}, **collection}


def _run(plan: Plan, rig: Rig) -> Report:
    gateway, upstream, images = rig.gateway, rig.upstream, rig.images
    ledger, weather = Ledger(), Weather(plan.seed, plan.faults)
    pushes, access = PushLedger(plan.delay), create_pusher(gateway)
    base = warm_up(gateway, images, access)
    weather.bad = plan.faults > 0
    upstream.exposed_to(weather)
    crowd = Crowd(ledger, gateway.proxied_url, images, plan.seed, plan.clients)
    pushers = Pushers(access, pushes, f"seed-{plan.seed}", plan.pushers, Steward)
    mischief = Mischief(rig, ledger, plan.seed, dict(plan.deeds), plan.between, plan.pairs)
    hunt = Hunt(gateway, ledger, plan.seed, mischief.kill_one)
    begun = time.monotonic()
    crowd.start()
    pushers.start()
    mischief.start()
    if plan.hunted:
        hunt.start()
    ends = begun + plan.seconds
    while time.monotonic() < ends or (plan.every_pair and not mischief.pairs.all_done):
        if time.monotonic() > begun + max(plan.seconds, LONGEST_RUN):
            break
        time.sleep(0.1)
        weather.look()
    weather.clear()
    if plan.hunted:
        hunt.stop()
    mischief.stop()
    pushers.stop()
    crowd.stop()
    seconds = time.monotonic() - begun
    done = [*ledger.done, *evictions(gateway.log_text(), time.time() - time.monotonic())]
    evidence = Evidence(ledger.seen, done, [*upstream.front.told, *upstream.cdn.told], blobs_only(upstream, images))
    against = judge(evidence)
    against |= {"not_healed": healed(gateway, images), "not_at_rest": at_rest(gateway, base)}
    against["wrong_at_the_end"] = settled(gateway, access, pushes)
    if plan.delay is not None:
        against["not_collected"] = uncollected(gateway, plan.delay)
    pushed = PushEvidence(pushes.changes, pushes.looks, pushes.steps, ledger.done, pushes.needs, plan.delay)
    against |= judge_pushes(pushed)
    against["bad_ends"] = [f"a stop ended with {status}" for status in (*mischief.ends, gateway.stop()) if status != 0]
    against["left_behind"] = [*leftovers(gateway), *native_leftovers(gateway.data)]
    shown = figures(evidence, mischief.recoveries) | push_figures(pushed)
    return Report(plan.workers, plan.clients, seconds, plan.seed, shown, against)


def settled(gateway: Gateway, access: Access, pushes: PushLedger) -> list[str]:
    """Looks at all that was pushed, on every worker, before and after a restart, which deletes what ended uploads have
    left; returns what came wrong."""
    client = access.client(pushes)
    wrong = look_at_everything(gateway, client)
    status = gateway.stop()
    gateway.start()
    return [*wrong, *look_at_everything(gateway, client), *([f"a stop ended with {status}"] if status else [])]


def warm_up(gateway: Gateway, images: Sequence[Image], access: Access) -> dict[str, int]:
    """Measures descriptors and threads of workers at rest, after each has served a pull, sent a request to the
    upstream, and received a push."""
    small = [image for image in images if image.layer.size <= 1024 * 1024]
    warming = Crowd(Ledger(), gateway.proxied_url, small, 0, 8)
    pushing = Pushers(access, PushLedger(), "warming", 4)
    warming.start()
    pushing.start()
    time.sleep(3)
    pushing.stop()
    warming.stop()
    deadline = time.monotonic() + 10
    while (found := unrest(gateway, {"descriptors": 1 << 30, "threads": 1 << 30})) and time.monotonic() < deadline:
        time.sleep(0.2)
    if found:
        raise AssertionError(f"the server does not come to rest before the first fault: {found}")
    return rest_of(gateway)


def blobs_only(upstream: FaultyHub, images: Sequence[Image]) -> dict[str, int]:
    wanted = {content.digest for image in images for content in image.blobs}
    return {digest: count for digest, count in upstream.cdn.gets().items() if digest in wanted}


def healed(gateway: Gateway, images: Sequence[Image]) -> list[str]:
    """Checks that every content is served, complete and right, after all faults have ended, without a restart."""
    try:
        pulled = pull_everything(gateway.proxied_url, images, HEALED_WITHIN)
    except TimeoutError as error:
        return [str(error)]
    return [f"{seen.digest} came wrong" for seen in pulled if not seen.right]


def at_rest(gateway: Gateway, base: dict[str, int]) -> list[str]:
    deadline = time.monotonic() + RESTS_WITHIN
    while (found := unrest(gateway, base)) and time.monotonic() < deadline:
        time.sleep(0.5)
    return found

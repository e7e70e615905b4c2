"""Measures registry-gateway beside its peers and prints ratios: `tests/bench/run [--quick] [--only WORD]`.

Every round starts each server afresh on an empty cache, one after the other, so that both values of a ratio were
measured under the same conditions. `--json FILE` keeps the figures, to compare two commits; `--plot FILE` draws the
ratios, `--table FILE` writes all figures as tables.
"""

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench import pushes, work
from tests.bench.collecting import collecting, history
from tests.bench.command_times import command_times
from tests.bench.far import far_away
from tests.bench.growth import growth
from tests.bench.idle import idle
from tests.bench.logins import logins
from tests.bench.many_tags import many_tags
from tests.bench.measure import ratios, spread
from tests.bench.peers import Constant, Distribution, DockerRegistry, Nginx, Peer, RegistryGateway
from tests.bench.plot import plot
from tests.bench.ranged import ranged
from tests.bench.table import tables
from tests.bench.tag_lists import tag_lists
from tests.bench.tree import tree
from tests.bench.upstream import MB, Upstream

SECONDS = 2.0
Measured = dict[str, list[float]]
CACHES: dict[str, Callable[[], Peer]] = {
    "registry-gateway": RegistryGateway,
    "docker-registry": DockerRegistry,
    "distribution": Distribution,
    "nginx": Nginx,
}
PEERS: dict[str, Callable[[], Peer]] = {
    **CACHES,
    "constant answer": Constant,
    "two workers": lambda: RegistryGateway(workers=2),
    "scrubbing": lambda: RegistryGateway(cache={"scrub_rate": "64MiB"}),
}
STORES: dict[str, Callable[[], Peer]] = {
    "registry-gateway": pushes.GatewayStore,
    "docker-registry": lambda: DockerRegistry(is_store=True),
    "distribution": lambda: Distribution(is_store=True),
}


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of work, the peers that do it, and the figures of `subject` to compare: (figure, peer, target)."""

    name: str
    work: work.Work
    peers: tuple[str, ...]
    targets: tuple[tuple[str, str, str], ...] = ()
    subject: str = "registry-gateway"
    makers: Mapping[str, Callable[[], Peer]] = field(default_factory=lambda: PEERS)


PIECES = [
    Piece(
        "warm, 8 clients",
        work.warm,
        ("registry-gateway", "docker-registry", "distribution", "nginx"),
        (("cpu_per_gb", "nginx", "<= 1.3"), ("wall", "nginx", "<= 1.1")),
    ),
    Piece(
        "cold, 1 client",
        work.cold_one,
        ("registry-gateway", "docker-registry", "distribution", "nginx"),
        (("wall", "docker-registry", "<= 1.15"),),
    ),
    Piece(
        "cold, 16 clients",
        work.cold_many,
        ("registry-gateway", "docker-registry", "distribution", "nginx"),
        (("wall", "docker-registry", "<= 0.5"), ("wall", "nginx", "<= 1.05")),
    ),
    Piece(
        "cold, 8 clients, two workers",
        work.follow,
        ("two workers", "registry-gateway"),
        (("cpu_per_gb", "registry-gateway", "<= 1.3"),),
        subject="two workers",
    ),
    Piece("small requests beside fills and scrub", work.beside_fills, ("scrubbing",)),
    Piece("first byte over the upstream's own", work.first_byte, ("registry-gateway",)),
    Piece(
        "cached tag, keep-alive",
        work.cached_tag,
        ("registry-gateway", "constant answer", "docker-registry"),
        (("rps", "constant answer", ">= 0.7"), ("rps", "docker-registry", ">= 10")),
    ),
    Piece(
        "cached tag, a connection each",
        lambda one: work.cached_tag(one, keep_alive=False),
        ("registry-gateway", "constant answer", "docker-registry"),
        (("rps", "constant answer", ">= 0.7"), ("rps", "docker-registry", ">= 10")),
    ),
    Piece(
        "cached tag, two workers",
        work.cached_tag,
        ("two workers", "registry-gateway"),
        (("rps", "registry-gateway", ">= 1.6"),),
        subject="two workers",
    ),
    Piece("300 slow readers", work.slow_readers, ("registry-gateway", "nginx")),
    Piece(
        "push of 1 GiB, chunked",
        pushes.chunked,
        tuple(STORES),
        (("mb_per_s", "distribution", ">= 1.0"), ("cpu_per_gb", "distribution", "<= 1.2")),
        makers=STORES,
    ),
    Piece(
        "push of 1 GiB, with a length",
        pushes.with_length,
        tuple(STORES),
        (("mb_per_s", "distribution", ">= 1.0"), ("cpu_per_gb", "distribution", "<= 1.2")),
        makers=STORES,
    ),
    Piece(
        "push, 8 clients of 64 MiB",
        pushes.eight_pushers,
        tuple(STORES),
        (("wall", "distribution", "<= 1.0"), ("cpu_per_gb", "distribution", "<= 1.2")),
        makers=STORES,
    ),
    Piece("commits of a push", pushes.commits, tuple(STORES), makers=STORES),
    Piece(
        "push of 30 small layers",
        pushes.small_layers,
        tuple(STORES),
        (("wall", "distribution", "<= 1.0"),),
        makers=STORES,
    ),
    Piece(
        "stored tag, keep-alive",
        pushes.stored_tag,
        tuple(STORES),
        (("rps", "docker-registry", ">= 1.0"),),
        makers=STORES,
    ),
]


def measure(piece: Piece, upstream: Upstream, rounds: int, folder: Path, peers: list[str]) -> dict[str, Measured]:
    found: dict[str, Measured] = {name: defaultdict(list) for name in peers}
    for number in range(rounds):
        for name in peers:
            peer = piece.makers[name]()
            place = folder / f"{name.replace(' ', '-')}-{number}"
            peer.start(place, upstream.url)
            try:
                for figure, value in piece.work(work.Round(peer, upstream, SECONDS)).items():
                    found[name][figure].append(value)
            finally:
                peer.stop()
                shutil.rmtree(place, ignore_errors=True)
    return found


def report(piece: Piece, found: dict[str, Measured]) -> list[dict[str, object]]:
    print(f"\n{piece.name}")
    for name, figures in found.items():
        print(f"  {name:18}", "  ".join(f"{figure} {spread(values)}" for figure, values in figures.items()))
    rows: list[dict[str, object]] = []
    for figure, other, target in piece.targets:
        ratio = ratios(found[piece.subject][figure], found[other][figure])
        print(f"  {figure} / {other}: {ratio}, wanted {target}")
        row = {"piece": piece.name, "figure": figure, "peer": other, "target": target}
        rows.append(row | {"low": ratio.low, "median": ratio.median, "high": ratio.high})
    return rows


def machine() -> str:
    model = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), ": ?")
    processor = f"{os.cpu_count()} x {model.partition(':')[2].strip()}"
    return f"{processor}, Linux {platform.release().partition('-')[0]}, Python {platform.python_version()}"


def main() -> int:
    os.environ["TESTS_FORK"] = "off"  # servers are measured as their users start them
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="under two minutes: fewer rounds, a smaller blob")
    parser.add_argument("--rounds", type=int, help="number of rounds (5, quick: 2)")
    parser.add_argument("--only", metavar="WORD", default="", help="only pieces whose names contain WORD")
    parser.add_argument("--without", metavar="PEER", default="", help="a peer to leave out")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--plot", type=Path, metavar="FILE")
    parser.add_argument("--table", type=Path, metavar="FILE")
    chosen = parser.parse_args()
    rounds = chosen.rounds or (2 if chosen.quick else 5)
    left_out = {chosen.without, "distribution"} if chosen.quick else {chosen.without}
    folder = Path(tempfile.mkdtemp(prefix="registry-gateway-bench-"))
    upstream = Upstream(folder / "upstream", (64 if chosen.quick else 256) * MB)
    rows: list[dict[str, object]] = []
    figures: dict[str, object] = {}
    print(machine())
    try:
        for piece in PIECES:
            if chosen.only in piece.name:
                found = measure(piece, upstream, rounds, folder, [name for name in piece.peers if name not in left_out])
                figures[piece.name] = found
                rows += report(piece, found)
        for name, extra in (
            ("ranged fill", ranged),
            ("growth", growth),
            ("tree", tree),
            ("logins", logins),
            ("idle", idle),
            ("far away", far_away),
            ("many tags", many_tags),
            ("tag lists", tag_lists),
            ("history", history),
            ("collecting", collecting),
            ("commands", command_times),
        ):
            if chosen.only in name:
                figures[name] = extra(folder, rounds, chosen.quick)
    finally:
        upstream.stop()
        shutil.rmtree(folder, ignore_errors=True)
    measured = {"machine": machine(), "ratios": rows, "figures": figures}
    if chosen.json:
        chosen.json.write_text(json.dumps(measured, indent=1))
    if chosen.plot:
        chosen.plot.write_text(plot(rows))
    if chosen.table:
        chosen.table.write_text(tables(measured))
    return 0


if __name__ == "__main__":
    sys.exit(main())

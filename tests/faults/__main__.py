"""Command line of the mix of faults: python -m tests.faults --seconds 90 --seed 1 --seeds 10 --workers 2"""

import argparse
import logging
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from tests.parts.registry import Registry

from .ledger import Deed
from .mix import DEEDS, Plan, run
from .recovery import recovery_line
from .report import Report


def main() -> int:
    words = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    words.add_argument("--seconds", type=float, default=90)
    words.add_argument("--seed", type=int, default=1)
    words.add_argument("--seeds", type=int, default=1, metavar="N", help="N runs with one seed after another")
    words.add_argument("--workers", type=int, default=2)
    words.add_argument("--clients", type=int, default=20)
    words.add_argument("--pushers", type=int, default=Plan.pushers, help="clients that push to native repositories")
    words.add_argument("--delay", type=float, help="seconds after which pushed content that nothing needs is collected")
    words.add_argument(
        "--faults", type=float, default=Plan.faults, help="the share of spoilt responses of the upstream"
    )
    words.add_argument(
        "--deeds",
        default=",".join(deed.value for deed in DEEDS),
        help="the deeds that are done to the server; empty: none",
    )
    words.add_argument("--pairs", default="", help="the pairs of faults to draw from, separated by commas; empty: all")
    words.add_argument(
        "--json", type=Path, metavar="FILE", help="write the figures and every violation, one document for each run"
    )
    words.add_argument("--keep", type=Path, metavar="DIR", help="keep data folder and log there; no disk is filled")
    words.add_argument("--recovery", type=int, metavar="N", help="only kill fillers, N times, and measure the recovery")
    given = words.parse_args()
    # The upstream's connections are closed in the middle of bodies all the time.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    deeds = {Deed(name): DEEDS[Deed(name)] for name in given.deeds.split(",") if name}
    plan = Plan(
        *(given.seconds, given.seed, given.workers, given.clients, given.faults, given.pushers),
        deeds=deeds,
        pairs=[name for name in given.pairs.split(",") if name],
        small_disk=not given.keep,
        delay=given.delay,
    )
    with tempfile.TemporaryDirectory(prefix="gateway-mix-") as directory:
        registry = Registry(Path(directory) / "registry")
        registry.start()
        try:
            if given.recovery:
                print(recovery_line(Path(directory) / "gateway", registry, given.workers, given.recovery))
                return 0
            reports = []
            for seed in range(given.seed, given.seed + given.seeds):
                folder = (given.keep or Path(directory) / "gateway") / f"seed-{seed}"
                reports.append(run(replace(plan, seed=seed), folder, registry))
                show(reports[-1])
        finally:
            registry.stop()
    if given.json:
        documents = [report.document() for report in reports]
        given.json.write_text("\n".join(documents) + "\n")
    return 0 if all(report.clean for report in reports) else 1


def show(report: Report) -> None:
    """Prints the violations of a run, and its line."""
    for rule, found in report.violations.items():
        for sentence in found[:20]:
            print(f"{rule}: {sentence}")
    print(report.line(), flush=True)


if __name__ == "__main__":
    sys.exit(main())

"""How long commands take from their start to their end, which a person waits for."""

import subprocess
import sys
import time
from pathlib import Path

from tests.bench.measure import spread

COMMANDS = {
    "--help": ["--help"],
    "group --help": ["group", "--help"],
    "help quota": ["help", "quota"],
    "config show": ["config", "show"],
    "group list": ["group", "list"],
    "cache list": ["cache", "list"],
}


def command_times(folder: Path, rounds: int, quick: bool) -> dict[str, float]:
    """Measures each command in turns, on a data folder that was made before."""
    print("\ncommands")
    data = ["--data", str(folder / "commands")]
    _seconds(["group", "create", "team", *data])
    measured: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(rounds):
        for name, words in COMMANDS.items():
            measured[name].append(_seconds(words if name.endswith("help") else [*words, *data]))
    found = {name: spread(values).median for name, values in measured.items()}
    print(" ", "  ".join(f"{name} {value:.3g} s" for name, value in found.items()))
    return found


def _seconds(words: list[str]) -> float:
    begun = time.monotonic()
    argv = [sys.executable, "-m", "gateway", *words]
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.monotonic() - begun

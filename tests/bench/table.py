"""Tables of the figures in Markdown, for the page on speed; missed targets are marked."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import ge, le
from typing import Any

US, COLUMNS = "registry-gateway", ("registry-gateway", "docker-registry", "distribution", "nginx")
COMPARE = {"<=": le, ">=": ge}
FAR_AWAY = (("crane straight", 1.05), ("skopeo straight", 0.9), ("docker-registry", 0.5))
COMMAND_SECONDS = "<= 0.3"
TREE = {
    "start_s": "start: s",
    "cold_ms": "first decision: ms",
    "warm_ms": "decision: ms",
    "page_ms": "100 of the list: ms",
    "new_project_ms": "new project: ms",
    "del_project_ms": "deleted project: ms",
    "del_user_ms": "deleted user: ms",
}
OWN = "first byte over the upstream's own"


@dataclass(frozen=True, slots=True)
class Line:
    """One row of the table: the median of a figure of a piece of work, times `scale`. `wanted` is the target if no peer
    is the measure."""

    label: str
    piece: str
    figure: str
    scale: float = 1
    wanted: str = ""
    subject: str = US


LINES = [
    Line("warm, 8 clients: CPU seconds per GB", "warm, 8 clients", "cpu_per_gb"),
    Line("warm, 8 clients: seconds", "warm, 8 clients", "wall"),
    Line("warm, 8 clients: a small request at the same time, p99, ms", "warm, 8 clients", "small_p99", 1000, "<= 100"),
    Line("cold, 1 client: seconds", "cold, 1 client", "wall"),
    Line("cold, 16 clients: seconds", "cold, 16 clients", "wall"),
    Line("cold, 16 clients: GETs of the blob at the upstream", "cold, 16 clients", "upstream_gets", 1, "<= 1"),
    Line("first byte later than the upstream's own, 1 MB, 1 client: ms", OWN, "small_1", 1000, "<= 20"),
    Line("first byte later than the upstream's own, 1 MB, 16 clients: ms", OWN, "small_16", 1000, "<= 20"),
    Line("first byte later than the upstream's own, 256 MiB, 1 client: ms", OWN, "large_1", 1000, "<= 20"),
    Line("first byte later than the upstream's own, 256 MiB, 16 clients: ms", OWN, "large_16", 1000, "<= 20"),
    Line("cached tag, kept connections: requests/s", "cached tag, keep-alive", "rps"),
    Line("cached tag, a new connection each: requests/s", "cached tag, a connection each", "rps"),
    Line(
        "cached tag, two workers, kept connections: requests/s", "cached tag, two workers", "rps", subject="two workers"
    ),
    Line(
        "cold, two workers, 8 clients: CPU seconds per GB",
        "cold, 8 clients, two workers",
        "cpu_per_gb",
        1,
        "",
        "two workers",
    ),
    Line(
        "a small request during fills and a scrub, p99: ms",
        "small requests beside fills and scrub",
        "small_p99",
        1000,
        "<= 100",
        "scrubbing",
    ),
    Line("300 clients at 10 KiB/s: growth of memory, MB", "300 slow readers", "grown_mb", 1, "<= 60"),
    Line(
        "300 clients at 10 KiB/s: speed of a fast client, relative to alone",
        "300 slow readers",
        "speed_kept",
        1,
        ">= 0.8",
    ),
    Line("push of 1 GiB as docker sends it: MB/s", "push of 1 GiB, chunked", "mb_per_s"),
    Line("push of 1 GiB as docker sends it: CPU seconds per GB", "push of 1 GiB, chunked", "cpu_per_gb"),
    Line("push of 1 GiB with a length: MB/s", "push of 1 GiB, with a length", "mb_per_s"),
    Line("push of 1 GiB with a length: CPU seconds per GB", "push of 1 GiB, with a length", "cpu_per_gb"),
    Line("push, 8 clients of 64 MiB: seconds", "push, 8 clients of 64 MiB", "wall"),
    Line("push, 8 clients of 64 MiB: CPU seconds per GB", "push, 8 clients of 64 MiB", "cpu_per_gb"),
    Line(
        "push, 8 clients: a small request at the same time, p99, ms",
        "push, 8 clients of 64 MiB",
        "small_p99",
        1000,
        "<= 100",
    ),
    Line("end of a push of 2 GiB, relative to that of 10 MiB", "commits of a push", "large_over_small", 1, "<= 2"),
    Line("push of an image of 30 layers of 100 kB: seconds", "push of 30 small layers", "wall"),
    Line("stored tag, kept connections: requests/s", "stored tag, keep-alive", "rps"),
]


def tables(measured: dict[str, Any]) -> str:
    """Renders what `--json` keeps; pieces that were not measured are left out."""
    figures = measured["figures"]
    rows = ["| work | " + " | ".join(COLUMNS) + " | ratio | target |", "| --- " * (len(COLUMNS) + 3) + "|"]
    for line in LINES:
        if line.piece in figures:
            ratios = [row for row in measured["ratios"] if (row["piece"], row["figure"]) == (line.piece, line.figure)]
            rows += _rows(line, figures[line.piece], ratios)
    if "ranged fill" in figures:
        rows.append(_ranged(figures["ranged fill"]))
    if "far away" in figures:
        rows += [row for distance, seconds in figures["far away"].items() for row in _far(distance, seconds)]
    if "idle" in figures:
        value = statistics.median(figures["idle"]["percent"])
        cells = [_cell(figures["idle"]["percent"], 1), *[""] * (len(COLUMNS) - 1)]
        rows.append(_row("two workers that nobody uses: percent of a core", cells, "", _wanted("<= 0.5", value)))
    if "many tags" in figures:
        rows += _many_tags(figures["many tags"])
    if "commands" in figures:
        rows += _commands(figures["commands"])
    if "growth" in figures:
        rows += ["", "| entries | start: s | first hit: ms | hit: ms | memory: MB |", "| --- " * 5 + "|"]
        rows += [
            f"| {int(count):,} | {of['start_s']:.2f} | {of['first_hit_ms']:.1f} | {of['hit_ms']:.1f} | "
            f"{of['memory_mb']:.0f} |"
            for count, of in figures["growth"].items()
        ]
    if "tree" in figures:
        rows += ["", f"| projects | {' | '.join(TREE.values())} |", "| --- " * (len(TREE) + 1) + "|"]
        rows += [
            f"| {int(count):,} | {' | '.join(f'{of[name]:.3g}' for name in TREE)} |"
            for count, of in figures["tree"].items()
        ]
    return "\n".join(rows) + "\n"


def _rows(line: Line, found: dict[str, dict[str, list[float]]], ratios: Sequence[dict[str, Any]]) -> list[str]:
    cells = [
        _cell(found.get(line.subject if name == US else name, {}).get(line.figure), line.scale) for name in COLUMNS
    ]
    if line.wanted:
        value = statistics.median(found[line.subject][line.figure]) * line.scale
        return [_row(line.label, cells, "", _wanted(line.wanted, value))]
    rows = []
    for ratio in ratios:
        other = {US: "one worker", "constant answer": "a constant response on Hypercorn"}.get(
            ratio["peer"], ratio["peer"]
        )
        text = f"{_range(ratio['low'], ratio['median'], ratio['high'])} of {other}"
        rows.append(_row(line.label, cells, text, _wanted(ratio["target"], ratio["median"])))
        line, cells = Line("", line.piece, line.figure), [""] * len(COLUMNS)
    return rows


def _ranged(found: dict[str, list[float]]) -> str:
    times = [one / ours for one, ours in zip(found["one_connection"], found["ours"], strict=True)]
    value = statistics.median(times)
    text = f"{_range(min(times), value, max(times))} times one connection"
    return _row("cold, an upstream with 10 MB/s per connection", [""] * len(COLUMNS), text, _wanted(">= 3", value))


def _many_tags(found: dict[str, float]) -> list[str]:
    places = {"first_ms": "first", "last_ms": "last"}
    empty = [""] * (len(COLUMNS) - 1)
    return [
        _row(
            f"the {place} 100 of 100,000 tags: ms", [_cell([found[name]], 1), *empty], "", _wanted("<= 10", found[name])
        )
        for name, place in places.items()
    ]


def _commands(seconds: dict[str, float]) -> list[str]:
    empty = [""] * (len(COLUMNS) - 1)
    return [
        _row(f"`{name}`: s", [_cell([value], 1), *empty], "", _wanted(COMMAND_SECONDS, value) if "help" in name else "")
        for name, value in seconds.items()
    ]


def _far(distance: str, seconds: dict[str, list[float]]) -> list[str]:
    """Rows of pulls from a far-away upstream, with a target for each other way."""
    cells = [_cell(seconds.get(name), 1) for name in COLUMNS]
    rows, label = [], f"cold, 12 layers of 1 MB, an upstream with TLS {distance} away: seconds"
    for other, target in FAR_AWAY:
        pairs = [mine / its for mine, its in zip(seconds[US], seconds[other], strict=True)]
        value = statistics.median(pairs)
        text = f"{_range(min(pairs), value, max(pairs))} of {other}"
        rows.append(_row(label, cells, text, _wanted(f"<= {target}", value)))
        label, cells = "", [""] * len(COLUMNS)
    return rows


def _row(label: str, cells: Sequence[str], ratio: str, wanted: str) -> str:
    return f"| {' | '.join([label, *cells, ratio, wanted])} |"


def _cell(values: Sequence[float] | None, scale: float) -> str:
    if not values:
        return ""
    value = statistics.median(values) * scale
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _range(low: float, median: float, high: float) -> str:
    return f"{median:.2f} ({low:.2f} to {high:.2f})"


def _wanted(target: str, value: float) -> str:
    sign, _, limit = target.partition(" ")
    holds: Callable[[float, float], bool] = COMPARE[sign]
    return target.replace("<=", "≤").replace(">=", "≥") + ("" if holds(value, float(limit)) else ": not met")

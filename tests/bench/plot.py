"""Ratios as a picture: a bar from the lowest to the highest round, a mark at the median, a line at 1."""

import math
from collections.abc import Sequence
from html import escape
from typing import Any

WIDTH, ROW, LEFT, TOP = 960, 30, 480, 40


def plot(rows: Sequence[dict[str, Any]]) -> str:
    """Draws an SVG with a logarithmic scale, on which a third and three times are equally far from equal."""
    low = min(0.25, *(row["low"] for row in rows))
    high = max(4.0, *(row["high"] for row in rows))

    def x(value: float) -> float:
        return LEFT + (WIDTH - LEFT - 30) * (math.log(value / low) / math.log(high / low))

    parts = []
    for place, row in enumerate(rows):
        y = TOP + place * ROW
        label = escape(f"{row['piece']}: {row['figure']} / {row['peer']} ({row['target']})")
        parts.append(f'<text x="{LEFT - 10}" y="{y + 5}" text-anchor="end">{label}</text>')
        parts.append(f'<line x1="{x(row["low"]):.1f}" x2="{x(row["high"]):.1f}" y1="{y}" y2="{y}" class="range"/>')
        parts.append(f'<circle cx="{x(row["median"]):.1f}" cy="{y}" r="5"/>')
        parts.append(f'<text x="{x(row["median"]):.1f}" y="{y - 9}" class="value">{row["median"]:.2f}</text>')
    height = TOP + len(rows) * ROW
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" '
        'font-size="12">'
        "<style>text{fill:#333}.range{stroke:#4a7;stroke-width:6;stroke-linecap:round}circle{fill:#153}"
        ".value{text-anchor:middle;font-size:10px}.one{stroke:#999;stroke-dasharray:3}</style>"
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>'
        f'<line class="one" x1="{x(1):.1f}" x2="{x(1):.1f}" y1="15" y2="{height - 10}"/>{"".join(parts)}</svg>\n'
    )

"""Charts: bars by the day as shapes of a picture, which a template draws; pure."""

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 640.0, 120.0
"""Units of the picture's own measure; a browser scales it."""

WIDEST = 48.0
_GAP = 0.25


@dataclass(frozen=True, slots=True)
class Block:
    """A part of a bar, from above; `kind`: by which the style sheet colours it."""

    kind: str
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar with its parts. `text`: what a browser shows where a pointer rests on it."""

    x: float
    width: float
    blocks: tuple[Block, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Column:
    """The values of a bar, from the ground up, by their kinds, and what they say in words."""

    values: Sequence[tuple[str, float]]
    text: str


def bars(columns: Sequence[Column], most: float) -> tuple[Bar, ...]:
    """Draw bars side by side. `most`: the value as high as the picture."""
    step = WIDTH / max(len(columns), 1)
    width = min(step * (1 - _GAP), WIDEST)
    return tuple(
        Bar(round(step * number + (step - width) / 2, 2), round(width, 2), _blocks(column, most), column.text)
        for number, column in enumerate(columns)
    )


def _blocks(column: Column, most: float) -> tuple[Block, ...]:
    ground, blocks = HEIGHT, list[Block]()
    for kind, value in column.values:
        height = HEIGHT * value / most if most > 0 else 0.0
        ground -= height
        if height > 0:
            blocks.append(Block(kind, round(ground, 2), round(height, 2)))
    return tuple(blocks)

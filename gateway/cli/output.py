"""Output of commands: tables and lines for people, JSON for scripts, progress on a terminal.

What draws on a terminal is imported where there is one: scripts need not wait for it.
"""

import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from gateway.cli import readable
from gateway.namespaces.expiry import format_moment

Document = Mapping[str, object]

_STYLES = {
    **dict.fromkeys(("ok", "fresh", "active", "running"), "green"),
    **dict.fromkeys(("warning", "stale", "known", "not run", "finished"), "yellow"),
    **dict.fromkeys(("FAILED", "expired", "revoked", "blocked", "absent"), "red"),
}
"""Colours of words on a terminal; NO_COLOR in the environment turns them off."""


def print_json(document: Document | Sequence[Document]) -> None:
    """Print one JSON document."""
    print(json.dumps(document, indent=2))


async def print_json_pages(pages: AsyncIterator[Sequence[Document]]) -> None:
    """Print the documents of all pages as one JSON array, each page as soon as it is there."""
    before = "["
    async for page in pages:
        if page:
            print(before + json.dumps(page, indent=2)[1:-2], end="")
            before = ","
    print("[]" if before == "[" else "\n]")


async def print_table_pages(headings: Sequence[str], pages: AsyncIterator[Sequence[Sequence[str]]]) -> None:
    """Print each page of rows as soon as it is there, the first one below the headings."""
    async for page in pages:
        print_table(headings, page)
        headings = ()


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on a terminal; elsewhere lines of tab-separated values. Without headings, print rows alone."""
    if not sys.stdout.isatty():
        for line in [headings, *rows] if headings else rows:
            print("\t".join(line))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", show_header=bool(headings))
    for heading in headings or ("",) * max(map(len, rows), default=0):
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(Text(text, _STYLES.get(text, "")) for text in row))
    Console().print(table)


def print_columns(documents: Sequence[Document], columns: Sequence[str]) -> None:
    """Print the named values of documents as a table, a row for each document."""
    now = datetime.now(UTC)
    print_table(readable.headings(columns), [readable.row(document, columns, now) for document in documents])


def print_values(document: Document) -> None:
    """Print a document as lines of names and values; a list has a line for each entry."""
    now = datetime.now(UTC)
    rows: list[tuple[str, str]] = []
    for key, value in document.items():
        entries = value if isinstance(value, list) and value else [value]
        rows += [(readable.label(key), readable.cell(key, entry, now)) for entry in entries]
    print_table((), rows)


def print_line(document: Document) -> None:
    """Print a document as one line of names and values."""
    now = datetime.now(UTC)
    print(", ".join(f"{readable.label(name)}: {readable.cell(name, value, now)}" for name, value in document.items()))


@contextmanager
def byte_count(what: str) -> Iterator[Callable[[int], None]]:
    """Count bytes on a line of the terminal; prints nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda size: None
        return
    from rich.progress import Progress

    with Progress("{task.description}", "{task.completed} bytes") as progress:
        task = progress.add_task(what, total=None)
        yield lambda size: progress.advance(task, size)


@contextmanager
def progress_bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Draw the share of `total` bytes that is done on the terminal; prints nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda size: None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    with Progress("{task.description}", BarColumn(), DownloadColumn(), TimeRemainingColumn()) as progress:
        task = progress.add_task(what, total=total)
        yield lambda size: progress.advance(task, size)


def time_text(moment: datetime | None) -> str | None:
    """Write a time, or None for none."""
    return format_moment(moment) if moment else None

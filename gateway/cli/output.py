"""Output of commands: tables and lines for people, JSON for scripts, progress on a terminal.

What draws on a terminal is imported where there is one: scripts need not wait for it.
"""

import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime

from gateway.namespaces.expiry import format_moment

Document = Mapping[str, object]


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
    """Print each page of rows as a table of its own, as soon as it is there."""
    async for page in pages:
        print_table(headings, page)


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on a terminal; elsewhere lines of tab-separated values, without headings."""
    if not sys.stdout.isatty():
        for row in rows:
            print("\t".join(row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*headings, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)


def print_columns(documents: Sequence[Document], columns: Sequence[str]) -> None:
    """Print the named values of documents as a table, a row for each document."""
    rows = [[_text(document[column]) for column in columns] for document in documents]
    print_table([column.capitalize() for column in columns], rows)


def print_values(document: Document) -> None:
    """Print a document as a table of names and values; a list has a row for each entry."""
    rows: list[tuple[str, str]] = []
    for key, value in document.items():
        entries = value if isinstance(value, list) else [value]
        rows += [(key, _text(entry)) for entry in entries]
    print_table(["", "Value"], rows)


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


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items() if item is not None)
    return "-" if value is None else str(value)


def time_text(moment: datetime | None) -> str | None:
    """Write a time, or None for none."""
    return format_moment(moment) if moment else None

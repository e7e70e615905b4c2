"""Revisions of gateway.db: which ones a program can use, and what it says of the others."""

from dataclasses import dataclass

from cache.sqlite import DatabaseOutdated, DatabaseUnusable, newest_revision

MIGRATIONS = "gateway.db:migrations"


@dataclass(frozen=True, slots=True)
class SchemaRevision:
    """Revision of a database; None if it is empty."""

    number: str | None
    oldest_program: str | None = None
    """The oldest revision whose programs can use the database; None if no migration has said so."""


def needed_revision() -> str:
    """Find the revision that this program needs and upgrades to."""
    return newest_revision(MIGRATIONS)


def check_usable(database: object, found: SchemaRevision, needed: str) -> None:
    """Check that a program can use a database that is not empty; `database` names it in errors.

    Raises DatabaseOutdated, DatabaseUnusable.
    """
    if found.number is None or found.number == needed:
        return
    if found.number.isdecimal() and found.number < needed:
        raise DatabaseOutdated(f"{database} has revision {found.number}, and this version needs {needed}")
    if found.oldest_program is None or found.oldest_program > needed:
        raise DatabaseUnusable(
            f"{database} has revision {found.number}, which this version cannot use: use the version that upgraded it"
        )

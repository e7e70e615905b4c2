"""Clock that was wrong for one pull, seen from afterwards: it has dated rows of the index in the future."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from .library import Image

AHEAD = 400 * 86_400.0
LOCK_WAIT = 30.0
TOLERATED = 60.0
DATED = {"pointers": ("checked_at",), "sightings": ("first_seen", "last_seen")}


def date_in_the_future(index: Path, image: Image) -> None:
    """Date everything that the index says about the image's tags more than a year ahead."""
    with closing(sqlite3.connect(index, timeout=LOCK_WAIT)) as database, database:
        for table, columns in DATED.items():
            changes = ", ".join(f"{column} = {column} + {AHEAD}" for column in columns)
            database.execute(
                f"UPDATE {table} SET {changes} WHERE image_id IN (SELECT id FROM images WHERE name = ?)", (image.name,)
            )


def future_dates(index: Path) -> Iterator[str]:
    """Sentences about tags whose last check is still dated in the future."""
    with closing(sqlite3.connect(index)) as database:
        found = database.execute(
            "SELECT name, tag, checked_at FROM pointers JOIN images ON images.id = image_id WHERE checked_at > ?",
            (time.time() + TOLERATED,),
        )
        for name, tag, moment in found:
            yield f"cache.db: the check of {name}:{tag} is {moment - time.time():.0f} s in the future"

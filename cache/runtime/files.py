"""Files that this program makes: for its own user alone, and never where a link that somebody else placed leads.

A folder may be one in which others can write. A name in it may therefore be a link already, or become one at any time;
a new file is made under a name that nobody could foresee, or not at all where its name is taken.
"""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_DRAFT = ".draft"


def create(path: Path) -> int:
    """Create a file, and return a descriptor for writing. Raises FileExistsError where there is anything, OSError."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def ensure(path: Path) -> None:
    """Create an empty file unless there is anything of that name. Raises OSError."""
    with suppress(FileExistsError):
        os.close(create(path))


def write_new(path: Path, content: bytes, *, durable: bool = False) -> None:
    """Create a file with this content. Raises FileExistsError where there is anything, OSError."""
    with open(create(path), "wb") as file:
        file.write(content)
        if durable:
            file.flush()
            os.fsync(file.fileno())


def replace(path: Path, content: bytes) -> os.stat_result:
    """Give a name to a new file with this content, in place of any other; return its status. Raises OSError.

    A reader sees the content before or the new one, also after the process was killed.
    """
    with draft(path, content) as new:
        found = new.stat()
        new.replace(path)
    return found


@contextmanager
def draft(path: Path, content: bytes, *, durable: bool = False) -> Iterator[Path]:
    """Write content to a new file beside `path`, which is deleted at the end of the block unless it was renamed."""
    new = path.with_name(f".{path.name}.{secrets.token_hex(8)}{_DRAFT}")
    try:
        write_new(new, content, durable=durable)
        yield new
    finally:
        new.unlink(missing_ok=True)


def sync_file(path: Path) -> None:
    """Make the content of a file durable. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def delete_drafts(folder: Path) -> None:
    """Delete the drafts of processes that were killed. Raises OSError."""
    for left in folder.glob(f".*{_DRAFT}"):
        left.unlink(missing_ok=True)

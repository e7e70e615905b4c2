"""File with the password that was generated for the first administrator; it exists until that password is changed."""

from contextlib import suppress
from pathlib import Path

from cache.runtime.disk import sync_folder
from cache.runtime.files import draft

ROOT_PASSWORD_FILE = "root-password"


def write(keys_directory: Path, password: str) -> None:
    """Write the file, durably, in place of an older one. Raises OSError."""
    file = keys_directory / ROOT_PASSWORD_FILE
    keys_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with draft(file, f"{password}\n".encode(), durable=True) as new:
        new.replace(file)
    sync_folder(keys_directory)


def find(keys_directory: Path) -> str | None:
    """Find the password; None without a file, or with one that cannot be read."""
    try:
        return (keys_directory / ROOT_PASSWORD_FILE).read_text().removesuffix("\n")
    except (OSError, UnicodeDecodeError):
        return None


def drop(keys_directory: Path) -> None:
    """Delete the file if there is one; a file that stays is deleted at the next start. Raises nothing."""
    with suppress(OSError):
        (keys_directory / ROOT_PASSWORD_FILE).unlink(missing_ok=True)

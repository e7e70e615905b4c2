"""The disk below a folder: its free space, whether an error means that it is full, and durable names."""

import errno
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class DiskSpace:
    """Space of a file system. `free`: bytes that this user may still write. `files` is 0 where files are unlimited."""

    free: int
    size: int
    free_files: int
    files: int

    def lacks(self, free: int, free_files: int) -> bool:
        """Whether fewer bytes, or fewer files, than these are free."""
        return self.free < free or self.lacks_files(free_files)

    def lacks_files(self, free_files: int) -> bool:
        """Whether fewer files than these are free: a file system whose inodes are used up takes no file."""
        return self.files > 0 and self.free_files < free_files


def disk_space(folder: Path) -> DiskSpace:
    """Space of the file system that holds the folder. Raises OSError."""
    found = os.statvfs(folder)
    return DiskSpace(found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize, found.f_favail, found.f_files)


def is_disk_full(error: OSError) -> bool:
    """Whether the disk, or this user's share of it, was full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable: files renamed or linked into it survive a power failure. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

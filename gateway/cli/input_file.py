"""Files that are named on the command line: opened when it is read, by the user who typed it.

A command that root runs becomes another user before it does anything else, who may not be able to read them.
"""

import os
from pathlib import Path
from typing import BinaryIO


class InputFile:
    """A file to read, or why it cannot be opened, which whoever reads it is told."""

    def __init__(self, path: Path, *, flags: int = 0) -> None:
        self.path = path
        self._error: OSError | None = None
        self._file: BinaryIO | None = None
        try:
            self._file = os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags), "rb")
        except OSError as error:
            self._error = error

    def __str__(self) -> str:
        return str(self.path)

    def open(self) -> BinaryIO:
        """The open file, which the caller closes. Raises OSError."""
        if self._file is None:
            raise self._error or FileNotFoundError(self.path)
        return self._file

    def read_text(self) -> str:
        """Read the whole file, and close it. Raises OSError, UnicodeDecodeError."""
        with self.open() as file:
            return file.read().decode()


def input_file(text: str) -> InputFile:
    """Open a file to be read; `-` for standard input is opened by whoever reads that."""
    return InputFile(Path(text))


def patient_file(text: str) -> InputFile:
    """Open a file that is no pipe: nobody waits for the other end of one."""
    return InputFile(Path(text), flags=os.O_NONBLOCK)

"""Progress of `cache warm`: one line that is drawn anew on a terminal, a line for each finished image elsewhere."""

import shutil
import threading
import time
from typing import TextIO

from cache.proxy.warming import WarmingProgress
from gateway.settings.units import format_bytes, format_share

_REDRAW_SECONDS = 0.1
_CLEAR = "\r\x1b[K"


def progress_text(image: str, number: int, count: int, done: int, expected: int, seconds: float) -> str:
    """Write what is under way: `warming 3/40 ghcr.io/acme/app:v1.4 120/300 MiB 45 MiB/s`."""
    text = f"warming {number}/{count} {image}"
    if expected:
        text += f" {format_share(done, expected)}"
    if done > 0 and seconds > 0:
        text += f" {format_bytes(round(done / seconds))}/s"
    return text


class ProgressLine(WarmingProgress):
    """Draws the progress on a terminal. Lines of a log that are written to it stand above the line."""

    def __init__(self, terminal: TextIO) -> None:
        self._terminal = terminal
        self._lock = threading.Lock()
        self._image, self._number, self._count = "", 0, 0
        self._done = self._expected = 0
        self._begun = self._drawn = 0.0

    def begin(self, image: str, number: int, count: int) -> None:
        with self._lock:
            self._image, self._number, self._count = image, number, count
            self._done = self._expected = 0
            self._begun = time.monotonic()
            self._draw()

    def expect(self, size: int) -> None:
        with self._lock:
            self._expected += size
            self._draw()

    def arrived(self, size: int) -> None:
        with self._lock:
            self._done += size
            if time.monotonic() - self._drawn >= _REDRAW_SECONDS:
                self._draw()

    def write(self, text: str, /) -> int:
        with self._lock:
            self._terminal.write(f"{_CLEAR}{text}")
            self._draw()
        return len(text)

    def flush(self) -> None:
        self._terminal.flush()

    def close(self) -> None:
        """Take the line away."""
        with self._lock:
            self._image = ""
            self._draw()

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        seconds = self._drawn - self._begun
        text = progress_text(self._image, self._number, self._count, self._done, self._expected, seconds)
        width = shutil.get_terminal_size().columns
        self._terminal.write(f"{_CLEAR}{text[: width - 1] if self._image else ''}")
        self._terminal.flush()


class ProgressLines(WarmingProgress):
    """Prints a line for each image of which something was fetched."""

    def __init__(self) -> None:
        self._label = ""
        self._expected = 0

    def begin(self, image: str, number: int, count: int) -> None:
        self._label, self._expected = f"warmed {number}/{count} {image}", 0

    def expect(self, size: int) -> None:
        self._expected += size

    def end(self) -> None:
        if self._expected:
            print(f"{self._label} {format_bytes(self._expected)}", flush=True)

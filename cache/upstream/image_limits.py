"""ImageLimits: which images of one source are limited, and which the registry has served; pure.

Some registries are made of several: one part of them is a proxy of a registry that limits, and passes its 429 on, while
all others serve. What a client can choose, such as an image, says nothing about the rest. So a limited image waits by
itself, and images that were served before are tried although another one is limited, until one of them is limited too.
"""

import threading
from collections import OrderedDict

from cache.upstream.allowance import RETRY_CAP

KEPT = 1000
"""Images that are remembered, of which clients can invent any number."""

FIRST_WAIT, LONGEST_WAIT = 5.0, 60.0
"""Seconds for which no image is tried after one that had been served was limited: each time twice as long."""


class ImageLimits:
    """Images by name, for tasks and threads. Moments are seconds of the clock that the caller reads."""

    def __init__(self) -> None:
        self._limited: OrderedDict[str, float] = OrderedDict()
        self._served: OrderedDict[str, None] = OrderedDict()
        self._began = self._try_at = self._wait = 0.0
        self._lock = threading.Lock()

    def pause(self, image: str, now: float) -> float:
        """Seconds for which nothing is to be sent for an image."""
        with self._lock:
            left = self._limited.get(image, 0.0) - now
            return left if 0 < left <= RETRY_CAP else 0.0  # a longer pause was noted by a clock that was wrong

    def may_try(self, image: str, now: float) -> bool:
        """Whether a request for an image may show that not everything is limited."""
        with self._lock:
            return image in self._served and now >= self._try_at

    def note_served(self, image: str, sent: float) -> bool:
        """Note a success; return whether it shows anything of a limit: not if its request was sent before that."""
        with self._lock:
            self._served[image] = None
            self._served.move_to_end(image)
            if len(self._served) > KEPT:
                self._served.popitem(last=False)
            if sent < self._began:
                return False
            self._limited.pop(image, None)
            self._try_at = self._wait = 0.0
            return True

    def note_limited(self, image: str, until: float, now: float) -> None:
        with self._lock:
            self._began = now
            self._limited[image] = until
            self._limited.move_to_end(image)
            if len(self._limited) > KEPT:
                self._limited.popitem(last=False)
            if image in self._served:
                del self._served[image]
                self._wait = min(max(2 * self._wait, FIRST_WAIT), LONGEST_WAIT)
                self._try_at = now + self._wait

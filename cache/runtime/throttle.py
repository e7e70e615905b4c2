"""LogThrottle: a cause that affects every request alike is logged once a minute, not once per request."""

import threading
import time
from collections.abc import Callable

INTERVAL_SECONDS = 60.0
CAUSES_KEPT = 100


class LogThrottle:
    """Limits log lines to one per cause and interval, over all threads of the process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._logged: dict[str, float] = {}
        self._lock = threading.Lock()

    def due(self, cause: str) -> bool:
        """Whether the cause is to be logged now. Causes must be few: kinds of errors, never names."""
        now = self._clock()
        with self._lock:
            if now - self._logged.get(cause, -INTERVAL_SECONDS) < INTERVAL_SECONDS:
                return False
            self._logged.pop(cause, None)
            self._logged[cause] = now
            if len(self._logged) > CAUSES_KEPT:
                del self._logged[next(iter(self._logged))]
            return True

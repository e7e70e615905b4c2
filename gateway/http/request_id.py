"""New request ids: 26 hexadecimal digits that sort by time. They name a request and protect nothing."""

import random
import time


def new_request_id(now: float | None = None) -> bytes:
    """Make an id. `now`: seconds since the epoch, by default the system's time."""
    seconds = time.time() if now is None else now
    return b"%011x%015x" % (int(seconds * 1000), random.getrandbits(60))

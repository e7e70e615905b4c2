"""Request ids of our own: 26 hexadecimal digits that sort by time. They name a request and guard nothing."""

import random
import time


def new_request_id() -> bytes:
    return b"%011x%015x" % (int(time.time() * 1000), random.getrandbits(60))

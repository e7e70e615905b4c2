"""Request ids of our own: 26 letters and digits that sort by time."""

import secrets
import time

_ALPHABET = b"0123456789abcdefghjkmnpqrstvwxyz"


def new_request_id() -> bytes:
    number = (int(time.time() * 1000) << 80) | secrets.randbits(80)
    return bytes(_ALPHABET[number >> shift & 31] for shift in range(125, -1, -5))

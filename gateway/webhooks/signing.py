"""Signing of what webhooks are sent (Standard Webhooks 1.0): the id, the time and the body, by HMAC-SHA256.

A receiver that checks the signature and the time takes nothing from others, and nothing twice once it remembers ids.
"""

import hmac
from base64 import b64decode, b64encode
from binascii import Error

from gateway.webhooks.webhook import WebhookInvalid

PREFIX = "whsec_"
LEAST_BYTES, MOST_BYTES = 24, 64
"""Bytes of a key (Standard Webhooks, "Signature scheme")."""


def parse_key(text: str) -> bytes:
    """Read the key out of a signing token, `whsec_` and base64. Raises WebhookInvalid, which does not repeat it."""
    try:
        key = b64decode(text.removeprefix(PREFIX), validate=True)
    except (Error, ValueError):
        key = b""
    if not text.startswith(PREFIX) or not LEAST_BYTES <= len(key) <= MOST_BYTES:
        form = f"must be {PREFIX} and {LEAST_BYTES} to {MOST_BYTES} bytes in base64"
        raise WebhookInvalid("signing_token", form)
    return key


def sign(key: bytes, id: str, timestamp: int, body: bytes) -> str:
    """The value of the header `webhook-signature`. `timestamp`: seconds since 1970."""
    signed = b".".join([id.encode(), str(timestamp).encode(), body])
    return f"v1,{b64encode(hmac.digest(key, signed, 'sha256')).decode()}"

"""Refusals: the reason that a response states, for people; pure."""

import json
from collections.abc import Collection
from urllib.parse import unquote

TEXT_LIMIT = 200
"""Characters of the reason that a refusal states."""


def refusal_text(body: bytes, secrets: Collection[str]) -> str:
    """The reason that a refusal states, as one line; "" where it is a page, or repeats one of the secrets."""
    text = body.decode("utf-8", "replace").strip()
    if text.startswith("{"):
        text = _stated_reason(text)
    line = " ".join(text.split())[:TEXT_LIMIT]
    shown = "".join(character if " " <= character <= "~" else "?" for character in line)
    repeats = any(secret and secret.lower() in form.lower() for secret in secrets for form in (text, unquote(text)))
    return "" if shown.startswith("<") or repeats else shown


def _stated_reason(text: str) -> str:
    """The reason in an error document: of a registry, of OAuth (RFC 6749, section 5.2), or of Docker Hub's token
    service, which has `details`."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    errors = document.get("errors")
    members = [*(errors[:1] if isinstance(errors, list) else []), document]
    names = ("message", "detail", "details", "error_description", "error", "code")
    stated = (member.get(name) for member in members if isinstance(member, dict) for name in names)
    return next((reason for reason in stated if isinstance(reason, str) and reason), "")

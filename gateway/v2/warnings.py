"""Warnings to people in responses, by the header of that name (RFC 7234, section 5.5), which no client acts on."""

from collections.abc import MutableMapping
from typing import Any

from starlette.types import Message, Send

_NOTED = "gateway.warning"


def warning_value(text: str) -> str:
    """The value of a header that warns: the code for anything, and no name of this server."""
    return f'299 - "{_quotable(text)}"'


def note_warning(scope: MutableMapping[str, Any], text: str) -> None:
    """Note that the response to a request warns of something, beside what else it may warn of."""
    scope[_NOTED] = text


def with_warning(scope: MutableMapping[str, Any], send: Send) -> Send:
    """The sender of a response, with the warning that was noted for it."""
    text = scope.get(_NOTED)
    if text is None:
        return send

    async def send_with_warning(message: Message) -> None:
        if message["type"] == "http.response.start":
            line = (b"warning", warning_value(text).encode("latin-1"))
            message = {**message, "headers": [*message["headers"], line]}
        await send(message)

    return send_with_warning


def _quotable(text: str) -> str:
    """Text without the characters that a quoted string in a header excludes (RFC 9110, section 5.6.4)."""
    return "".join(character for character in text if " " <= character <= "~" and character not in '"\\')

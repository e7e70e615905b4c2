"""Forms: what a browser sends, and the tokens that only pages of this server hold."""

import hmac
from collections.abc import Mapping, Sequence
from hashlib import sha256
from urllib.parse import parse_qsl

from starlette.requests import Request

from gateway.http.bodies import read_whole, refuse_encoded
from gateway.web.errors import FormRefused, PageError

TOKEN_FIELD = "csrf_token"
"""Name of the field with the token of a form."""

FORM_LIMIT = 256 * 1024
"""Bytes of a form: a thousand tags of 128 characters, and more."""

FIELD_LIMIT = 2000
MEDIA_TYPE = "application/x-www-form-urlencoded"


class Form:
    """Fields of a form or of a query; of several with one name, `one` gives the last."""

    def __init__(self, fields: Sequence[tuple[str, str]] = ()) -> None:
        self._fields = tuple(fields)
        self._last: Mapping[str, str] = dict(fields)

    def one(self, name: str, default: str = "") -> str:
        """The value of a field."""
        return self._last.get(name, default)

    def every(self, name: str) -> list[str]:
        """The values of a field, each once."""
        return list(dict.fromkeys(value for key, value in self._fields if key == name))

    def has(self, name: str) -> bool:
        """Whether a field was sent, as a marked checkbox is."""
        return name in self._last


def parse_form(text: bytes) -> Form:
    """Read fields. Raises PageError."""
    try:
        fields = parse_qsl(text.decode(), keep_blank_values=True, max_num_fields=FIELD_LIMIT, errors="strict")
    except ValueError as error:
        raise PageError("The fields of this request are not UTF-8, or are too many.") from error
    return Form([(name, value.replace("\0", "")) for name, value in fields])


async def read_form(request: Request) -> Form:
    """Read the form of a request. Raises PageError, TooLarge, EncodingUnsupported."""
    refuse_encoded(request)
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != MEDIA_TYPE:
        raise PageError(f"Forms are sent as {MEDIA_TYPE}.")
    return parse_form(await read_whole(request, FORM_LIMIT, "a form"))


def token_of(secret: str) -> str:
    """The token of forms for a secret that the browser keeps in a cookie that no page can read."""
    return sha256(b"form token\0" + secret.encode()).hexdigest()


def check_token(form: Form, secret: str | None) -> None:
    """Check that a form comes from a page that was shown to the browser that keeps a secret. Raises FormRefused."""
    if secret is None or not hmac.compare_digest(form.one(TOKEN_FIELD).encode(), token_of(secret).encode()):
        raise FormRefused("the form has not the token of this browser")


def check_origin(request: Request, url: str) -> None:
    """Check that a form was sent by a page of this server. `url`: where clients reach it. Raises FormRefused.

    Browsers send Origin with each form, and let no page choose it or Host.
    """
    origin = request.headers.get("origin", "")
    scheme, _, host = origin.partition("://")
    schemes = ("https",) if url.startswith("https:") else ("http", "https")
    own = scheme in schemes and host == request.headers.get("host")
    if not own and origin.lower() != url.lower():
        raise FormRefused("the form was sent by a page of another origin, or without one")

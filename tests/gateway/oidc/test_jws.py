"""ID tokens as they are sent: what is read, and everything that is refused before a key is looked for."""

import json
from base64 import urlsafe_b64encode
from typing import Any

import pytest

from gateway.oidc.errors import IdTokenRefused
from gateway.oidc.jws import TOKEN_LIMIT, read_token, resembles_token
from gateway.oidc.keys import parse_key_set
from tests.parts.issuer import SigningKeyOfTests

KEY = SigningKeyOfTests("first")
CLAIMS = {"iss": "https://ci.example.com", "sub": "job"}


def encoded(document: object) -> str:
    raw = document if isinstance(document, bytes) else json.dumps(document, separators=(",", ":")).encode()
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def token(header: dict[str, Any] | bytes, claims: object = CLAIMS, signature: bytes = b"x" * 64) -> str:
    return f"{encoded(header)}.{encoded(claims)}.{encoded(signature)}"


GOOD: dict[str, Any] = {"alg": "ES256", "kid": "first", "typ": "JWT"}


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_a_token_is_verified_by_the_key_that_signed_it(algorithm: str) -> None:
    key, other = SigningKeyOfTests("first", algorithm), SigningKeyOfTests("first", algorithm)
    read = read_token(key.sign(CLAIMS))
    assert (read.key_id, read.algorithm, read.claims) == ("first", algorithm, CLAIMS)
    read.check_signature(parse_key_set(json.dumps({"keys": [key.document]}).encode())["first"])
    with pytest.raises(IdTokenRefused, match="signature"):
        read.check_signature(parse_key_set(json.dumps({"keys": [other.document]}).encode())["first"])


def test_changed_claims_are_not_what_was_signed() -> None:
    head, _, tail = KEY.sign(CLAIMS).split(".")
    forged = read_token(f"{head}.{encoded({**CLAIMS, 'sub': 'other'})}.{tail}")
    with pytest.raises(IdTokenRefused, match="signature"):
        forged.check_signature(parse_key_set(json.dumps({"keys": [KEY.document]}).encode())["first"])


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({**GOOD, "alg": "none"}, "algorithm"),
        ({**GOOD, "alg": "None"}, "algorithm"),
        ({**GOOD, "alg": "HS256"}, "algorithm"),
        ({**GOOD, "alg": "ES256K"}, "algorithm"),
        ({**GOOD, "alg": ["ES256"]}, "algorithm"),
        ({"kid": "first"}, "algorithm"),
        ({**GOOD, "crit": ["exp"]}, "extension"),
        ({**GOOD, "b64": False}, "extension"),
        ({**GOOD, "typ": "at+jwt"}, "another type"),
        ({**GOOD, "typ": 7}, "another type"),
        ({"alg": "ES256"}, "names no key"),
        ({**GOOD, "kid": ""}, "names no key"),
        ({**GOOD, "kid": 1}, "names no key"),
        ({**GOOD, "kid": "k" * 256}, "names no key"),
        (b'{"alg":"ES256","kid":"a","kid":"first"}', "same key twice"),
    ],
)
def test_a_header_that_is_not_accepted_is_refused(header: dict[str, Any] | bytes, reason: str) -> None:
    with pytest.raises(IdTokenRefused, match=reason):
        read_token(token(header))


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        (b'{"sub":"a","sub":"b"}', "same key twice"),
        (b'{"sub":"a"', "cannot be read"),
        (b'{"sub":NaN}', "cannot be read"),
        (b'{"sub":1e999}', "cannot be read"),
        (b'{"a":' + b"[" * 20 + b"]" * 20 + b"}", "nested"),
        (b'{"sub":"\xff"}', "UTF-8"),
    ],
)
def test_claims_that_two_readers_may_read_in_two_ways_are_refused(claims: bytes, reason: str) -> None:
    with pytest.raises(IdTokenRefused, match=reason):
        read_token(token(GOOD, claims))


def test_a_huge_token_is_refused_before_it_is_read() -> None:
    with pytest.raises(IdTokenRefused, match="more than"):
        read_token(token(GOOD, {"sub": "x" * TOKEN_LIMIT}))


@pytest.mark.parametrize(
    "text", ["", "eyJ.eyJ", "eyJa.eyJb", "eyJa.eyJb.", "eyJa.eyJb.c.d", "eyJa=.eyJb.c", "eyJa.eyJb.c d", "a.b.c"]
)
def test_what_is_no_compact_token_is_refused(text: str) -> None:
    with pytest.raises(IdTokenRefused):
        read_token(text)


def test_another_spelling_of_the_same_bytes_is_refused() -> None:
    good = token(GOOD, signature=b"x" * 64)
    assert good.endswith("eA") and read_token(good)
    with pytest.raises(IdTokenRefused, match="mean nothing"):
        read_token(f"{good[:-1]}B")


def test_passwords_and_tokens_of_this_server_do_not_resemble_one() -> None:
    assert resembles_token(KEY.sign(CLAIMS))
    for secret in ("", "correct horse", "rgpat-eyJ.eyJ.x", "eyJust a password", "a.b.c", " eyJa.eyJb.c"):
        assert not resembles_token(secret)

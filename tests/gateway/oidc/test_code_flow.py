"""The code flow: what is derived from the secret of an attempt, and which addresses and responses count."""

from base64 import urlsafe_b64encode
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from gateway.oidc.code_flow import SignInAttempt, authorization_url, check_nonce, check_response, endpoint_of
from gateway.oidc.errors import IdTokenRefused, IssuerUnusable

ISSUER = "https://issuer.example"
ATTEMPT = SignInAttempt("staff", "a secret")


def test_what_is_derived_from_a_secret_differs_by_its_use_and_by_the_issuer() -> None:
    other = SignInAttempt("others", "a secret")
    derived = [ATTEMPT.state, ATTEMPT.nonce, ATTEMPT.verifier, other.state, other.nonce, other.verifier]
    assert len(set(derived)) == 6 and {len(text) for text in derived} == {43}
    assert SignInAttempt("staff", "a secret") == ATTEMPT and "a secret" not in repr(ATTEMPT)


def test_a_browser_is_sent_with_the_challenge_and_not_with_the_verifier() -> None:
    metadata = {"authorization_endpoint": f"{ISSUER}/authorize?tenant=1"}
    url = authorization_url(metadata, "me", "https://registry.example/callback", ATTEMPT)
    query = dict(parse_qsl(urlsplit(url).query))
    digest = sha256(ATTEMPT.verifier.encode()).digest()
    assert query["code_challenge"] == urlsafe_b64encode(digest).rstrip(b"=").decode()
    assert ATTEMPT.verifier not in url and "a%20secret" not in url and "a+secret" not in url
    assert (query["tenant"], query["scope"], query["response_type"]) == ("1", "openid profile", "code")


@pytest.mark.parametrize(
    "address",
    [
        None,
        7,
        "",
        "http://issuer.example/token",
        "https://",
        "https://a@issuer.example/",
        "https://x/#y",
        "https://[",
        "https://x/\n",
    ],
)
def test_an_address_without_https_is_none(address: Any) -> None:
    with pytest.raises(IssuerUnusable, match="token_endpoint"):
        endpoint_of({"token_endpoint": address}, "token_endpoint")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"state": ""}, "no sign-in of this browser"),
        ({"state": "é"}, "no sign-in of this browser"),
        ({"state": SignInAttempt("others", "a secret").state}, "no sign-in of this browser"),
        ({"iss": "https://other.example"}, "of another issuer"),
        ({"error": "access_denied"}, "access_denied"),
        ({"code": ""}, "no code"),
        ({"code": "x" * 3000}, "no code"),
    ],
)
def test_a_response_that_is_not_of_this_attempt_is_refused(changed: dict[str, str], said: str) -> None:
    good = {"state": ATTEMPT.state, "code": "x", "iss": ISSUER}
    assert check_response(ATTEMPT, ISSUER, good) == "x"
    assert check_response(ATTEMPT, ISSUER, {"state": ATTEMPT.state, "code": "x"}) == "x"
    with pytest.raises(IdTokenRefused, match=said):
        check_response(ATTEMPT, ISSUER, good | changed)


@pytest.mark.parametrize("nonce", [None, 7, "", "x", SignInAttempt("staff", "another secret").nonce])
def test_a_token_of_another_attempt_is_refused(nonce: Any) -> None:
    check_nonce(ATTEMPT, {"nonce": ATTEMPT.nonce})
    with pytest.raises(IdTokenRefused, match="another sign-in"):
        check_nonce(ATTEMPT, {"nonce": nonce})

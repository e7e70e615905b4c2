"""Claims of ID tokens, and rules over them, by a clock that is given."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.namespaces.node import NodeKind
from gateway.namespaces.role import Role
from gateway.oidc.claims import CLOCK_SKEW, IdToken, check_claims
from gateway.oidc.errors import IdTokenRefused
from gateway.oidc.rules import AsUser, ClaimRule, RoleAt, find_rule

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)
SECONDS = int(NOW.timestamp())
SKEW = int(CLOCK_SKEW.total_seconds())
ISSUER, AUDIENCE = "https://ci.example.com", "https://registry.example.com"
GOOD: dict[str, Any] = {"iss": ISSUER, "aud": AUDIENCE, "sub": "job", "iat": SECONDS, "exp": SECONDS + 300, "jti": "1"}


def check(now: datetime = NOW, max_age: timedelta = timedelta(hours=1), **changed: Any) -> IdToken:
    claims = {name: value for name, value in {**GOOD, **changed}.items() if value is not None}
    return check_claims(claims, repr(claims).encode(), ISSUER, AUDIENCE, max_age, now)


def test_a_token_holds_until_it_expires() -> None:
    found = check()
    assert (found.subject, found.issued_at, found.expires_at) == ("job", NOW, NOW + timedelta(seconds=300))
    assert check(NOW + timedelta(seconds=300 + SKEW - 1))
    with pytest.raises(IdTokenRefused, match="expired"):
        check(NOW + timedelta(seconds=300 + SKEW))


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"iss": None}, "another issuer"),
        ({"iss": f"{ISSUER}/"}, "another issuer"),
        ({"iss": [ISSUER]}, "another issuer"),
        ({"aud": None}, "no audience"),
        ({"aud": 7}, "no audience"),
        ({"aud": [AUDIENCE, 7]}, "no audience"),
        ({"aud": []}, "another audience"),
        ({"aud": f"{AUDIENCE}/"}, "another audience"),
        ({"aud": "https://other.example.com"}, "another audience"),
        ({"aud": [AUDIENCE, "other"], "azp": "other"}, "another party"),
        ({"sub": None}, "subject"),
        ({"sub": ""}, "subject"),
        ({"sub": "x" * 256}, "subject"),
        ({"sub": "a\nb"}, "subject"),
        ({"sub": 7}, "subject"),
        ({"exp": None}, "exp is missing"),
        ({"exp": "never"}, "exp is missing"),
        ({"exp": True}, "exp is missing"),
        ({"exp": 10**19}, "exp is no time"),
        ({"iat": None}, "iat is missing"),
        ({"iat": SECONDS + SKEW + 1}, "future"),
        ({"nbf": SECONDS + SKEW + 1}, "future"),
        ({"nbf": "soon"}, "nbf is missing"),
        ({"exp": SECONDS + 86401}, "longer than a day"),
        ({"iat": SECONDS - 3600 - SKEW - 1}, "longer ago"),
        ({"jti": 7}, "jti"),
        ({"jti": ""}, "jti"),
        ({"jti": "j" * 256}, "jti"),
    ],
)
def test_claims_that_do_not_hold_are_refused(changed: dict[str, Any], reason: str) -> None:
    with pytest.raises(IdTokenRefused, match=reason):
        check(**changed)


def test_one_of_several_audiences_is_enough() -> None:
    assert check(aud=["other", AUDIENCE]) and check(aud=["other", AUDIENCE], azp=AUDIENCE)


def test_clocks_may_differ_a_little() -> None:
    assert check(iat=SECONDS + SKEW, nbf=SECONDS + SKEW) and check(iat=SECONDS - 3600 - SKEW)


def test_tokens_are_told_apart_by_their_ids_or_else_by_what_was_signed() -> None:
    assert check(jti="a", sub="x").replay_key == check(jti="a", sub="y").replay_key != check(jti="b").replay_key
    assert check(jti=None, sub="x").replay_key != check(jti=None, sub="y").replay_key


APP = RoleAt(NodeKind.PROJECT, "team/app", Role.DEVELOPER)
CLAIMS = {
    "repository": "acme/app",
    "ref": "refs/heads/main",
    "protected": True,
    "run": 7,
    "groups": ["a", "b"],
    "o": {},
}


@pytest.mark.parametrize(
    ("claims", "matches"),
    [
        ({"repository": "acme/app"}, True),
        ({"repository": "acme/app", "ref": "refs/heads/*"}, True),
        ({"repository": "acme/*"}, True),
        ({"repository": "acme/app2"}, False),
        ({"repository": "acme"}, False),
        ({"repository": "ACME/app"}, False),
        ({"repository": "acme/app", "ref": "refs/tags/*"}, False),
        ({"repository": "acme/app", "environment": "*"}, False),
        ({"protected": "true"}, True),
        ({"protected": "True"}, False),
        ({"run": "7"}, True),
        ({"groups": "b"}, True),
        ({"groups": "c"}, False),
        ({"o": "*"}, False),
    ],
)
def test_a_rule_matches_whole_values_of_all_its_claims(claims: dict[str, str], matches: bool) -> None:
    assert ClaimRule(tuple(claims.items()), APP).matches(CLAIMS) is matches


def test_the_first_rule_counts_and_each_differs() -> None:
    rules = [
        ClaimRule((("repository", "other"),), AsUser("ada")),
        ClaimRule((("repository", "acme/*"),), APP),
        ClaimRule((("ref", "*"),), AsUser("bob")),
    ]
    assert find_rule(rules, CLAIMS) is rules[1]
    assert find_rule(rules[:1], CLAIMS) is None and find_rule([], CLAIMS) is None
    stronger = ClaimRule((("repository", "acme/*"),), RoleAt(NodeKind.PROJECT, "team/app", Role.OWNER))
    assert len({rule.fingerprint for rule in (*rules, stronger)}) == 4
    assert ClaimRule((("b", "2"), ("a", "1")), APP).fingerprint == ClaimRule((("a", "1"), ("b", "2")), APP).fingerprint

"""Tokens of this server, and the forged ones that are refused."""

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.auth.bearer_tokens import CLOCK_SKEW, TOKEN_LIMIT, Backing, TokenRefused, TokenService
from gateway.keys.sealing import Sealer
from gateway.keys.signing import TOKEN_LIFETIME, SigningKeys, rotate
from gateway.namespaces.credentials import CredentialKind, CredentialRef

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TOKEN = Backing(CredentialRef(CredentialKind.PERSONAL_TOKEN, 7), NOW - timedelta(days=1))
PASSWORD = Backing(CredentialRef(CredentialKind.PASSWORD, 1), NOW - timedelta(days=3, microseconds=1))
GRANTED = {"hub/dependency_proxy/containers/library/alpine": frozenset({"pull"})}


class Bench:
    """Tokens of a folder, and the claims and headers of which forged ones are made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.keys = SigningKeys(folder)
        self.tokens = TokenService(self.keys, Sealer(folder))
        self.key = self.keys.current(NOW)
        issued = self.tokens.issue(TOKEN, "alice", GRANTED, NOW).text
        self.claims: dict[str, Any] = jwt.decode(issued, options={"verify_signature": False})

    def signed(self, headers: dict[str, Any] | None = None, **claims: object) -> str:
        """A token that our own key signed, with claims replaced; those that are None are left out."""
        merged = {name: value for name, value in {**self.claims, **claims}.items() if value is not None}
        return jwt.encode(merged, self.key.private, "EdDSA", {"kid": self.key.id, **(headers or {})})

    def by_stranger(self, headers: dict[str, Any]) -> str:
        return jwt.encode(self.claims, STRANGER, "EdDSA", {"kid": self.key.id, **headers})


STRANGER = Ed25519PrivateKey.generate()


def encoded(document: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "keys")


@pytest.mark.parametrize("backing", [None, TOKEN, PASSWORD])
def test_a_token_is_verified_as_it_was_issued_until_it_expires(bench: Bench, backing: Backing | None) -> None:
    issued = bench.tokens.issue(backing, "alice", GRANTED, NOW)
    bearer = bench.tokens.verify(issued.text, NOW + TOKEN_LIFETIME - timedelta(seconds=1))
    assert bearer.backing == backing
    assert dict(bearer.access.actions) == GRANTED
    assert bearer.access.expires_at == issued.issued_at + TOKEN_LIFETIME
    with pytest.raises(TokenRefused, match="expired"):
        bench.tokens.verify(issued.text, NOW + TOKEN_LIFETIME)


def test_only_the_same_request_of_the_same_second_gets_the_same_token(bench: Bench) -> None:
    issued = bench.tokens.issue(TOKEN, "alice", GRANTED, NOW)
    assert bench.tokens.issue(TOKEN, "alice", GRANTED, NOW) == issued
    others = [
        bench.tokens.issue(None, "alice", GRANTED, NOW),
        bench.tokens.issue(PASSWORD, "alice", GRANTED, NOW),
        bench.tokens.issue(TOKEN, "bob", GRANTED, NOW),
        bench.tokens.issue(TOKEN, "alice", {}, NOW),
        bench.tokens.issue(TOKEN, "alice", {"hub/x": frozenset({"pull"})}, NOW),
        bench.tokens.issue(TOKEN, "alice", GRANTED, NOW + timedelta(seconds=1)),
    ]
    assert len({issued.text, *(other.text for other in others)}) == 1 + len(others)


def symmetric(bench: Bench, key: bytes) -> str:
    import hashlib
    import hmac

    signed = f"{encoded({'alg': 'HS256', 'typ': 'JWT', 'kid': bench.key.id})}.{encoded(bench.claims)}"
    mac = hmac.new(key, signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def stranger_document() -> dict[str, str]:
    x = STRANGER.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return {"kty": "OKP", "crv": "Ed25519", "x": base64.urlsafe_b64encode(x).rstrip(b"=").decode()}


FORGED: dict[str, Callable[[Bench], str]] = {
    "alg none": lambda bench: f"{encoded({'alg': 'none', 'kid': bench.key.id})}.{encoded(bench.claims)}.",
    "no signature": lambda bench: bench.signed().rpartition(".")[0] + ".",
    "HS256 with the public key in PEM": lambda bench: symmetric(
        bench, bench.key.public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    ),
    "HS256 with the raw public key": lambda bench: symmetric(
        bench, bench.key.public.public_bytes(Encoding.Raw, PublicFormat.Raw)
    ),
    "another key": lambda bench: bench.by_stranger({}),
    "embedded jwk": lambda bench: bench.by_stranger({"jwk": stranger_document()}),
    "jku": lambda bench: bench.by_stranger({"jku": "https://attacker.example/jwks"}),
    "x5u": lambda bench: bench.by_stranger({"x5u": "https://attacker.example/cert"}),
    "kid path": lambda bench: bench.signed({"kid": "../../../dev/null"}),
    "kid of no file": lambda bench: bench.signed({"kid": "unknown"}),
    "kid that is no text": lambda bench: bench.signed().replace(
        bench.signed().partition(".")[0], encoded({"alg": "EdDSA", "kid": [bench.key.id]})
    ),
    "wrong aud": lambda bench: bench.signed(aud="another"),
    "aud list": lambda bench: bench.signed(aud=["another", "registry-gateway"]),
    "no aud": lambda bench: bench.signed(aud=None),
    "wrong iss": lambda bench: bench.signed(iss="another"),
    "no iss": lambda bench: bench.signed(iss=None),
    "expired": lambda bench: bench.signed(exp=int(NOW.timestamp())),
    "no exp": lambda bench: bench.signed(exp=None),
    "exp that is no number": lambda bench: bench.signed(exp="tomorrow"),
    "exp beyond all times": lambda bench: bench.signed(exp=10**30),
    "future nbf": lambda bench: bench.signed(nbf=int((NOW + CLOCK_SKEW).timestamp()) + 1),
    "future iat": lambda bench: bench.signed(iat=int((NOW + CLOCK_SKEW).timestamp()) + 1),
    "no nbf": lambda bench: bench.signed(nbf=None),
    "unknown crit": lambda bench: bench.signed({"crit": ["x"], "x": 1}),
    "empty crit": lambda bench: bench.signed({"crit": []}),
    "access that is no list": lambda bench: bench.signed(access=7),
    "access of texts": lambda bench: bench.signed(access=["a"]),
    "unknown kind of credential": lambda bench: bench.signed(backing={"ref": "root:1"}),
    "password without its change": lambda bench: bench.signed(backing={"ref": "password:1"}),
    "too long": lambda bench: bench.signed(more="x" * TOKEN_LIMIT),
    "a refresh token": lambda bench: bench.tokens.issue_refresh(TOKEN),
    "no token": lambda bench: "abc",
    "dots": lambda bench: "..",
    "no JSON": lambda bench: "!!!.e30.e30",
    "deep JSON": lambda bench: base64.urlsafe_b64encode(b"[" * 5000).decode() + ".e30.e30",
    "not ASCII": lambda bench: "é.é.é",
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_token_is_refused(bench: Bench, name: str) -> None:
    bench.tokens.verify(bench.signed(), NOW)
    with pytest.raises(TokenRefused):
        bench.tokens.verify(FORGED[name](bench), NOW)


@pytest.mark.parametrize("backing", [TOKEN, PASSWORD])
def test_a_refresh_token_stands_for_its_credential_and_survives_a_rotation(bench: Bench, backing: Backing) -> None:
    refresh = bench.tokens.issue_refresh(backing)
    rotate(bench.folder, NOW)
    assert TokenService(SigningKeys(bench.folder), Sealer(bench.folder)).open_refresh(refresh) == backing


def test_no_other_text_is_a_refresh_token(bench: Bench) -> None:
    refresh = bench.tokens.issue_refresh(TOKEN)
    for text in (
        "",
        "v1.a.b",
        refresh[:-4] + ("aaa=" if refresh[-4:] != "aaa=" else "bbb="),
        Sealer(bench.folder).seal('{"ref": "personal:7"}', "another context"),
        Sealer(bench.folder).seal("[]", "refresh token"),
        bench.signed(),
        "é",
    ):
        with pytest.raises(TokenRefused):
            bench.tokens.open_refresh(text)


def test_a_token_of_a_replaced_key_is_accepted_until_it_expires(bench: Bench) -> None:
    issued = bench.tokens.issue(TOKEN, "alice", GRANTED, NOW).text
    rotate(bench.folder, NOW)
    fresh = TokenService(SigningKeys(bench.folder), Sealer(bench.folder))
    assert fresh.verify(issued, NOW + TOKEN_LIFETIME - timedelta(seconds=1)).backing == TOKEN

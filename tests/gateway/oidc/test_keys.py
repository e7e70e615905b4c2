"""Key sets of issuers: which keys are used, and for which algorithms."""

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from gateway.oidc.errors import IssuerUnusable
from gateway.oidc.keys import parse_key_set
from tests.parts.issuer import SigningKeyOfTests

RSA, EC, ED = (SigningKeyOfTests(algorithm, algorithm) for algorithm in ("RS256", "ES256", "EdDSA"))


def key_set(*documents: Any) -> bytes:
    return json.dumps({"keys": list(documents)}).encode()


def test_each_key_is_for_the_algorithms_of_its_type() -> None:
    without = [{name: value for name, value in key.document.items() if name != "alg"} for key in (RSA, EC, ED)]
    found = parse_key_set(key_set(*without))
    assert found["RS256"].algorithms == {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
    assert found["ES256"].algorithms == {"ES256"}
    assert "EdDSA" in found["EdDSA"].algorithms and "ES256" not in found["EdDSA"].algorithms
    assert parse_key_set(key_set(RSA.document))["RS256"].algorithms == {"RS256"}


def test_a_key_verifies_nothing_by_an_algorithm_of_another_type() -> None:
    found = parse_key_set(key_set(RSA.document))["RS256"]
    for algorithm in ("HS256", "none", "ES256", "PS256", "RS384"):
        assert not found.verifies(algorithm, b"signed", b"signature")


@pytest.mark.parametrize(
    "changed",
    [
        {"use": "enc"},
        {"key_ops": ["encrypt"]},
        {"key_ops": "verify"},
        {"kid": None},
        {"kid": ""},
        {"kid": "k" * 256},
        {"kty": "oct", "k": "c2VjcmV0"},
        {"d": "AQAB"},
        {"alg": "HS256"},
        {"alg": "none"},
        {"alg": ["RS256"]},
        {"n": "!"},
        {"n": None},
        {"kty": "EC"},
    ],
)
def test_keys_that_verify_nothing_are_left_out(changed: dict[str, Any]) -> None:
    odd = {name: value for name, value in {**RSA.document, "kid": "odd", **changed}.items() if value is not None}
    assert set(parse_key_set(key_set(odd, EC.document))) == {"ES256"}


def test_small_keys_are_left_out() -> None:
    small = rsa.generate_private_key(public_exponent=65537, key_size=1024).public_key()
    document = {**json.loads(RSAAlgorithm.to_jwk(small)), "kid": "small"}
    assert set(parse_key_set(key_set(document, EC.document))) == {"ES256"}


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"<html>", "not a JSON document"),
        (b"[]", "no list of keys"),
        (b'{"keys": {}}', "no list of keys"),
        (b'{"keys": [], "keys": []}', "same key twice"),
        (key_set(), "no key"),
        (key_set(7, "x", None), "no key"),
        (key_set({**EC.document, "use": "enc"}), "no key"),
        (key_set(EC.document, {**RSA.document, "kid": "ES256"}), "two keys with the same id"),
    ],
)
def test_what_is_no_key_set_is_refused(raw: bytes, reason: str) -> None:
    with pytest.raises(IssuerUnusable, match=reason):
        parse_key_set(raw)

"""Public keys of an issuer, from its JSON Web Key Set (RFC 7517), each with the algorithms that it verifies.

The algorithm of a token never chooses how a key is read: a key is for the algorithms of its own type, and no other.
Algorithms with shared secrets (HS256) and without a signature (none) are no key's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt
from jwt.algorithms import Algorithm, ECAlgorithm, OKPAlgorithm, RSAAlgorithm, get_default_algorithms

from cache.oci.document import parse_document
from gateway.oidc.errors import IssuerUnusable

MOST_KEYS = 100
"""Keys of an issuer that are looked at; issuers publish two to ten."""

KEY_ID_LIMIT = 255
_RSA_BITS = range(2048, 8193)
"""Sizes of RSA keys that are accepted: smaller ones can be broken (RFC 7518, 3.3), larger ones take too long."""

_RSA = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_BY_CURVE = {"P-256": frozenset({"ES256"}), "P-384": frozenset({"ES384"}), "P-521": frozenset({"ES512"})}
_ED = frozenset({"EdDSA", "Ed25519"})

ALGORITHMS: Mapping[str, Algorithm] = {
    name: algorithm
    for name, algorithm in get_default_algorithms().items()
    if name in _RSA | _ED | frozenset().union(*_BY_CURVE.values())
}
"""Algorithms that a token may be signed with, all of them with public keys."""


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A public key, as the library holds it, and the algorithms that it verifies."""

    id: str
    public: Any
    algorithms: frozenset[str]

    def verifies(self, algorithm: str, signed: bytes, signature: bytes) -> bool:
        """Whether a signature over some bytes, made with an algorithm, is that of this key."""
        if algorithm not in self.algorithms or algorithm not in ALGORITHMS:
            return False
        return bool(ALGORITHMS[algorithm].verify(signed, self.public, signature))


KeySet = Mapping[str, VerificationKey]
"""The keys of an issuer by their ids."""


def parse_key_set(raw: bytes) -> KeySet:
    """Read a key set. Keys that verify nothing here are left out: those of other uses, types and sizes.

    Raises IssuerUnusable for what is no key set, for two keys with one id, and where no key is left.
    """
    try:
        document = parse_document(raw, 8)
    except ValueError as error:
        raise IssuerUnusable(f"its key set is {error}") from error
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise IssuerUnusable("its key set has no list of keys")
    found: dict[str, VerificationKey] = {}
    for entry in listed[:MOST_KEYS]:
        key = _parse_key(entry) if isinstance(entry, dict) else None
        if key is not None and key.id in found:
            raise IssuerUnusable("its key set has two keys with the same id")
        if key is not None:
            found[key.id] = key
    if not found:
        raise IssuerUnusable("its key set has no key with an id that verifies signatures")
    return found


def _parse_key(entry: Mapping[str, Any]) -> VerificationKey | None:
    """One key; None for what is none of a kind that is accepted, and for a key that is not public."""
    id, operations = entry.get("kid"), entry.get("key_ops", ["verify"])
    if not isinstance(id, str) or not 0 < len(id) <= KEY_ID_LIMIT or "d" in entry or "k" in entry:
        return None
    if entry.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        return None
    try:
        public, algorithms = _read(entry)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, OverflowError):
        return None
    if (own := entry.get("alg")) is not None:
        algorithms = algorithms.intersection([own]) if isinstance(own, str) else frozenset()
    return VerificationKey(id, public, algorithms) if algorithms else None


def _read(entry: Mapping[str, Any]) -> tuple[Any, frozenset[str]]:
    """The key as the library has it, and the algorithms of its type; none for another type. Raises what the library
    raises."""
    known = dict(entry)
    match entry.get("kty"):
        case "RSA":
            public: Any = RSAAlgorithm.from_jwk(known)
            return public, _RSA if public.key_size in _RSA_BITS else frozenset()
        case "EC":
            return ECAlgorithm.from_jwk(known), _BY_CURVE.get(str(entry.get("crv")), frozenset())
        case "OKP":
            return OKPAlgorithm.from_jwk(known), _ED if entry.get("crv") == "Ed25519" else frozenset()
    return None, frozenset()

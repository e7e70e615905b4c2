"""Rules of an issuer: which claims map to which user, or to which role in a project or group. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from hashlib import sha256
from typing import Any

from gateway.namespaces.node import NodeKind
from gateway.namespaces.role import Role


@dataclass(frozen=True, slots=True)
class RoleAt:
    """A role in a project or group, by its path, and in everything below it."""

    kind: NodeKind
    path: str
    role: Role

    def __str__(self) -> str:
        return f"{self.role.word} of {self.kind} {self.path}"


@dataclass(frozen=True, slots=True)
class AsUser:
    """A user, by name, with all that the user may do to content."""

    name: str

    def __str__(self) -> str:
        return f"user {self.name}"


Target = AsUser | RoleAt


@dataclass(frozen=True, slots=True)
class ClaimRule:
    """Claims that a token must have, all of them, and what it maps to then.

    `claims`: names with globs over whole values, in which `*` matches any text, slashes and colons too.
    """

    claims: tuple[tuple[str, str], ...]
    target: Target

    def matches(self, claims: Mapping[str, Any]) -> bool:
        """Whether claims meet the rule. A truth or a number is compared as JSON writes it; of a list, one entry is
        enough; an object matches nothing."""
        return _all_match(self.claims, claims)

    @property
    def fingerprint(self) -> str:
        """A text by which logins name the rule that let them in: another rule has another one."""
        return sha256(repr((sorted(self.claims), str(self.target))).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class AccountRule:
    """Claims that a person's token must have, all of them, who then signs in to the pages with an account of the
    person's own."""

    claims: tuple[tuple[str, str], ...]

    def matches(self, claims: Mapping[str, Any]) -> bool:
        """Whether claims meet the rule, as those of ClaimRule do."""
        return _all_match(self.claims, claims)


def find_rule(rules: Sequence[ClaimRule], claims: Mapping[str, Any]) -> ClaimRule | None:
    """The first rule that claims meet; None where they meet none."""
    return next((rule for rule in rules if rule.matches(claims)), None)


def _all_match(wanted: Sequence[tuple[str, str]], claims: Mapping[str, Any]) -> bool:
    return all(name in claims and _matches(claims[name], pattern) for name, pattern in wanted)


def _matches(value: object, pattern: str) -> bool:
    match value:
        case list():
            return any(_matches(entry, pattern) for entry in value if not isinstance(entry, list))
        case bool():
            return fnmatchcase("true" if value else "false", pattern)
        case str() | int() | float():
            return fnmatchcase(str(value), pattern)
    return False

"""Protection: the rules by which a project keeps repositories and tags from being pushed to and deleted.

A rule of kind `repository` or `tag` names the weakest role that may push, and that may delete, what its pattern
matches; an `immutable` one lets tags be created, and never be moved or deleted. Where several match, each must allow
it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum, StrEnum

from gateway.namespaces.errors import ProtectionRefused, TagPatternInvalid
from gateway.namespaces.role import Role
from gateway.namespaces.tag_pattern import PATTERN_LIMIT, TagPattern

TAG_RULES = 5
"""Rules for tags that a project may have, immutable ones among them (GitLab, "Protected container tags")."""
TAG_PATTERN_LIMIT = 100
"""Characters of the pattern of such a rule."""
REPOSITORY_RULES = 100

ANYTHING = "*"
"""What stands for any text in the pattern of a repository."""


class ProtectionKind(StrEnum):
    """What a rule protects, and how."""

    REPOSITORY = "repository"
    TAG = "tag"
    IMMUTABLE = "immutable"


class ProtectionLevel(IntEnum):
    """Weakest who may do what a rule protects. The numbers are those of roles, which they are compared with."""

    MAINTAINER = Role.MAINTAINER
    OWNER = Role.OWNER
    ADMIN = 60

    @property
    def word(self) -> str:
        """The name in lower case, as people write it."""
        return self.name.lower()

    @property
    def who(self) -> str:
        """Who may, as the subject of a sentence."""
        return "administrators" if self is ProtectionLevel.ADMIN else f"{self.word}s and above"


NO_LEVEL = 0
"""The level of whoever has no role: deploy tokens and cleanup policies."""


@dataclass(frozen=True, slots=True)
class ProtectionRule:
    """One stored rule. `pattern`: of a tag a regular expression of RE2; of a repository what follows the path of the
    project, with `*` for any text. `push`, `delete`: None where the rule does not restrict that; both are None of an
    immutable one. `matcher`: None where the pattern cannot be read any more."""

    id: int
    kind: ProtectionKind
    pattern: str
    push: ProtectionLevel | None
    delete: ProtectionLevel | None
    created_at: datetime
    matcher: TagPattern | None

    def matches(self, name: str) -> bool:
        """Whether the rule is about a tag, or about a repository by what follows the path of its project. One that
        cannot be read is about everything: what it protected must not lose that."""
        return self.matcher is None or self.matcher.matches(name)


@dataclass(frozen=True, slots=True)
class Protection:
    """The rules of one project, by what they are about."""

    of_repositories: tuple[ProtectionRule, ...] = ()
    of_tags: tuple[ProtectionRule, ...] = ()


UNPROTECTED = Protection()


def protection_of(rules: Sequence[ProtectionRule]) -> Protection:
    """The protection by some rules of one project."""
    if not rules:
        return UNPROTECTED
    return Protection(
        tuple(rule for rule in rules if rule.kind is ProtectionKind.REPOSITORY),
        tuple(rule for rule in rules if rule.kind is not ProtectionKind.REPOSITORY),
    )


def read_pattern(kind: ProtectionKind, pattern: str) -> TagPattern | None:
    """What matches a stored pattern; None where it cannot be read any more."""
    try:
        return parse_pattern(kind, pattern)
    except TagPatternInvalid:
        return None


def parse_pattern(kind: ProtectionKind, pattern: str) -> TagPattern:
    """What matches the pattern of a rule. Raises TagPatternInvalid."""
    if kind is ProtectionKind.REPOSITORY:
        text = ".*".join(map(re.escape, pattern.split(ANYTHING)))
        return TagPattern.parse(text or "()", 2 * PATTERN_LIMIT + len(text))
    return TagPattern.parse(pattern, TAG_PATTERN_LIMIT)


def below_project(project: str, pattern: str) -> str:
    """What follows the path of a project in the pattern of repositories in it. Raises ProtectionRefused."""
    rest = pattern.removeprefix(project)
    if not pattern.startswith(project) or rest[:1] not in ("", "/", ANYTHING):
        raise ProtectionRefused(
            f"the pattern {pattern!r} matches nothing in project {project!r}: begin it with that path"
        )
    if not re.fullmatch(r"[a-z0-9._/*-]*", rest):
        raise ProtectionRefused(
            f"the pattern {pattern!r} has signs that no repository has: use lower case, and * for any text"
        )
    if len(rest) > PATTERN_LIMIT:
        raise ProtectionRefused(f"the pattern of a repository has at most {PATTERN_LIMIT} characters after the project")
    return rest


def check_rule(
    kind: ProtectionKind, push: ProtectionLevel | None, delete: ProtectionLevel | None, others: Sequence[ProtectionRule]
) -> None:
    """Check that a project with some other rules can have one more of these levels. Raises ProtectionRefused."""
    if kind is ProtectionKind.IMMUTABLE and (push is not None or delete is not None):
        raise ProtectionRefused("immutable tags are so for everybody: such a rule names no levels")
    if kind is ProtectionKind.TAG and (push is None or delete is None):
        raise ProtectionRefused("a rule for tags names who may push them and who may delete them")
    if kind is ProtectionKind.REPOSITORY and push is None and delete is None:
        raise ProtectionRefused("a rule for repositories names who may push to them, or who may delete them, or both")
    found = protection_of(others)
    if kind is ProtectionKind.REPOSITORY and len(found.of_repositories) >= REPOSITORY_RULES:
        raise ProtectionRefused(f"a project has at most {REPOSITORY_RULES} rules for repositories")
    if kind is not ProtectionKind.REPOSITORY and len(found.of_tags) >= TAG_RULES:
        raise ProtectionRefused(f"a project has at most {TAG_RULES} rules for tags: join their patterns by |")

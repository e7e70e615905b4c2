"""Guards: what the protection rules of a project keep one principal from doing to tags and repositories. Pure.

A principal has a level: the number of its role, that of administrators, or none at all, such as a deploy token. The
rules are asked beside the permissions: they take away what is allowed without them, and give nothing.
"""

from dataclasses import dataclass

from cache.oci.digest import Digest
from cache.oci.errors import Denied, RefusalReason
from cache.oci.names import Tag
from gateway.namespaces.protection import (
    NO_LEVEL,
    UNPROTECTED,
    Protection,
    ProtectionKind,
    ProtectionLevel,
    ProtectionRule,
)


@dataclass(frozen=True, slots=True)
class TagGuard:
    """What the rules of a project let somebody of a level do to its tags."""

    protection: Protection = UNPROTECTED
    level: int = NO_LEVEL

    @property
    def has_rules(self) -> bool:
        """Whether it can refuse anything."""
        return bool(self.protection.of_tags)

    def check_push(self, tag: Tag) -> None:
        """Check that a tag may be pushed, whether or not it exists. Raises Denied."""
        for rule in self.protection.of_tags:
            if rule.push is not None and rule.push > self.level and rule.matches(tag.text):
                raise _denied(f"tag {tag} is protected by {describe_rule(rule)}: {rule.push.who} may push it")

    def check_move(self, tag: Tag, before: Digest | None, after: Digest) -> None:
        """Check that a tag may point to another manifest than before; None: it is new, or its digest is unchanged.
        Raises Denied."""
        if before is None or before == after:
            return
        for rule in self.protection.of_tags:
            if rule.kind is ProtectionKind.IMMUTABLE and rule.matches(tag.text):
                raise _denied(
                    f"tag {tag} is immutable by {describe_rule(rule)}: it stays at {before}, so push another tag"
                )

    def check_delete(self, tag: Tag) -> None:
        """Check that a tag may be deleted. Raises Denied."""
        rule = self.find_keeping(tag.text)
        if rule is not None and rule.delete is not None:
            raise _denied(f"tag {tag} is protected by {describe_rule(rule)}: {rule.delete.who} may delete it")
        if rule is not None:
            raise _denied(f"tag {tag} is immutable by {describe_rule(rule)}: nobody may delete it")

    def find_keeping(self, name: str) -> ProtectionRule | None:
        """Find a rule that keeps the tag of a name from being deleted; an immutable one before all others."""
        found = None
        for rule in self.protection.of_tags:
            is_immutable = rule.kind is ProtectionKind.IMMUTABLE
            if (is_immutable or _is_beyond(rule.delete, self.level)) and rule.matches(name):
                if is_immutable:
                    return rule
                found = found or rule
        return found


UNGUARDED = TagGuard()
"""The guard of a project without rules for tags."""


def find_closed(protection: Protection, below: str, level: int) -> ProtectionRule | None:
    """Find a rule that keeps somebody of a level from pushing to a repository. `below`: what follows the path of the
    project in its own."""
    return next(
        (rule for rule in protection.of_repositories if _is_beyond(rule.push, level) and rule.matches(below)), None
    )


def check_repository_push(protection: Protection, repository: str, below: str, level: int) -> None:
    """Check that the rules for repositories let somebody of a level push to one. `below`: as for `find_closed`. Raises
    Denied."""
    rule = find_closed(protection, below, level)
    if rule is not None and rule.push is not None:
        raise _denied(push_refusal(repository, rule, rule.push))


def push_refusal(repository: str, rule: ProtectionRule, needed: ProtectionLevel) -> str:
    """Write why a rule keeps somebody from pushing to a repository. `needed`: who may."""
    return f"repository {repository} is protected by {describe_rule(rule)}: {needed.who} may push to it"


def check_repository_deletion(protection: Protection, repository: str, below: str, level: int) -> None:
    """Check that the rules for repositories let somebody of a level delete one; those for its tags are another matter.
    `below`: as for `find_closed`. Raises Denied."""
    for rule in protection.of_repositories:
        if rule.delete is not None and rule.delete > level and rule.matches(below):
            raise _denied(
                f"repository {repository} is protected by {describe_rule(rule)}: {rule.delete.who} may delete it"
            )


def describe_rule(rule: ProtectionRule) -> str:
    """Write a rule into a sentence."""
    return f"{rule.kind} rule {rule.id} ({rule.pattern!r})"


def _is_beyond(needed: ProtectionLevel | None, level: int) -> bool:
    return needed is not None and needed > level


def _denied(reason: str) -> Denied:
    return Denied(reason, counted_as=RefusalReason.PROTECTED)

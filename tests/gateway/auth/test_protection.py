"""What protection rules keep whom from doing, by every level; pure values."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from cache.oci.digest import Digest
from cache.oci.errors import Denied, RefusalReason
from cache.oci.names import Tag
from gateway.auth.decisions import Refusal
from gateway.auth.matrix import Action
from gateway.auth.permissions import decide, guard_at
from gateway.auth.principal import Principal
from gateway.auth.protection import UNGUARDED, TagGuard, check_repository_deletion
from gateway.namespaces.credentials import Scope
from gateway.namespaces.protection import (
    Protection,
    ProtectionKind,
    ProtectionLevel,
    ProtectionRule,
    protection_of,
    read_pattern,
)
from gateway.namespaces.role import Role
from tests.gateway.auth.samples import ANN, NOW, PROJECT, WAY, deployer, job, member, person, project_target

V1 = Tag("v1")
ONE, TWO = Digest.of(b"one"), Digest.of(b"two")
MAINTAINER, OWNER, ADMIN = ProtectionLevel
LEVELS = [0, Role.DEVELOPER, Role.MAINTAINER, Role.OWNER, ADMIN]


def rule(
    kind: ProtectionKind,
    pattern: str,
    push: ProtectionLevel | None = None,
    delete: ProtectionLevel | None = None,
    id: int = 1,
) -> ProtectionRule:
    return ProtectionRule(id, kind, pattern, push, delete, NOW, read_pattern(kind, pattern))


def tag_rule(push: ProtectionLevel, delete: ProtectionLevel, pattern: str = "v.*", id: int = 1) -> ProtectionRule:
    return rule(ProtectionKind.TAG, pattern, push, delete, id)


IMMUTABLE = rule(ProtectionKind.IMMUTABLE, "v.*", id=2)


def refused(check: Callable[[], None]) -> str:
    """Why a check refuses; empty where it does not."""
    try:
        check()
    except Denied as error:
        assert error.counted_as is RefusalReason.PROTECTED
        return str(error.detail)
    return ""


@pytest.mark.parametrize("needed", list(ProtectionLevel))
@pytest.mark.parametrize("level", LEVELS)
def test_who_has_the_level_of_a_rule_may_do_what_it_protects_and_nobody_below(
    needed: ProtectionLevel, level: int
) -> None:
    pushing = TagGuard(protection_of([tag_rule(needed, MAINTAINER)]), level)
    assert bool(refused(lambda: pushing.check_push(V1))) == (level < needed)
    deleting = TagGuard(protection_of([tag_rule(MAINTAINER, needed)]), level)
    assert bool(refused(lambda: deleting.check_delete(V1))) == (level < needed)
    assert not refused(lambda: deleting.check_delete(Tag("other")))
    deletion = protection_of([rule(ProtectionKind.REPOSITORY, "/web", MAINTAINER, needed)])
    assert bool(refused(lambda: check_repository_deletion(deletion, "team/app/web", "/web", level))) == (level < needed)
    assert not refused(lambda: check_repository_deletion(deletion, "team/app", "", level))


def test_of_several_rules_each_must_allow_it_and_the_one_that_does_not_is_named() -> None:
    guard = TagGuard(
        protection_of([tag_rule(MAINTAINER, MAINTAINER), tag_rule(OWNER, ADMIN, "v1", 7)]), Role.MAINTAINER
    )
    assert refused(lambda: guard.check_push(V1)) == (
        "tag v1 is protected by tag rule 7 ('v1'): owners and above may push it"
    )
    assert refused(lambda: guard.check_delete(V1)) == (
        "tag v1 is protected by tag rule 7 ('v1'): administrators may delete it"
    )
    assert not refused(lambda: guard.check_push(Tag("v2")))


@pytest.mark.parametrize("level", LEVELS)
def test_an_immutable_tag_is_created_once_and_stays_for_everybody(level: int) -> None:
    guard = TagGuard(protection_of([IMMUTABLE]), level)
    guard.check_push(V1)
    guard.check_move(V1, None, TWO)
    guard.check_move(V1, TWO, TWO)
    guard.check_move(Tag("other"), ONE, TWO)
    assert refused(lambda: guard.check_move(V1, ONE, TWO)) == (
        f"tag v1 is immutable by immutable rule 2 ('v.*'): it stays at {ONE}, so push another tag"
    )
    assert refused(lambda: guard.check_delete(V1)) == (
        "tag v1 is immutable by immutable rule 2 ('v.*'): nobody may delete it"
    )


def test_without_rules_everything_is_allowed() -> None:
    assert not UNGUARDED.has_rules
    UNGUARDED.check_push(V1)
    UNGUARDED.check_move(V1, ONE, TWO)
    UNGUARDED.check_delete(V1)


CLOSED = protection_of([rule(ProtectionKind.REPOSITORY, "/web*", OWNER, id=3), tag_rule(OWNER, OWNER)])


@pytest.mark.parametrize(
    ("principal", "role", "may"),
    [
        (person(), Role.DEVELOPER, False),
        (person(), Role.MAINTAINER, False),
        (person(), Role.OWNER, True),
        (person(replace(ANN, admin=True)), None, True),
        (job(), Role.MAINTAINER, False),
        (job(), Role.OWNER, True),
        (deployer(PROJECT, Scope.WRITE_REGISTRY), None, False),
    ],
)
def test_a_protected_repository_is_pushed_to_by_whoever_has_the_level(
    principal: Principal, role: Role | None, may: bool
) -> None:
    members = () if role is None else (member(PROJECT, role),)
    target = replace(project_target(), standing=replace(project_target().standing, members=members, origin=WAY))
    for below, protection, allowed in (("/web", CLOSED, may), ("/other", CLOSED, True), ("/web", Protection(), True)):
        named = replace(target, below=below, protection=protection)
        decision = decide(principal, Action.PUSH, named, NOW)
        assert decision.allowed is allowed, decision.reason
        assert decide(principal, Action.PULL, named, NOW).allowed
        if not allowed:
            assert (decision.refusal, decision.counted_as) == (Refusal.DENIED, RefusalReason.PROTECTED)
            place = "repository team/inner/app/web is protected by repository rule 3 ('/web*')"
            assert decision.reason == f"{place}: owners and above may push to it"
    guard = guard_at(principal, replace(target, protection=CLOSED), NOW)
    assert bool(refused(lambda: guard.check_push(V1))) is not may


def test_whoever_may_not_know_of_a_project_is_told_of_no_rule() -> None:
    decision = decide(person(), Action.PUSH, replace(project_target(), below="/web", protection=CLOSED), NOW)
    assert decision.refusal is Refusal.HIDDEN
    assert "rule 3" not in decision.reason

"""Told: what the audit log says of users, members and tokens, in words that requests and commands share; no secret."""

from datetime import datetime

from gateway.audit.told_proxy import tell_proxy
from gateway.namespaces.credentials import DeployToken, PersonalToken
from gateway.namespaces.expiry import format_moment
from gateway.namespaces.group import Group
from gateway.namespaces.member import Member
from gateway.namespaces.project import Project
from gateway.namespaces.protection import ProtectionRule
from gateway.namespaces.role import Role
from gateway.namespaces.user import User


def differences(before: str, after: str) -> tuple[str | None, str | None]:
    """The facts of two texts that are not in the other one; None for none."""
    former, present = before.split(", "), after.split(", ")
    gone = [fact for fact in former if fact not in present]
    new = [fact for fact in present if fact not in former]
    return ", ".join(gone) or None, ", ".join(new) or None


def tell_user(user: User) -> str:
    """The rights of a user. An address of electronic mail is a person's own affair."""
    facts = [user.state]
    facts += [word for word, holds in (("administrator", user.admin), ("external", user.external)) if holds]
    if user.password_changed_at is not None:
        facts.append(f"password of {format_moment(user.password_changed_at)}")
    return ", ".join(facts)


def tell_member(member: Member) -> str:
    """A role, and until when."""
    return tell_role(member.role, member.expires_at)


def tell_role(role: Role, expires_at: datetime | None) -> str:
    """A role, and until when."""
    return f"{role.word}, {_until(expires_at)}"


def tell_token(token: PersonalToken | DeployToken) -> str:
    """The scopes of a token, and until when."""
    return f"{' '.join(sorted(token.scopes))}, {_until(token.expires_at)}"


def name_token(token: PersonalToken | DeployToken) -> str:
    """Which token it is: its number, and its name."""
    return f"{token.id} ({token.name})"


def tell_group(group: Group) -> str:
    """Who may know of a group, and what its dependency proxy does for whom."""
    facts = [f"visibility {group.visibility.value}", *(["anonymous pull"] if group.anonymous_pull else [])]
    facts += [f"quota {group.quota}"] if group.quota is not None else []
    return ", ".join([*facts, tell_proxy(group)])


def tell_project(project: Project) -> str:
    """Who may know of a project, and who may use its registry."""
    facts = [f"visibility {project.visibility.value}", f"registry {project.registry.value}"]
    facts += [f"quota {project.quota}"] if project.quota is not None else []
    return ", ".join(facts)


def tell_rule(rule: ProtectionRule) -> str:
    """What a protection rule is for, and from which level on somebody may."""
    levels = [f"{what} {level.word}" for what, level in (("push", rule.push), ("delete", rule.delete)) if level]
    return ", ".join([f"{rule.kind.value} {rule.pattern}", *levels])


def _until(moment: datetime | None) -> str:
    return "does not expire" if moment is None else f"expires {format_moment(moment)}"

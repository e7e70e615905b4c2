"""Refusals of the tree: what cannot be created, changed or found in it, each with a reason and no command's words."""


class TreeError(Exception):
    """A change or lookup in the tree is refused; the text states why and what would be allowed."""


class PathInvalid(TreeError):
    """The text cannot be the path of a node of the tree."""


class UpstreamNameInvalid(TreeError):
    """The text cannot be the name of an upstream."""


class PathTaken(TreeError):
    """Another node of the tree has this path; users, groups and projects share theirs."""

    def __init__(self, path: str, kind: str) -> None:
        """`kind`: that of the node that has the path."""
        super().__init__(f"{kind} {path!r} exists already: choose another path, or update it")


class PathReserved(TreeError):
    """The path, or one above it, is the old path of something that has moved."""


class MoveRefused(TreeError):
    """A node or a repository cannot move to this path."""


class GroupUnknown(TreeError):
    """No group has this path."""


class ProjectUnknown(TreeError):
    """No project has this path."""


class UserUnknown(TreeError):
    """No user has this name."""


class NodeUnknown(TreeError):
    """No group and no project has this path."""


class ParentUnknown(TreeError):
    """The node above a new one does not exist, or holds no nodes of this kind."""


class NodeNotEmpty(TreeError):
    """The group or the user's namespace holds other nodes."""


class VisibilityRefused(TreeError):
    """A node would be more visible than the one above it."""


class AllowanceRefused(TreeError):
    """Jobs of this node cannot be allowed to pull."""


class EmailInvalid(TreeError):
    """The text is no address of electronic mail."""


class EmailTaken(TreeError):
    """Another user has this address of electronic mail."""


class PasswordRefused(TreeError):
    """The password is too short or too long."""


class LastAdministrator(TreeError):
    """The user is the last active administrator, and must remain one."""


class MemberUnknown(TreeError):
    """The user is not a member of this group or project itself."""


class MembershipRefused(TreeError):
    """The membership would mean nothing, or less than it says."""


class BotRefused(TreeError):
    """The bot of an access token cannot be a member elsewhere, or be what people are."""


class AnonymousPullRefused(TreeError):
    """Anonymous pull would show what the group's visibility hides."""


class GateInvalid(TreeError):
    """A gate cannot have this rule."""


class TtlInvalid(TreeError):
    """A policy cannot purge after so many days."""


class LoginIncomplete(TreeError):
    """An upstream login lacks its user name or its password."""


class LoginMisdirected(TreeError):
    """An upstream login would be sent to another upstream than the one it was given for."""


class ExpiryInvalid(TreeError):
    """The text is not a time at which something can expire, or the time is not allowed."""


class TagPatternInvalid(TreeError):
    """The text is no regular expression that names of tags can be matched with."""


class ProtectionRefused(TreeError):
    """A protection rule cannot be made with these properties."""


class ProtectionTaken(TreeError):
    """The project has a protection rule of this kind and pattern."""


class ProtectionUnknown(TreeError):
    """The project has no protection rule of this id."""


class PinRefused(TreeError):
    """A group or project cannot be shown as of a moment, of which something is collected."""


class RestoreRefused(TreeError):
    """A tag or a repository cannot be restored; the text says why, and what can."""


class RestorePathTaken(RestoreRefused):
    """A deleted repository cannot be restored under a path that another one has."""


class VirtualRegistryRefused(TreeError):
    """A virtual registry or an upstream of one cannot be so. `attribute`: which of its attributes is wrong, or `base`
    for it as a whole."""

    def __init__(self, attribute: str, reason: str) -> None:
        super().__init__(f"{attribute} {reason}")
        self.attribute = attribute
        self.reason = reason


class CredentialInvalid(TreeError):
    """A token or job cannot be made with these properties."""


class CredentialUnknown(TreeError):
    """No credential of one kind has this id."""

    kind: str

    def __init__(self, number: int) -> None:
        super().__init__(f"there is no {self.kind} {number}")


class PersonalTokenUnknown(CredentialUnknown):
    """No personal access token has this id."""

    kind = "personal access token"


class DeployTokenUnknown(CredentialUnknown):
    """No deploy token has this id."""

    kind = "deploy token"


class JobUnknown(CredentialUnknown):
    """No job has this id."""

    kind = "job"


class IdTokenLoginUnknown(CredentialUnknown):
    """No login by an ID token has this id."""

    kind = "login by an ID token"


class JobRefused(TreeError):
    """The user may not start a job in this project."""

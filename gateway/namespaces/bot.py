"""Bot: the user behind an access token of a project or a group, who is no person."""

import secrets
from dataclasses import dataclass

from gateway.namespaces.errors import BotRefused
from gateway.namespaces.node import NodeKey
from gateway.namespaces.role import Role
from gateway.namespaces.user import User

_NAME_BYTES = 16


@dataclass(frozen=True, slots=True)
class Bot:
    """A user with the project or group whose access tokens it presents, and where alone it is a member."""

    user: User
    home: NodeKey


def new_bot_name(home: NodeKey) -> str:
    """Make a name as GitLab makes it, `project_ID_bot_…`: with so much chance in it that nobody has it."""
    return f"{home.kind}_{home.id}_bot_{secrets.token_hex(_NAME_BYTES)}"


def issuer_bot_name(home: NodeKey, issuer: str, role: Role) -> str:
    """The name of the bot by which ID tokens of an issuer have a role: one for each."""
    return f"{home.kind}_{home.id}_bot_oidc_{issuer}_{role.word}"


def check_bot_place(home: NodeKey, node: NodeKey) -> None:
    """Check that a bot may be a member of a node: of its home alone, as in GitLab. Raises BotRefused."""
    if node != home:
        raise BotRefused(f"the user is the bot of an access token of {home.kind} {home.id}, and a member there alone")


def unfit_bot(user: User) -> BotRefused:
    """The error for what people do, and bots do not."""
    return BotRefused(
        f"user {user.name!r} is the bot of an access token, which changes by its token alone: make another token"
    )

"""Upstream logins of groups, sealed so that each opens for its own group alone."""

from dataclasses import replace

from gateway.keys.sealing import Sealer
from gateway.namespaces.errors import LoginIncomplete
from gateway.namespaces.group import Group, Login


def seal_login(group: Group, login: Login, sealer: Sealer) -> Group:
    """The group with this login, sealed to it. Raises LoginIncomplete for an empty half, SealBroken."""
    if not login.username or not login.password:
        raise LoginIncomplete(f"the upstream login of group {group.path!r} needs both a user name and a password")
    sealed = sealer.seal(login.password, _context(group))
    return replace(group, upstream_username=login.username, upstream_password_sealed=sealed)


def open_login(group: Group, sealer: Sealer) -> Login | None:
    """The group's login; None if it has none. Raises SealBroken."""
    if group.upstream_username is None or group.upstream_password_sealed is None:
        return None
    return Login(group.upstream_username, sealer.open(group.upstream_password_sealed, _context(group)))


def _context(group: Group) -> str:
    return f"upstream login of group {group.id}"

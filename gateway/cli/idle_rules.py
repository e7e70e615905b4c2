"""Rules for ID tokens that let nobody in: those that map to what there is not."""

from collections.abc import Iterator

from gateway.cli.idle_kind import IdleSetting
from gateway.db import bots, paths, users
from gateway.db.connection import Connection
from gateway.oidc.rules import AsUser, Target
from gateway.settings.tables import Settings
from gateway.wiring.oidc import target_of


async def find_idle_rules(connection: Connection, settings: Settings) -> list[IdleSetting]:
    """Find the rules whose user, project or group does not exist, or cannot be what the rule says."""
    return [
        IdleSetting(
            f"oidc.{issuer}.rule",
            f"rule {number} of issuer {issuer} lets nobody in: {problem}",
            "create it, or correct the rule",
        )
        for issuer, number, target in _targets(settings)
        if (problem := await _problem(connection, target))
    ]


def _targets(settings: Settings) -> Iterator[tuple[str, int, Target]]:
    for name, issuer in settings.oidc.items():
        for number, rule in enumerate(issuer.rule, 1):
            if not rule.account:
                yield name, number, target_of(rule)


async def _problem(connection: Connection, target: Target) -> str:
    if isinstance(target, AsUser):
        user = await users.find(connection, target.name)
        if user is None:
            return f"there is no user {target.name!r}"
        if await bots.find(connection, user.id) is not None:
            return f"user {target.name!r} is the bot of an access token"
        return f"user {target.name!r} is an administrator, whose rights no rule gives away" if user.admin else ""
    found = await paths.find(connection, target.path)
    if found is None or found.key.kind is not target.kind:
        return f"there is no {target.kind} {target.path!r}"
    return ""

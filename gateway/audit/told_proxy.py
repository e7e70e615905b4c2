"""What the audit log says of the dependency proxy of a group: its properties in words, none of which is a secret."""

from cache.policy.gate import OPEN
from gateway.namespaces.group import Group
from gateway.namespaces.image_ttl import ImageTtlPolicy
from gateway.settings.units import format_duration


def tell_proxy(group: Group) -> str:
    """What a dependency proxy serves, and by which login."""
    gate = group.gate or OPEN
    facts = [
        f"dependency proxy {'on' if group.proxy_enabled else 'off'}",
        f"default upstream {group.default_upstream}",
        f"upstream login {group.upstream_username or 'none'}",
        *(["fresh only"] if group.fresh_only else []),
        *(f"allow {glob}" for glob in gate.allow),
        *(f"deny {glob}" for glob in gate.deny),
        *([f"cooldown {format_duration(gate.cooldown)} {gate.action.value}"] if gate.cooldown else []),
        *(["trusts created"] if gate.trusts_created else []),
    ]
    return ", ".join(facts)


def tell_new_secret(before: Group, after: Group) -> str | None:
    """That a login has another secret; None where it has not."""
    is_new = after.upstream_password_sealed not in (None, before.upstream_password_sealed)
    return "another upstream secret" if is_new else None


def tell_policy(policy: ImageTtlPolicy) -> str:
    """After how many days a policy purges."""
    return f"image TTL policy {'on' if policy.enabled else 'off'}, {policy.ttl} days"

"""Values made from the settings that need no part of a server, for the server and for commands beside it."""

from urllib.parse import unquote, urlsplit

from cache.policy.freshness import TagRule, TagRules
from cache.runtime.disk import disk_space
from cache.upstream.urls import registry_of
from gateway.audit.file import AuditFile, AuditLimits
from gateway.data_folder import audit_file
from gateway.db.address import DATABASE_FILE, POSTGRESQL_PORT, DatabaseAddress, PostgresqlAddress
from gateway.settings.tables import Settings


def configured_database(settings: Settings) -> DatabaseAddress:
    """Find the address of gateway.db: that of the setting, else a file in the data folder."""
    if not settings.database.url:
        return settings.data / DATABASE_FILE
    url = urlsplit(settings.database.url)
    user, _, host = url.netloc.partition("@")
    is_folder = host.startswith("%")  # of a Unix socket
    return PostgresqlAddress(
        user=unquote(user),
        host=unquote(host) if is_folder else url.hostname or "",
        name=unquote(url.path[1:]),
        port=(None if is_folder else url.port) or POSTGRESQL_PORT,
        password_file=settings.database.password_file,
    )


def configured_audit(settings: Settings) -> AuditFile | None:
    """Make the access to the audit log of an existing data folder; None where no events are recorded."""
    audit = settings.audit
    if not audit.keep:
        return None
    limits = AuditLimits(audit.keep, audit.max_size.of(disk_space(settings.data).size))
    return AuditFile(audit_file(settings.data), limits)


def tag_rules(settings: Settings) -> TagRules:
    """Make the rules for tags, in which the name of an upstream becomes its registry."""
    cache = settings.cache
    rules = tuple(
        TagRule(
            tags=rule.tags,
            ttl=cache.ttl if rule.ttl is None else rule.ttl,
            images=rule.images,
            registry=registry_of(settings.upstreams[rule.upstream].url) if rule.upstream is not None else None,
            fresh_only=rule.fresh_only,
        )
        for rule in cache.rules
    )
    return TagRules(ttl=cache.ttl, grace=cache.grace, rules=rules, negative_ttl=cache.negative_ttl)


def private_hosts(settings: Settings) -> frozenset[str]:
    """The hosts, with or without a port, at which upstreams of virtual registries may have private addresses."""
    return frozenset(host.lower() for host in settings.virtual_registries.private_hosts)


def listed_groups(settings: Settings) -> set[str]:
    """The paths of the groups to which upstreams lend their accounts."""
    return {path for upstream in settings.upstreams.values() for path in upstream.groups}


def groups_named(settings: Settings) -> list[tuple[str, str]]:
    """Every setting that names a group, with its path."""
    named = [("ns_group", settings.ns_group)]
    named += [(f"group of the listener at port {listener.port}", listener.group) for listener in settings.listener]
    named += [(f"group of the virtual host {host.name}", host.group) for host in settings.virtual_host]
    for name, upstream in settings.upstreams.items():
        named += [(f'groups of upstreams."{name}"', path) for path in upstream.groups]
    return named

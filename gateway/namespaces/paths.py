"""Grammar of the paths of the tree, and the check of upstream names that people write."""

from cache.oci.errors import NameInvalid
from cache.oci.names import RepositoryName
from gateway import upstream_names
from gateway.namespaces.errors import PathInvalid, UpstreamNameInvalid

PROXY_SEPARATOR = "/dependency_proxy/containers/"
NESTING_LIMIT = 20
RESERVED_ANYWHERE = frozenset({"dependency_proxy", "virtual_registries"})
RESERVED_AT_TOP = frozenset({"v2", "api", "jwt", "static", "help", "admin", "groups", "users", "-"})


def parse_group_path(text: str) -> str:
    """Check the full path of a group, which must be fit to stand before a repository name. Raises PathInvalid."""
    if text != text.lower():
        raise PathInvalid(f"group path {text!r} has capitals, which registry names must not: use {text.lower()!r}")
    try:
        components = RepositoryName.parse(text).components
    except NameInvalid as error:
        raise PathInvalid(f"invalid group path: {error.detail}") from error
    if len(components) > NESTING_LIMIT:
        raise PathInvalid(f"group path {text!r} has {len(components)} levels: use at most {NESTING_LIMIT}")
    reserved = RESERVED_ANYWHERE.intersection(components) or RESERVED_AT_TOP.intersection(components[:1])
    if reserved:
        raise PathInvalid(f"group path {text!r} holds the reserved word {min(reserved)!r}: use another name")
    return text


def proxied_name(group: str, image: str) -> str:
    """The name of a repository that pulls `[UPSTREAM/]IMAGE` through a group; as given, nothing is checked."""
    return f"{group}{PROXY_SEPARATOR}{image}"


def split_proxied_name(name: str) -> tuple[str, str] | None:
    """The group and the `[UPSTREAM/]IMAGE` of a proxied name, where the first separator counts; None for others."""
    group, separator, image = name.partition(PROXY_SEPARATOR)
    return (group, image) if separator else None


def parent_path(path: str) -> str:
    """The path of the node above; empty at the top of the tree."""
    return path.rpartition("/")[0]


def parse_upstream_name(text: str) -> str:
    """Check the text of an upstream's name, but not whether an upstream of this name is configured.

    Raises UpstreamNameInvalid.
    """
    if not upstream_names.is_upstream_name(text):
        raise UpstreamNameInvalid(f"{text!r} is not the name of an upstream: use {upstream_names.FORM}")
    return text

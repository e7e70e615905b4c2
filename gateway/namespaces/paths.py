"""Grammar of the paths of the tree, and the check of upstream names that people write."""

import re
import unicodedata

from cache.oci.errors import NameInvalid
from cache.oci.names import NAME_LIMIT, RepositoryName
from gateway import upstream_names
from gateway.namespaces.errors import PathInvalid, UpstreamNameInvalid
from gateway.namespaces.node import NodeKind

PROXY_SEPARATOR = "/dependency_proxy/containers/"
NESTING_LIMIT = 20
"""Levels of groups; a project may lie one level deeper."""
RESERVED_ANYWHERE = frozenset({"dependency_proxy", "virtual_registries"})
RESERVED_AT_TOP = frozenset(
    {"v2", "api", "jwt", "static", "help", "search", "admin", "groups", "users", "favicon.ico", "robots.txt"}
)
"""First components of the addresses of everything that is no node; `-` is another, which no path can have."""
RESERVED_BELOW_TOP = frozenset({"container_registry", "edit"})
"""Components of the addresses of pages below a project."""

_LEVELS = {NodeKind.USER: (1, 1), NodeKind.GROUP: (1, NESTING_LIMIT), NodeKind.PROJECT: (2, NESTING_LIMIT + 1)}
_NOUNS = {NodeKind.USER: "user name", NodeKind.GROUP: "group path", NodeKind.PROJECT: "project path"}
_SIGNS = "._-"
_FOREIGN = re.compile(r"[^a-z0-9._-]")
_SIGNS_TOGETHER = re.compile(r"[._-]{2,}")
_GRAMMAR = "use lower-case letters and digits, with single signs . _ - between them"


def parse_group_path(text: str) -> str:
    """Check the full path of a new group, which must be fit to stand before a repository name. Raises PathInvalid."""
    return _parse(text, NodeKind.GROUP)


def parse_project_path(text: str) -> str:
    """Check the full path of a new project, which must be fit for a repository name. Raises PathInvalid."""
    return _parse(text, NodeKind.PROJECT)


def parse_user_name(text: str) -> str:
    """Check the name of a new user, which is the path of the user's namespace too. Raises PathInvalid."""
    return _parse(text, NodeKind.USER)


def find_host_warning(path: str) -> str | None:
    """Find the reason why clients take the first component of a path for the name of a host; None if they do not."""
    first = path.partition("/")[0]
    if not upstream_names.looks_like_upstream(first):
        return None
    return (
        f"clients take {first!r} for the host of a registry in every image name that has no host before it: "
        "always write the host, or choose a name without a dot other than localhost"
    )


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


def joined(above: str, part: str) -> str:
    """The path of a node below another one; at the top where that is empty."""
    return f"{above}/{part}" if above else part


def parse_upstream_name(text: str) -> str:
    """Check the text of an upstream's name, but not whether an upstream of this name is configured.

    Raises UpstreamNameInvalid.
    """
    if not upstream_names.is_upstream_name(text):
        raise UpstreamNameInvalid(f"{text!r} is not the name of an upstream: use {upstream_names.FORM}")
    return text


def _parse(text: str, kind: NodeKind) -> str:
    fault = _find_fault(text, kind)
    if fault is None:
        return text
    mended = _mend(text, kind)
    advice = _GRAMMAR if mended is None else f"use a path such as {mended!r}"
    if kind is NodeKind.USER and mended is not None:
        advice = f"use a name such as {mended!r}"
    raise PathInvalid(f"{fault}: {advice}")


def _find_fault(text: str, kind: NodeKind) -> str | None:
    """The reason why a text cannot be the path of a new node; None if it can.

    Components above the last are those of nodes that exist, or creation fails for want of them; rules that came after
    older nodes are kept from new ones alone.
    """
    noun = _NOUNS[kind]
    if len(text) > NAME_LIMIT:
        return f"a {noun} has at most {NAME_LIMIT} characters, this one has {len(text)}"
    parts = text.split("/")
    fewest, most = _LEVELS[kind]
    if kind is NodeKind.USER and len(parts) > most:
        return f"{noun} {text!r} has a slash, for which there is no place"
    if len(parts) > most:
        return f"{noun} {text!r} has {len(parts)} levels, of which there are at most {most}"
    for index, part in enumerate(parts, 1):
        if (fault := _find_fault_of_component(part, new=index == len(parts))) is not None:
            return f"{noun} {text!r} is not fit for image names, because {fault}"
    if len(parts) < fewest:
        return f"{noun} {text!r} names no group or user that holds the project"
    if (word := _find_reserved(parts)) is not None:
        return f"{noun} {text!r} holds the reserved word {word!r}"
    return None


def _find_fault_of_component(part: str, new: bool) -> str | None:
    if not part:
        return "a component is empty"
    if (foreign := _FOREIGN.search(part)) is not None:
        return f"{part!r} has the {'capital' if foreign[0].isupper() else 'character'} {foreign[0]!r}"
    if part[0] in _SIGNS:
        return f"{part!r} begins with {part[0]!r}"
    if part[-1] in _SIGNS:
        return f"{part!r} ends with {part[-1]!r}"
    together = _SIGNS_TOGETHER.search(part)
    if together is not None and (new or not _is_repository_name(part)):
        return f"{part!r} has {together[0]!r}, where a single sign may stand"
    return None


def _find_reserved(parts: list[str]) -> str | None:
    """The first component that pages or protocols need; above the last, an older node may have some of the words."""
    for part in parts:
        if part in RESERVED_ANYWHERE:
            return part
    last = parts[-1]
    return last if last in (RESERVED_AT_TOP if len(parts) == 1 else RESERVED_BELOW_TOP) else None


def _is_repository_name(text: str) -> bool:
    try:
        RepositoryName.parse(text)
    except NameInvalid:
        return False
    return True


def _mend(text: str, kind: NodeKind) -> str | None:
    """The most similar path that would do; None where there is none to speak of."""
    ascii_text = unicodedata.normalize("NFKD", text[: 2 * NAME_LIMIT].casefold()).encode("ascii", "ignore").decode()
    if kind is NodeKind.USER:
        ascii_text = ascii_text.replace("/", "-")
    given = ascii_text.split("/")
    parts = [_mend_component(part, new=index == len(given)) for index, part in enumerate(given, 1)]
    parts = [part for part in parts if part]
    if parts and (word := _find_reserved(parts)) is not None:
        other = word.replace(".", "-") if "." in word else f"{word}-{kind}"
        parts = [other if part == word else part for part in parts]
    if kind is NodeKind.PROJECT and len(parts) == 1:
        parts = ["group", *parts]
    mended = "/".join(parts)
    return mended if mended and _find_fault(mended, kind) is None else None


def _mend_component(part: str, new: bool) -> str:
    if _find_fault_of_component(part, new) is None:
        return part
    return _SIGNS_TOGETHER.sub(lambda signs: signs[0][0], _FOREIGN.sub("-", part)).strip(_SIGNS)

"""Scopes of the token protocol: `repository:NAME:ACTIONS`, as clients ask for them and as a token holds them; pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cache.oci.errors import NameInvalid
from cache.oci.names import RepositoryName

REPOSITORY = "repository"
ALL_ACTIONS = "*"
CATALOG = "registry:catalog"
"""Name under which a token lists the right to the list of all repositories; no repository can have it."""

CATALOG_SCOPE = f"{CATALOG}:{ALL_ACTIONS}"
"""Scope of that list (distribution's token specification)."""

BELOW = "/*"
"""What follows a name in a scope for all repositories below it."""

PULL = "pull"
ACTIONS = (PULL, "push", "delete")
"""Actions that a token may hold, in the order in which they are written; `*` stands for all of them."""

SCOPE_LIMIT = 20
"""Repositories of one request for a token, each of which may cost a query; clients ask for one, or two for a mount."""

WORD_LIMIT = 100
"""Scopes of one request, also those that are joined or mean nothing."""


NO_PROJECTS: Mapping[str, str] = {}


class TooManyScopes(ValueError):
    """A request has more scopes than one may have."""


@dataclass(frozen=True, slots=True)
class RequestedScope:
    """Request for one repository: the name as the client spelled it, and the actions.

    `everything`: it wrote `*`. `below`: for all repositories below the name, `NAME/*`, of which only pulls are granted
    (GitLab registry API, "Repositories").
    """

    name: RepositoryName
    actions: frozenset[str]
    everything: bool = False
    below: bool = False


def parse_scopes(texts: Iterable[str], own_hosts: Iterable[str] = ()) -> list[RequestedScope]:
    """Read every `scope` of a request, each of which may hold several with blanks between them.

    What means nothing here is dropped: other types, names that no repository has, unknown actions (distribution's token
    specification: a server grants what it can). A host before the name, with a port that the specification does not
    foresee, is dropped where it is one of `own_hosts`. Scopes of one name are joined. Raises TooManyScopes.
    """
    hosts = frozenset(own_hosts)
    found: dict[str, RequestedScope] = {}
    words = [word for text in texts for word in text.split()]
    if len(words) > WORD_LIMIT:
        raise TooManyScopes(f"the request has more than {WORD_LIMIT} scopes")
    for word in words:
        scope = _parse(word, hosts)
        if scope is None:
            continue
        key = f"{scope.name}{BELOW}" if scope.below else scope.name.text
        known = found.get(key)
        if known is not None:
            actions, everything = scope.actions | known.actions, scope.everything or known.everything
            scope = RequestedScope(scope.name, actions, everything, scope.below)
        elif len(found) == SCOPE_LIMIT:
            raise TooManyScopes(f"the request has scopes for more than {SCOPE_LIMIT} repositories: ask for fewer")
        found[key] = scope
    return list(found.values())


def asks_for_catalog(texts: Iterable[str]) -> bool:
    """Whether the scopes of a request name the list of all repositories, which shows to each what it may pull."""
    return any(CATALOG_SCOPE in text.split() for text in texts)


def _parse(word: str, hosts: frozenset[str]) -> RequestedScope | None:
    kind, _, rest = word.partition(":")
    name, colon, actions = rest.rpartition(":")
    if kind.partition("(")[0] != REPOSITORY or not colon:  # `repository(plugin)` is a repository of a class
        return None
    host, slash, rest = name.partition("/")
    if slash and host.lower() in hosts:
        name = rest
    wanted = frozenset(actions.split(","))
    everything = ALL_ACTIONS in wanted
    known = frozenset(ACTIONS) if everything else wanted.intersection(ACTIONS)
    below = name.endswith(BELOW)
    if below:
        known, everything = known & {PULL}, False
    try:
        parsed = RepositoryName.parse(name.removesuffix(BELOW))
    except NameInvalid:
        return None
    return RequestedScope(parsed, known, everything, below) if known else None


def scope_text(name: str, actions: Iterable[str]) -> str:
    """The text of one scope, with its actions in the usual order."""
    if name == CATALOG:
        return CATALOG_SCOPE
    wanted = frozenset(actions)
    return f"{REPOSITORY}:{name}:{','.join(action for action in ACTIONS if action in wanted)}"


def access_document(
    granted: Mapping[str, frozenset[str]], projects: Mapping[str, str] = NO_PROJECTS
) -> list[dict[str, object]]:
    """The claim `access` of a token: what is granted, by canonical name; `*` too where that is everything. `projects`:
    the paths of the projects of some names, which stand there as GitLab's tokens have them."""
    return [
        {
            "type": kind if name == CATALOG else REPOSITORY,
            "name": rest if name == CATALOG else name,
            "actions": [action for action in (*ACTIONS, ALL_ACTIONS) if action in actions],
            **({"meta": {"project_path": projects[name]}} if name in projects else {}),
        }
        for name, actions in granted.items()
        for kind, _, rest in [name.partition(":")]
    ]


def claimed_projects(document: Sequence[Mapping[str, object]]) -> dict[str, str]:
    """Read the paths of projects that a claim `access` states, by canonical name."""
    claimed: dict[str, str] = {}
    for entry in document:
        name, meta = entry.get("name"), entry.get("meta")
        path = meta.get("project_path") if isinstance(meta, dict) else None
        if isinstance(name, str) and isinstance(path, str):
            claimed[name] = path
    return claimed


def granted_actions(document: Sequence[Mapping[str, object]]) -> dict[str, frozenset[str]]:
    """Read the actions of a claim `access` by canonical name, without the `*` of repositories.

    Raises ValueError, TypeError, KeyError.
    """
    granted: dict[str, frozenset[str]] = {}
    for entry in document:
        name, actions = entry["name"], entry["actions"]
        if f"{entry['type']}:{name}" == CATALOG:
            granted[CATALOG] = frozenset({ALL_ACTIONS})
        elif entry["type"] == REPOSITORY and isinstance(name, str) and isinstance(actions, list):
            granted[name] = granted.get(name, frozenset()) | frozenset(map(str, actions)).intersection(ACTIONS)
    return granted

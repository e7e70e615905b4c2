"""The matrix of authorisation: every cell of authorisation.toml, for each credential, scheme and route, at a running
server with two workers."""

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, cast
from unittest.mock import Mock

import pytest

from gateway.services import Services
from gateway.v2.opener import RepositoryOpener
from gateway.v2.routes import RegistryApi
from tests.conftest import Publish
from tests.parts.canaries import found_below, found_in, remember
from tests.parts.gateway import Gateway
from tests.parts.registry import Registry

from .authorisation import ABSENT, ACTIONS, Outcome, Party, ProxyParty, read_table
from .kept import (
    Answer,
    Header,
    Kept,
    basic,
    bearer,
    computed,
    granted_by,
    request_by_get,
    request_by_post,
    scope,
    token_of,
)
from .parties import OLD_PLACE, Groves, plant_all
from .tree import NineProjects, run

pytestmark = pytest.mark.long
CLIENTS = 4
NOWHERE = "sha256:" + "5e" * 32
ONE_ROUTE = {("manifest", "GET"), ("manifest", "PUT"), ("manifest", "DELETE")}
SCHEMES = ("Basic", "Bearer by GET", "Bearer by POST")
Sender = Callable[[Kept, str, str, Sequence[str]], Answer]
SENDERS: dict[str, Sender] = {"Bearer by GET": request_by_get, "Bearer by POST": request_by_post}


@dataclass(frozen=True)
class Rig:
    """The server, with all that is stored in it. `blob`: digest of a blob of the proxied image."""

    server: Gateway
    groves: Groves
    manifest: str
    blob: str


@pytest.fixture(scope="module")
def rig(
    tmp_path_factory: pytest.TempPathFactory, registry: Registry, published: Publish, processes: None
) -> Iterator[Rig]:
    tiny = published("tiny")
    config = {"workers": 2, "upstreams": {"docker.io": registry.settings()}, "cache": {"ttl": "1h", "scrub_rate": "0"}}
    server = Gateway(tmp_path_factory.mktemp("authorisation"), config)
    groves = run(server.data, plant_all)
    server.start()
    yield Rig(server, groves, tiny.digest, tiny.manifest["layers"][0]["digest"])
    server.kill()
    shown = found_below(server.data) | {"log": found_in(server.log_text().encode())}
    assert not any(shown.values()), f"secrets show in {shown}"


@dataclass
class Differences:
    """What a server does that the table does not say; `seen` counts comparisons."""

    seen: int = 0
    found: list[str] = field(default_factory=list)

    def note(self, right: bool, where: str, answer: Answer | object) -> None:
        self.seen += 1
        if not right:
            self.found.append(f"{where}: {answer}"[:600])

    def check(self, at_least: int) -> None:
        shown = "\n".join(sorted(self.found)[:40])
        if self.found:
            pytest.fail(f"{len(self.found)} of {self.seen} cells differ:\n{shown}", pytrace=False)
        assert self.seen >= at_least


def compare(server: Gateway, work: "Sequence[Callable[[Kept, Differences], None]]") -> Differences:
    """Compares over CLIENTS connections at once, one for each piece of work, which belongs to one party.

    Each of the two workers answers a part of it.
    """

    def share(number: int) -> Differences:
        differences = Differences()
        for piece in work[number::CLIENTS]:
            with Kept(server.port) as client:
                piece(client, differences)
        return differences

    workers = server.workers
    before = [computed([worker]) for worker in workers]
    with ThreadPoolExecutor(CLIENTS) as threads:
        shares = list(threads.map(share, range(CLIENTS)))
    busy = [computed([worker]) - then for worker, then in zip(workers, before, strict=True)]
    assert len(busy) == 2 and min(busy) > sum(busy) / 20, f"one worker answered nearly everything: {busy}"
    return Differences(sum(one.seen for one in shares), [text for one in shares for text in one.found])


def path_of(name: str, kind: str, rig: Rig | None = None) -> str:
    manifest, blob = ("latest", NOWHERE) if rig is None else (rig.manifest, rig.blob)
    ends = {
        "manifest": f"manifests/{manifest}",
        "blob": f"blobs/{blob}",
        "uploads": "blobs/uploads/",
        "upload": "blobs/uploads/none",
        "tag": "tags/reference/latest",
        "tags": "tags/list",
        "referrers": f"referrers/{NOWHERE if rig is None else rig.manifest}",
    }
    return f"/v2/{name}/{ends[kind]}"


def challenge(port: int, name: str, kind: str, method: str) -> str:
    """The challenge of a request, as the token specification has it: realm, service and scope, and nothing else."""
    action = read_table().routes[kind, method]
    actions = "pull,push" if action == "push" else action
    return f'Bearer realm="http://127.0.0.1:{port}/jwt/auth",service="registry-gateway",scope="repository:{name}:{actions}"'


def shows(outcome: Outcome, answer: Answer, method: str, expected_challenge: str) -> bool:
    """Whether a refusal shows as it should; the body of a HEAD is not sent."""
    status, code, words = {
        Outcome.DENIED: (403, "DENIED", ""),
        Outcome.HIDDEN: (404, "NAME_UNKNOWN", "or not for everybody"),
        Outcome.LOGIN: (401, "UNAUTHORIZED", "; log in to "),
        Outcome.REFUSED: (401, "UNAUTHORIZED", ""),
    }[outcome]
    right = answer.status == status and (method == "HEAD" or (answer.code == code and words in answer.text))
    return right and (status != 401 or answer.header("www-authenticate") == expected_challenge)


ALLOWED: dict[str, tuple[int, str]] = {
    "manifest": (404, "MANIFEST_UNKNOWN"),
    "PUT manifest": (400, "MANIFEST_INVALID"),
    "blob": (404, "BLOB_UNKNOWN"),
    "uploads": (202, ""),
    "upload": (404, "BLOB_UPLOAD_UNKNOWN"),
    "tag": (404, "MANIFEST_UNKNOWN"),
    "referrers": (200, ""),
}
"""Status and code of an allowed request for what a project does not hold, by its kind, or its method and kind."""


def shows_allowed(answer: Answer, method: str, kind: str) -> bool:
    """Whether an allowed request to a project shows so. Repositories have no content, and come with their uploads."""
    if kind == "tags":
        none_yet = answer.status == 404 and (method == "HEAD" or "holds no repository" in answer.text)
        return answer.status == 200 or none_yet
    status, code = ALLOWED.get(f"{method} {kind}", ALLOWED[kind])
    return answer.status == status and (method == "HEAD" or not code or answer.code == code)


def headers_of(client: Kept, party: Party | ProxyParty, scheme: str, names: Sequence[str]) -> list[Header] | Answer:
    """Headers by which a party authenticates in a scheme; the token endpoint's response where it gives no token."""
    if scheme == "Basic":
        return [] if party.anonymous else [basic(party.username, party.secret)]
    answer = SENDERS[scheme](client, party.username, party.secret, [scope(name) for name in names])
    return answer if answer.status != 200 else [bearer(remember(token_of(answer)))]


def repeats(answer: Answer, party: Party | ProxyParty) -> bool:
    """Whether a response holds the secret that it was asked with."""
    return not party.anonymous and party.secret.encode() in answer.body


def refused_by_endpoint(answer: Answer) -> bool:
    right = answer.status == 401 and answer.code == "UNAUTHORIZED"
    return right and answer.header("www-authenticate") == 'Basic realm="registry-gateway"'


def ping(client: Kept, party: Party | ProxyParty, scheme: str, headers: list[Header], differences: Differences) -> None:
    refused = party.anonymous and scheme == "Basic"
    for method in ("GET", "HEAD"):
        for path in ("/v2/", "/v2"):
            answer = client.send(method, path, headers)
            differences.note(
                answer.status == (401 if refused else 200), f"{method} {path} {party.label} {scheme}", answer
            )


# Routes


def routes_of_server() -> set[tuple[str, str]]:
    """Routes of repositories that the server has, by kind of resource and method, from the table that serves them."""
    parts: Any = Mock()
    api = RegistryApi(cast(Services, parts), cast(RepositoryOpener, parts))
    return {(kind.name.lower(), method) for kind, method in api.routes}


def test_the_table_names_every_route_of_the_server() -> None:
    assert set(read_table().routes) == routes_of_server()


def test_a_method_that_is_no_route_is_refused_whoever_sends_it(rig: Rig) -> None:
    name, kinds = rig.groves.group.name_of("public/enabled"), {kind for kind, _ in read_table().routes}
    methods = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
    with Kept(rig.server.port) as client:
        for kind in sorted(kinds):
            for method in methods:
                answer = client.send(method, path_of(name, kind))
                routed = (kind, method) in read_table().routes
                assert (answer.status == 405) == (not routed), (kind, method, answer)


# Projects


@pytest.mark.parametrize("where", ["group", "namespace"])
def test_projects_are_for_whom_the_table_says(rig: Rig, where: str) -> None:
    groves = rig.groves
    at_group = where == "group"
    nine, parties = (groves.group, groves.parties) if at_group else (groves.namespace, groves.parties_of_namespace)
    work = [lambda client, differences, party=party: ask(client, differences, rig, nine, party) for party in parties]
    compare(rig.server, work).check(at_least=(60 if at_group else 3) * 450)


def test_old_names_of_projects_are_for_whom_the_table_says(rig: Rig) -> None:
    nine = replace(rig.groves.group, place=OLD_PLACE)
    parties = [party for party in rig.groves.parties if party.thorough]
    work = [lambda client, differences, party=party: ask(client, differences, rig, nine, party) for party in parties]
    compare(rig.server, work).check(at_least=len(work) * 100)


def shows_moved(answer: Answer, method: str, kind: str) -> bool:
    """Whether an allowed request by an old name shows so: what is not pulled, and has not begun before, is told the new
    name."""
    if read_table().routes[kind, method] == "pull" or kind == "upload":
        return shows_allowed(answer, method, kind)
    return (answer.status, answer.code, "has moved to acme/team" in answer.text) == (403, "DENIED", True)


def ask(client: Kept, differences: Differences, rig: Rig, nine: NineProjects, party: Party) -> None:
    """Compares all that one party may do at the nine projects, and at one that does not exist."""
    shows_yes = shows_moved if nine.place == OLD_PLACE else shows_allowed
    rows = [*nine.projects, ABSENT]
    names = {row: nine.name_of(row) for row in rows}
    refused = all(party.expected(row, action) is Outcome.REFUSED for row in rows for action in ACTIONS)
    for scheme in SCHEMES:
        headers = headers_of(client, party, scheme, list(names.values()))
        if isinstance(headers, Answer):
            differences.note(refused and refused_by_endpoint(headers), f"token for {party.label} {scheme}", headers)
            continue
        if scheme != "Basic":
            compare_grant(differences, party, names, headers[0][1].removeprefix("Bearer "), scheme)
        if not refused:
            ping(client, party, scheme, headers, differences)
        if scheme == "Bearer by POST" and not party.thorough:
            continue  # the token is the one that a GET gives, as its grant shows
        for (kind, method), action in read_table().routes.items():
            if not party.thorough and (kind, method) not in ONE_ROUTE:
                continue
            for row, name in names.items():
                answer, outcome = client.send(method, path_of(name, kind), headers), party.expected(row, action)
                right = (
                    shows_yes(answer, method, kind)
                    if outcome is Outcome.YES
                    else shows(outcome, answer, method, challenge(rig.server.port, name, kind, method))
                )
                where = f"{party.label} / {row} / {method} {kind} / {scheme}"
                differences.note(right and not repeats(answer, party), f"{where}: not {outcome}", answer)


def compare_grant(differences: Differences, party: Party, names: dict[str, str], token: str, scheme: str) -> None:
    granted = granted_by(token)
    for row, name in names.items():
        expected = {action for action in ACTIONS if party.expected(row, action) is Outcome.YES}
        got = set(granted.get(name, frozenset()))
        differences.note(got == expected, f"{party.label} / {row} / granted {scheme}: not {sorted(expected)}", got)
    differences.note(set(granted) <= set(names.values()), f"{party.label} / granted more", granted)


# The API of GitLab's registry


def test_the_api_of_gitlabs_registry_is_for_whoever_may_pull(rig: Rig) -> None:
    groves = rig.groves
    parties = [party for party in groves.parties if party.thorough]
    work = [lambda client, differences, party=party: ask_gitlab(client, differences, rig, party) for party in parties]
    compare(rig.server, work).check(at_least=len(work) * 50)


def ask_gitlab(client: Kept, differences: Differences, rig: Rig, party: Party) -> None:
    nine, (action, paths) = rig.groves.group, read_table().gitlab
    headers = headers_of(client, party, "Basic", [])
    assert not isinstance(headers, Answer), "Basic needs no token"
    for row in [*nine.projects, ABSENT]:
        name, outcome = nine.name_of(row), party.expected(row, action)
        for path, is_wide in paths.items():
            below = f" repository:{name}/*:pull" if is_wide else ""
            expected = challenge(rig.server.port, name, "tags", "GET").removesuffix('"') + f'{below}"'
            for method in ("GET", "HEAD"):
                answer = client.send(method, f"/gitlab/v1/{path.format(name)}", headers)
                right = (
                    answer.status == 200 or (answer.status == 404 and "or not for everybody" not in answer.text)
                    if outcome is Outcome.YES
                    else shows(outcome, answer, method, expected)
                )
                where = f"{party.label} / {row} / {method} {path}"
                differences.note(right and not repeats(answer, party), f"{where}: not {outcome}", answer)


# The list of all repositories


def test_the_list_of_repositories_shows_what_may_be_pulled(rig: Rig) -> None:
    groves = rig.groves
    work = [
        lambda client, differences, nine=nine, party=party: ask_catalog(client, differences, nine, party)
        for nine, parties in ((groves.group, groves.parties), (groves.namespace, groves.parties_of_namespace))
        for party in parties
    ]
    compare(rig.server, work).check(at_least=len(work) * 5)


def ask_catalog(client: Kept, differences: Differences, nine: NineProjects, party: Party) -> None:
    """Compares which of the nine repositories one party finds in the list."""
    methods, shows, scope_of_list = read_table().catalog
    outcomes = {nine.name_of(row): party.expected(row, shows) for row in nine.projects}
    expected = sorted(name for name, outcome in outcomes.items() if outcome is Outcome.YES)
    refused = Outcome.REFUSED in outcomes.values()
    for scheme in SCHEMES:
        headers = headers_of(client, party, scheme, [])
        if isinstance(headers, Answer):
            differences.note(refused and refused_by_endpoint(headers), f"token for {party.label} {scheme}", headers)
            continue
        if scheme != "Basic":
            answer = client.send("GET", "/v2/_catalog", headers)
            differences.note(answer.status == 401, f"{party.label} {scheme} without the scope", answer)
            token = token_of(SENDERS[scheme](client, party.username, party.secret, [scope_of_list]))
            headers = [bearer(remember(token))]
        for method in methods:
            answer = client.send(method, "/v2/_catalog?n=1000", headers)
            where = f"{party.label} / {method} catalog / {scheme}"
            if refused:
                differences.note(answer.status == 401, where, answer)
            elif method == "HEAD":
                differences.note(answer.status == 200, where, answer)
            else:
                shown = [name for name in json.loads(answer.body)["repositories"] if name in outcomes]
                differences.note(answer.status == 200 and shown == expected, f"{where}: not {expected}", answer)
    posted = client.send("POST", "/v2/_catalog")
    differences.note(posted.status == 405, f"{party.label} / POST catalog", posted)


# Dependency proxies


def test_dependency_proxies_are_for_whom_the_table_says(rig: Rig) -> None:
    work = [
        lambda client, differences, party=party: ask_proxy(client, differences, rig, party)
        for party in rig.groves.proxy_parties
    ]
    assert {(party.row, party.group) for party in rig.groves.proxy_parties} == set(read_table().cells["proxy", "pull"])
    compare(rig.server, work).check(at_least=len(work) * 20)


def ask_proxy(client: Kept, differences: Differences, rig: Rig, party: ProxyParty) -> None:
    """Compares all that one party may do with one image through one group."""
    name, outcome = f"depot/{party.group}/dependency_proxy/containers/library/tiny", party.expected()
    for scheme in SCHEMES:
        headers = headers_of(client, party, scheme, [name])
        where = f"{party.label} / {scheme}"
        if isinstance(headers, Answer):
            differences.note(outcome is Outcome.REFUSED and refused_by_endpoint(headers), f"token for {where}", headers)
            continue
        if scheme != "Basic":
            granted = granted_by(headers[0][1].removeprefix("Bearer "))
            expected = {name: frozenset({"pull"})} if outcome is Outcome.YES else {}
            differences.note(granted == expected, f"{where}: granted not {expected}", granted)
        if outcome is not Outcome.REFUSED:
            ping(client, party, scheme, headers, differences)
        for (kind, method), action in read_table().routes.items():
            answer = client.send(method, path_of(name, kind, rig), headers)
            if outcome is not Outcome.YES:
                expected_challenge = challenge(rig.server.port, name, kind, method)
                right = shows(outcome, answer, method, expected_challenge)
            elif action == "pull":
                right = answer.status == 200
            else:
                right = answer.status == 405 and answer.code == "UNSUPPORTED" and "only be pulled" in answer.text
            differences.note(right and not repeats(answer, party), f"{where} / {method} {kind}: not {outcome}", answer)

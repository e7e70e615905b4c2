"""What a client may not know of looks like what does not exist: in status, headers, body and time."""

import os
import re
import time
from collections.abc import Iterator
from datetime import timedelta
from statistics import median

import pytest

from gateway.db import moves
from tests.parts.canaries import remember
from tests.parts.gateway import Gateway

from .kept import Answer, Header, Kept, basic, bearer, computed, request_by_get, scope, token_of
from .tree import PASSWORD, Planter, run

PAIRS, PAIRS_OF_OTHER_ROUTES = 2_000, 300
LARGEST_DIFFERENCE = 0.0002
"""Seconds, as the median of the differences of pairs: what delays both of a pair changes none."""

NATIVE = ("acme/hidden/app", "acme/absent/app")
INSIDE = ("acme/hidden", "acme/absent")
PROXIED = ("hidden/dependency_proxy/containers/library/tiny", "absent/dependency_proxy/containers/library/tiny")
PLACES = ("acme/hidden/app", "acme/hidden/apz")
"""Beginnings of lists, after which the same repositories come."""

MOVED = ("acme/gone/app", "acme/lost/app")
MOVED_GROUP = ("gone/dependency_proxy/containers/library/tiny", "lost/dependency_proxy/containers/library/tiny")
"""Old names of a project and a group that are hidden, beside names that never were."""

NAMES = {
    "project": NATIVE,
    "project itself": INSIDE,
    "group": PROXIED,
    "moved project": MOVED,
    "moved group": MOVED_GROUP,
}
PATHS = (
    "manifests/latest",
    f"blobs/sha256:{'5e' * 32}",
    "tags/list",
    f"referrers/sha256:{'5e' * 32}",
    "blobs/uploads/",
    "blobs/uploads/none",
    "tags/reference/latest",
)


async def _plant(planter: Planter) -> None:
    await planter.user("stranger")
    await planter.user("adele", admin=True)
    await planter.group("acme")
    await planter.repository("acme/hidden/app", await planter.project("acme/hidden"))
    await planter.group("hidden")
    await planter.repository("acme/gone/app", await planter.project("acme/gone"))
    await planter.group("gone")
    for move, old, new in ((moves.move_project, "acme/gone", "acme/away"), (moves.move_group, "gone", "away")):
        await move(planter.connection, old, new, planter.now, timedelta(days=1))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, processes: None) -> Iterator[Gateway]:
    server = Gateway(tmp_path_factory.mktemp("hidden"), {"log_format": "json"})
    run(server.data, _plant)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def client(server: Gateway) -> Iterator[Kept]:
    with Kept(server.port) as client:
        yield client


def credential(client: Kept, who: str) -> list[Header]:
    """Headers of a client of some kind."""
    match who:
        case "anonymous":
            return []
        case "Basic":
            return [basic("stranger", PASSWORD)]
        case "anonymous Bearer":
            return [bearer(token_of(request_by_get(client, "", "", [])))]
    return [bearer(remember(token_of(request_by_get(client, "stranger", PASSWORD, []))))]


WHO = ("anonymous", "Basic", "anonymous Bearer", "Bearer")


def without_name(answer: Answer, name: str) -> tuple[int, list[Header], bytes]:
    """A response without what must differ: the requested name, which it repeats, the request's id and the date."""
    text = answer.body.decode()
    headers = [(key, value) for key, value in answer.headers if key not in ("x-request-id", "date")]
    for part in (name, name.partition("/dependency_proxy")[0]):
        text = re.sub(re.escape(part) + r"\b", "NAME", text)
        headers = [(key, re.sub(re.escape(part) + r"\b", "NAME", value)) for key, value in headers]
    return answer.status, headers, text.encode()


@pytest.mark.parametrize("what", NAMES)
@pytest.mark.parametrize("who", WHO)
def test_a_hidden_name_is_answered_as_one_that_does_not_exist(client: Kept, who: str, what: str) -> None:
    headers = credential(client, who)
    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"):
        for path in PATHS:
            hidden, absent = (client.send(method, f"/v2/{name}/{path}", headers) for name in NAMES[what])
            assert without_name(hidden, NAMES[what][0]) == without_name(absent, NAMES[what][1]), (method, path)


@pytest.mark.parametrize("who", ["anonymous", "Basic"])
def test_a_token_names_neither_what_is_hidden_nor_what_does_not_exist(client: Kept, who: str) -> None:
    login = ("", "") if who == "anonymous" else ("stranger", PASSWORD)
    for names in NAMES.values():
        for name in names:
            answer = request_by_get(client, *login, [scope(name)])
            assert b'"scope":""' in answer.body.replace(b" ", b"")


ROUTES = {
    "manifest": ("GET", "/v2/{}/manifests/latest"),
    "blob": ("HEAD", f"/v2/{{}}/blobs/sha256:{'5e' * 32}"),
    "tags": ("GET", "/v2/{}/tags/list"),
    "referrers": ("GET", f"/v2/{{}}/referrers/sha256:{'5e' * 32}"),
    "push": ("POST", "/v2/{}/blobs/uploads/"),
    "upload": ("PATCH", "/v2/{}/blobs/uploads/none"),
    "deletion": ("DELETE", "/v2/{}/tags/reference/latest"),
    "catalog": ("GET", "/v2/_catalog?last={}"),
    "token": ("GET", "/jwt/auth?service=registry-gateway&scope=repository:{}:pull,push,delete"),
}


@pytest.mark.parametrize("who", WHO)
def test_the_list_of_repositories_goes_on_after_a_hidden_name_as_after_an_absent_one(client: Kept, who: str) -> None:
    headers = credential(client, who)
    for method in ("GET", "HEAD"):
        hidden, absent = (client.send(method, f"/v2/_catalog?last={name}", headers) for name in PLACES)
        assert without_name(hidden, PLACES[0]) == without_name(absent, PLACES[1])
        assert b"hidden" not in hidden.body


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("what", ["project", "group", "moved project"])
@pytest.mark.parametrize("who", ["anonymous", "Basic", "Bearer"])
def test_a_hidden_name_takes_as_long_as_one_that_does_not_exist(
    server: Gateway, client: Kept, who: str, what: str, route: str
) -> None:
    """The limit is that of a machine without other work: by so much as others delay each request, it is larger."""
    headers = credential(client, who)
    lines = "".join(f"{key}: {value}\r\n" for key, value in headers)
    method, target = ROUTES[route]
    lines += "Content-Length: 0\r\n" if method in ("POST", "PATCH") else ""
    targets = [target.format(name) for name in (PLACES if route == "catalog" else NAMES[what])]
    requests = [f"{method} {text} HTTP/1.1\r\nHost: 127.0.0.1\r\n{lines}\r\n" for text in targets]
    hidden, absent = (request.encode() for request in requests)
    for request in (hidden, absent) * 50:
        client.exchange(method, request)
    taken: dict[bytes, list[float]] = {hidden: [], absent: []}
    before, begun = computed([*server.workers, os.getpid()]), time.perf_counter()
    for number in range(PAIRS if route == "manifest" else PAIRS_OF_OTHER_ROUTES):
        for request in (hidden, absent) if number % 2 else (absent, hidden):
            sent = time.perf_counter()
            client.exchange(method, request)
            taken[request].append(time.perf_counter() - sent)
    slower_by = (time.perf_counter() - begun) / (computed([*server.workers, os.getpid()]) - before)
    difference = median(map(float.__sub__, taken[hidden], taken[absent]))
    shown = f"{difference * 1e6:.0f} µs of {median(taken[hidden]) * 1e6:.0f}, slower by {slower_by:.1f}"
    print(f"{route} {who} {what}: {shown}")
    assert abs(difference) < LARGEST_DIFFERENCE * max(1.0, slower_by), shown

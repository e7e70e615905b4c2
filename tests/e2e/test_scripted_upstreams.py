"""Every client that pulls from a registry straight pulls from it through the gateway, whatever that registry is like.

The table that the test prints (pytest -s) has a row for each scripted registry and a column for each client: `yes`, or
`-` where the client cannot pull from that registry straight either. crane and oras are columns where Go is installed.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.parts.challenger import CHALLENGES, TOKENS, Challenger
from tests.parts.clients import ClientFailed, Skopeo
from tests.parts.engines import Containerd, Dockerd
from tests.parts.found_documents import FOUND
from tests.parts.found_documents import found as document
from tests.parts.gateway import Gateway
from tests.parts.go_clients import CRANE, ORAS, GoClient, find_go_client
from tests.parts.images import Images
from tests.parts.liar import Answer, Liar
from tests.parts.quirks import REFUSED_HEADS
from tests.parts.records import Record

from .conftest import LongLived

Pull = Callable[[str], bool]


class Redirecting(Liar):
    """registry.k8s.io: everything but /v2/ is redirected to another registry, without its query
    (https://github.com/kubernetes/registry.k8s.io/blob/main/cmd/archeio/internal/app/handlers.go)."""

    def __init__(self, target: Liar) -> None:
        super().__init__()
        self._target = target

    def _honest_answer(self, record: Record, *, ranged: bool) -> Answer:
        if record.path == "/v2/":
            return super()._honest_answer(record, ranged=ranged)
        return Answer(307, {"Location": f"{self._target.url}{record.path}"}, b"")


@pytest.fixture(scope="module")
def registries(images: Images) -> Iterator[dict[str, Liar]]:
    """The scripted registries by what is odd about them, each with the same image."""
    with ExitStack() as stack:
        target = stack.enter_context(Liar())
        found: dict[str, Liar] = {"honest": Liar(), "redirects everything": Redirecting(target)}
        for name, lie in REFUSED_HEADS.items():
            liar = found[f"HEAD: {name}"] = Liar()
            liar.behave("/library/", lie, "HEAD")
        for name, challenge in CHALLENGES.items():
            demanding = found[f"challenge: {name}"] = Challenger()
            demanding.challenge = challenge
        for name, tokens in TOKENS.items():
            issuing = found[f"token: {name}"] = Challenger()
            issuing.tokens = tokens
        for liar in (target, *found.values()):
            liar.offer(images.tiny)
        for name in FOUND:
            if not name.startswith("thousands"):
                found[f"document: {name}"] = odd = Liar()
                odd.offer(images.tiny)
                odd.offer_manifest("latest", *document(name, images.tiny))
        yield {name: stack.enter_context(liar) for name, liar in found.items()}


@pytest.fixture(scope="module")
def upstreams(registries: dict[str, Liar]) -> dict[str, str]:
    """The name of the upstream that each registry is."""
    return {name: f"r{number}.example" for number, name in enumerate(registries)}


@pytest.fixture(scope="module")
def server(registries: dict[str, Liar], upstreams: dict[str, str], long_lived: LongLived) -> Gateway:
    settings = {upstreams[name]: liar.settings() for name, liar in registries.items()}
    return long_lived({"upstreams": settings, "workers": 1})


@pytest.fixture(scope="module")
def clients(workplace: Path, processes: None) -> Iterator[dict[str, Pull]]:
    """The clients by name; each pulls an image whole, and keeps nothing of it."""
    folder = workplace / "pulling"
    folder.mkdir()
    skopeo = Skopeo(folder / "skopeo")
    found: dict[str, Pull] = {}
    with ExitStack() as stack:

        def by_skopeo(reference: str) -> bool:
            return worked(lambda: skopeo.pull(reference, folder / f"skopeo-{len(os.listdir(folder))}"))

        found["skopeo"] = by_skopeo
        docker = Dockerd(folder / "dockerd", "{}")
        stack.callback(docker.stop)

        def by_docker(reference: str) -> bool:
            pulled = worked(lambda: docker.run("pull", "--quiet", reference))
            worked(lambda: docker.run("rmi", "--force", reference))
            return pulled

        found["docker"] = by_docker
        containerd = Containerd(folder / "containerd")
        stack.callback(containerd.stop)

        def by_ctr(reference: str) -> bool:
            pulled = worked(lambda: containerd.pull("--plain-http", reference))
            worked(lambda: containerd.forget(reference))
            return pulled

        found["ctr"] = by_ctr
        for module in (CRANE, ORAS):
            if (program := find_go_client(module)) is not None:
                found[program.name] = GoClient(program, folder).pull
        yield found


def worked(action: Callable[[], object]) -> bool:
    try:
        action()
    except ClientFailed:
        return False
    return True


def test_what_a_client_pulls_straight_it_pulls_through_the_gateway(
    registries: dict[str, Liar], upstreams: dict[str, str], server: Gateway, clients: dict[str, Pull]
) -> None:
    table: dict[str, dict[str, str]] = {}
    for name, liar in registries.items():
        for client, pull in clients.items():
            image = f"library/{client}:latest"  # a name of its own, so that each client meets the registry's quirks
            word = "yes" if pull(server.proxied(f"{upstreams[name]}/{image}")) else "-"
            if word != "yes" and pull(f"{liar.netloc}/{image}"):
                word = "NO"
            table.setdefault(name, {})[client] = word
    print()
    print("".join([f"{'':46}", *(f"{client:>10}" for client in clients)]))
    for name, row in table.items():
        print("".join([f"{name:46}", *(f"{word:>10}" for word in row.values())]))
    assert "NO" not in {word for row in table.values() for word in row.values()}
    assert set(table["honest"].values()) == {"yes"}

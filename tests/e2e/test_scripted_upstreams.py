"""Every client that pulls from a registry straight pulls from it through the gateway, whatever that registry is like.

The table that the test prints (pytest -s) has a row for each scripted registry and a column for each client: `yes`, or
`-` where the client cannot pull from that registry straight either. Each image is pulled a second time where something
happens to the registry in the meantime, such as the end of a token.
"""

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from tests.parts.clients import ClientFailed, Skopeo
from tests.parts.engines import Containerd, Dockerd
from tests.parts.gateway import Gateway
from tests.parts.go_clients import CRANE, ORAS, GoClient, build_go_client
from tests.parts.images import Images
from tests.parts.scripted import HEADERS, ODD_DOCUMENT, PASSWORD, USER, Scripted, scripted_registries

from .conftest import LongLived
from .datafolder import await_rest

Pull = Callable[[str], object]
CLIENTS = ("skopeo", "docker", "ctr", "crane", "oras")


@pytest.fixture(scope="module")
def registries(images: Images) -> Iterator[dict[str, Scripted]]:
    with ExitStack() as stack:
        found = scripted_registries(images.tiny, [f"library/{client}" for client in CLIENTS])
        for scripted in found.values():
            for listener in scripted.listeners:
                stack.enter_context(listener)
        yield found


@pytest.fixture(scope="module")
def upstreams(registries: dict[str, Scripted]) -> dict[str, str]:
    """The name of the upstream that each registry is."""
    return {name: f"r{number}.example" for number, name in enumerate(registries)}


@pytest.fixture(scope="module")
def server(
    registries: dict[str, Scripted], upstreams: dict[str, str], long_lived: LongLived, workplace: Path
) -> Gateway:
    password_file = workplace / "password-of-scripted-registries"
    password_file.write_text(PASSWORD)
    login = {"username": USER, "password_file": str(password_file), "groups": ["hub"]}
    settings = {
        upstreams[name]: scripted.liar.settings(
            url=scripted.liar.url + scripted.path, **(login if scripted.login else {})
        )
        for name, scripted in registries.items()
    }
    return long_lived({"upstreams": settings, "workers": 1, "cache": {"ttl": "0s"}})


@pytest.fixture(scope="module")
def clients(workplace: Path, processes: None) -> Iterator[dict[str, Pull]]:
    """The clients by name; each pulls an image whole, and keeps nothing of it. Raises PartFailed where one is
    missing."""
    folder = workplace / "pulling"
    folder.mkdir()
    numbers = itertools.count()
    skopeo = Skopeo(folder / "skopeo")
    crane, oras = (GoClient(build_go_client(module), folder) for module in (CRANE, ORAS))
    with ExitStack() as stack:
        docker = Dockerd(folder / "dockerd", "{}")
        stack.callback(docker.stop)
        containerd = Containerd(folder / "containerd")
        stack.callback(containerd.stop)

        def by_docker(reference: str) -> None:
            try:
                docker.run("pull", "--quiet", reference)
            finally:
                worked(partial(docker.run, "rmi", "--force"), reference)

        def by_ctr(reference: str) -> None:
            try:
                containerd.pull("--plain-http", reference)
            finally:
                worked(containerd.forget, reference)

        pulls: list[Pull] = [
            lambda reference: skopeo.pull(reference, folder / f"skopeo-{next(numbers)}"),
            by_docker,
            by_ctr,
            crane.pull,
            oras.pull,
        ]
        yield dict(zip(CLIENTS, pulls, strict=True))


def worked(pull: Pull, reference: str) -> bool:
    try:
        pull(reference)
    except ClientFailed:
        return False
    return True


@pytest.mark.long
def test_what_a_client_pulls_straight_it_pulls_through_the_gateway(
    registries: dict[str, Scripted],
    upstreams: dict[str, str],
    server: Gateway,
    clients: dict[str, Pull],
    images: Images,
) -> None:
    blobs = [digest for digest in images.tiny.blobs if digest not in images.tiny.manifests]

    def outcome(name: str, client: str) -> str:
        image = f"library/{client}"  # a name of its own, so that each client meets the registry's quirks
        if worked(clients[client], server.proxied(f"{upstreams[name]}/{image}:latest")):
            return "yes"
        scripted = registries[name]
        straight = worked(clients[client], f"{scripted.liar.netloc}{scripted.path}/{image}:latest")
        return "NO" if straight else "-"

    print(f"\n{'':46}", *(f"{client:>9}" for client in CLIENTS))
    table: dict[str, list[str]] = {}
    with ThreadPoolExecutor(len(CLIENTS)) as threads:
        for name, scripted in registries.items():
            words = list(threads.map(outcome, [name] * len(CLIENTS), CLIENTS))
            if scripted.later is not None and set(words) == {"yes"}:
                for client in CLIENTS:
                    await_rest(server, f"{upstreams[name]}/library/{client}", *blobs)
                scripted.later()
                words = list(threads.map(outcome, [name] * len(CLIENTS), CLIENTS))
            table[name] = words
            print(f"{name:46}", *(f"{word:>9}" for word in words))
    expected = {"yes", "-"}
    assert {word for words in table.values() for word in words} <= expected
    partial_rows = {name for name, words in table.items() if "-" in words}
    assert {name for name in partial_rows if not name.startswith((ODD_DOCUMENT, HEADERS))} == set()

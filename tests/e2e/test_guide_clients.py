"""The examples of the user guide run as written, through each client and with each credential that it names."""

from collections.abc import Iterator
from pathlib import Path
from string import Template

import pytest

from tests.parts.gateway import Gateway
from tests.parts.private_machine import REGISTRY

from .guide import Guide, open_guide
from .guide_clients import LINES, Client, Daemonless, Docker

pytestmark = pytest.mark.long

CREDENTIALS = ("password", "personal token", "deploy token", "job token")


@pytest.fixture(scope="module")
def guide(workplace: Path, processes: None) -> Iterator[Guide]:
    with open_guide(workplace / "clients") as guide:  # podman refuses longer paths
        yield guide


@pytest.fixture(scope="module")
def server(guide: Guide) -> Gateway:
    """Provides the server under its own name, for the check of its log."""
    return guide.server


@pytest.fixture(scope="module")
def credentials(guide: Guide) -> dict[str, tuple[str, str]]:
    found = guide.every_credential()
    assert tuple(found) == CREDENTIALS
    return found


@pytest.fixture(scope="module", params=LINES)
def client(request: pytest.FixtureRequest, guide: Guide) -> Iterator[tuple[str, Client]]:
    """A client with its name."""
    if request.param == "docker":
        yield request.param, Docker(guide.service)
    else:
        daemonless = Daemonless(request.param, guide.machine)
        yield request.param, daemonless
        daemonless.close()


@pytest.mark.parametrize("kind", CREDENTIALS)
def test_the_examples_run_with_each_credential(
    kind: str, client: tuple[str, Client], guide: Guide, server: Gateway, credentials: dict[str, tuple[str, str]]
) -> None:
    name, program = client
    lines, (user, secret) = LINES[name], credentials[kind]
    repository = f"team/app/{name}"
    platforms = f"{REGISTRY}/{repository}:{kind.replace(' ', '-')}"

    def run(line: str, image: str = platforms) -> str:
        """What the client prints for a line of the guide."""
        given = {"USER": user, "SECRET": secret, "IMAGE": image, "LIST": platforms}
        return program.run(Template(line).substitute(given), guide.source)

    run(lines.login)
    for architecture in ("amd64", "arm64"):
        image = f"{platforms}-{architecture}"
        (guide.source / "content").write_text(f"{name}, {kind}, {architecture}\n")
        run(lines.build, image)
        run(lines.push, image)
        run(lines.remove, image)
        run(lines.pull, image)
        digest = guide.digest(repository, image.rpartition(":")[2])
        assert digest
        assert digest in run(lines.listed, image)
    for line in lines.multi:
        run(line)
    document = guide.index(repository, platforms.rpartition(":")[2])
    assert [entry["platform"]["architecture"] for entry in document] == ["amd64", "arm64"]
    found = [guide.digest(repository, f"{platforms.rpartition(':')[2]}-{end}") for end in ("amd64", "arm64")]
    assert [entry["digest"] for entry in document] == found

"""Real clients log in with an ID token of an issuer on a real port, push and pull, and are refused without a rule."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.parts.canaries import found_in
from tests.parts.certs import Authority
from tests.parts.engines import Dockerd
from tests.parts.gateway import Gateway
from tests.parts.images import Images
from tests.parts.issuer import Issuer
from tests.parts.logins import LoginClient, docker, podman, skopeo
from tests.parts.postgresql import Databases

from .conftest import LongLived

PUSHES = {"claims": {"repository": "acme/app", "ref": "refs/heads/main"}, "project": "team/app", "role": "developer"}
PULLS = {"claims": {"repository_owner": "acme"}, "group": "team", "role": "reporter"}
CLIENTS = ("docker", "skopeo", "podman")


@pytest.fixture(scope="module")
def issuer(authority: Authority) -> Iterator[Issuer]:
    issuer = Issuer(authority, "RS256").start()
    yield issuer
    issuer.stop()


@pytest.fixture(scope="module")
def clients(workplace: Path, processes: None) -> Iterator[dict[str, LoginClient]]:
    engine = Dockerd(workplace / "dockerd-of-id-tokens", "{}")
    folder = workplace / "idc"
    yield {"docker": docker(engine), "skopeo": skopeo(folder / "skopeo"), "podman": podman(workplace / "idp")}
    engine.stop()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def server(
    request: pytest.FixtureRequest, long_lived: LongLived, issuer: Issuer, images: Images, workplace: Path
) -> Iterator[Gateway]:
    config: dict[str, object] = {"workers": 2, "oidc": {"ci": issuer.settings(PUSHES, PULLS)}}
    if request.param == "postgresql":
        databases: Databases = request.getfixturevalue("databases")
        address = asyncio.run(databases.server.create("of_id_tokens", "template0"))
        config["database"] = {"url": str(address), "password_file": str(address.password_file)}
    server = long_lived(config)
    server.json("group", "create", "team")
    server.json("project", "create", "team/app")
    yield server
    assert not found_in(server.log_text().encode()), "the log holds a token"


def test_clients_push_and_pull_with_the_role_of_a_rule(
    server: Gateway, issuer: Issuer, clients: dict[str, LoginClient], images: Images, scratch: Path
) -> None:
    layout = images["tiny"].path
    pusher = skopeo(scratch / "pusher")
    image = f"{server.host}/team/app/web:latest"
    assert pusher.login(scratch / "login", server.host, "oidc", issuer.token()).done
    pushed = pusher.push(scratch / "login", layout, image)
    assert pushed.done, pushed.text
    for name in CLIENTS:
        client, folder = clients[name], scratch / name
        given = client.login(folder, server.host, "oidc", issuer.token(ref="refs/heads/other"))
        assert given.done, (name, given.text)
        pulled = client.pull(folder, image)
        assert pulled.done, (name, pulled.text)
    reader = skopeo(scratch / "reader")
    assert reader.login(scratch / "reading", server.host, "oidc", issuer.token(ref="refs/heads/other")).done
    assert not reader.push(scratch / "reading", layout, image).done


def test_a_token_goes_on_as_a_password_after_it_has_expired(
    server: Gateway, issuer: Issuer, images: Images, scratch: Path
) -> None:
    client, image = skopeo(scratch / "client"), f"{server.host}/team/app/later:latest"
    now = int(issuer.claims()["iat"])
    short = issuer.token(iat=now - 100, nbf=now - 100, exp=now - 55)  # within the skew of clocks, for 5 s
    assert client.login(scratch / "login", server.host, "oidc", short).done
    for _ in range(2):
        pushed = client.push(scratch / "login", images["tiny"].path, image)
        assert pushed.done, pushed.text


@pytest.mark.parametrize("changed", [{"repository_owner": "evil", "repository": "evil/app"}, {"aud": "elsewhere"}])
def test_clients_are_refused_without_a_rule(
    server: Gateway, issuer: Issuer, clients: dict[str, LoginClient], scratch: Path, changed: dict[str, str]
) -> None:
    for name in CLIENTS:
        refused = clients[name].login(scratch / name, server.host, "oidc", issuer.token(**changed))
        assert not refused.done, name

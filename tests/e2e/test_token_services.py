"""Tests of demands for tokens, and of limits, in the words of public registries."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from tests.conftest import GatewayFactory
from tests.parts import raw
from tests.parts.canaries import CANARY
from tests.parts.challenger import CHALLENGES, EXPIRED, TOKENS, Challenger
from tests.parts.clients import Skopeo
from tests.parts.gateway import Gateway
from tests.parts.images import Images
from tests.parts.liar import Liar
from tests.parts.lies import Lie, answered, redirected
from tests.parts.limits import LIMITS

from .conftest import LongLived
from .datafolder import error_of

QUIET = {"ttl": "0s", "prefetch": False}
REGISTRIES = len(CHALLENGES) + len(EXPIRED) + len(TOKENS) + 2 * len(LIMITS) + 3
"""Number of registries, one for each test: a server remembers what a registry has demanded."""


@pytest.fixture(scope="module")
def registries(images: Images) -> Iterator[list[Challenger]]:
    with ExitStack() as stack:
        started = [stack.enter_context(Challenger()) for _ in range(REGISTRIES)]
        for registry in started:
            registry.offer(images.tiny)
        yield started


@pytest.fixture(scope="module")
def server(registries: list[Challenger], long_lived: LongLived) -> Gateway:
    """Has each registry as the upstream of a name, revalidates at each pull, and fetches nothing ahead."""
    upstreams = {name_of(registry): registry.settings() for registry in registries}
    return long_lived({"upstreams": upstreams, "cache": QUIET})


@pytest.fixture(scope="module")
def unused(registries: list[Challenger]) -> list[Challenger]:
    return list(registries)


@pytest.fixture
def challenger(unused: list[Challenger]) -> Challenger:
    """A registry that no other test uses."""
    return unused.pop()


def name_of(registry: Challenger) -> str:
    return f"r{registry.port}.example"


def app_at(server: Gateway, registry: Challenger) -> str:
    """URL of its image at the server of all registries."""
    return server.proxied_url(f"{name_of(registry)}/acme/app")


def tokens(challenger: Liar) -> int:
    return challenger.requests.count(path_contains="/token")


@pytest.mark.parametrize("name", CHALLENGES)
def test_a_demand_in_any_words_is_met_for_the_image_itself(
    name: str, challenger: Challenger, gateway: GatewayFactory, images: Images, skopeo: Skopeo, scratch: Path
) -> None:
    challenger.challenge = CHALLENGES[name]
    server = gateway({"upstreams": {"docker.io": challenger.settings()}})
    pulled = skopeo.pull(server.proxied("acme/app:latest"), scratch / "through")
    assert not pulled.missing(images.tiny)
    [asked] = [record for record in challenger.requests.select() if record.path == "/token"]
    query = parse_qs(asked.query)
    assert query["scope"] == ["repository:acme/app:pull"]
    assert query.get("service", [""])[0] in CHALLENGES[name]
    assert asked.header("accept-encoding") == "identity"


@pytest.mark.parametrize("name", EXPIRED)
def test_a_token_that_expired_is_renewed_whatever_the_registry_demands_then(
    name: str, challenger: Challenger, server: Gateway
) -> None:
    challenger.expired_challenge = EXPIRED[name]
    url = f"{app_at(server, challenger)}/manifests/latest"
    assert raw.get(url).headers["x-cache"] == "MISS"
    for _ in range(2):
        challenger.expire()
        assert raw.get(url).headers["x-cache"] == "REVALIDATED"


@pytest.mark.parametrize("name", TOKENS)
def test_one_token_serves_the_pulls_of_an_image_until_it_is_refused(
    name: str, challenger: Challenger, server: Gateway
) -> None:
    challenger.tokens = TOKENS[name]
    url = f"{app_at(server, challenger)}/manifests/latest"
    assert [raw.get(url).headers["x-cache"] for _ in range(4)] == ["MISS", *["REVALIDATED"] * 3]
    assert tokens(challenger) == 1
    challenger.expire()
    assert raw.get(url).headers["x-cache"] == "REVALIDATED"
    assert tokens(challenger) == 2


@pytest.mark.parametrize("at", ["the registry", "the token service"])
@pytest.mark.parametrize("name", LIMITS)
def test_while_a_limit_lasts_what_is_held_is_stale(name: str, at: str, challenger: Challenger, server: Gateway) -> None:
    url = f"{app_at(server, challenger)}/manifests/latest"
    assert raw.get(url).status == 200
    if at == "the registry":
        challenger.behave("/v2/", LIMITS[name])
    else:
        challenger.expire()
        challenger.behave("/token", LIMITS[name])
    for _ in range(3):
        answer = raw.get(url)
        assert (answer.status, answer.headers["x-cache"]) == (200, "STALE")
    other = raw.get(server.proxied_url(f"{name_of(challenger)}/acme/other/manifests/v1"))
    assert (other.status, error_of(other)["code"]) == (503, "UNAVAILABLE")
    assert 1 <= int(other.headers["retry-after"]) <= 60


def test_a_delay_in_the_message_is_no_long_pause(challenger: Challenger, server: Gateway) -> None:
    url = f"{app_at(server, challenger)}/manifests/latest"
    challenger.behave("/v2/", LIMITS["ghcr.io"].only(1))
    answer = raw.get(url)
    assert (answer.status, answer.headers.get("retry-after")) in ((503, "1"), (200, None))
    challenger.requests.clear()
    assert raw.get(url, timeout=20).status == 200  # without the delay, 30 s would be waited for


def test_a_token_service_may_redirect_and_the_credential_goes_to_no_other_host(
    challenger: Challenger, gateway: GatewayFactory, scratch: Path
) -> None:
    password = scratch / "password"
    password.write_text(CANARY)
    with Liar() as known, Liar() as stranger:
        login = {"username": "alice", "password_file": str(password), "groups": ["hub"]}
        settings = challenger.settings(token_hosts=[known.netloc], **login)
        server = gateway({"upstreams": {"docker.io": settings}, "cache": QUIET})
        token = Lie(status=201, body=b'{"token":"t-9"}')
        known.behave("/token", token)
        stranger.behave("/token", token)
        url = server.proxied_url("acme/app/manifests/latest")

        challenger.behave("/token", redirected(f"{stranger.url}/token"))
        answer = raw.get(url)
        assert (answer.status, stranger.connections) == (503, 0)
        assert "token_hosts" in error_of(answer)["message"]

        challenger.behave("/token", redirected(f"{known.url}/token"))
        assert raw.get(url).status == 200
        [asked] = known.requests.select(path_contains="/token")
        assert asked.header("authorization") is None
        [first, *_] = challenger.requests.select(path_contains="/token")
        assert (first.header("authorization") or "").startswith("Basic ")


def test_the_reason_of_a_token_service_is_shown(challenger: Challenger, server: Gateway) -> None:
    """Docker Hub's: https://github.com/docker/kitematic/issues/3089."""
    challenger.behave("/token", answered(400, b'{"details":"the organisation is unknown"}'))
    answer = raw.get(f"{app_at(server, challenger)}/manifests/latest")
    assert (answer.status, "the organisation is unknown" in error_of(answer)["message"]) == (503, True)

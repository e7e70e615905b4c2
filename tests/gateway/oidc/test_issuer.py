"""An issuer on a real port with TLS: what is fetched of it, and what it must not be."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from gateway.oidc.errors import IssuerUnusable
from gateway.oidc.issuer import KEYS_LIMIT, IssuerClient
from gateway.settings.tables import OidcSettings
from gateway.wiring.oidc import issuer_client
from tests.parts.certs import Authority
from tests.parts.issuer import Issuer, redirect


@pytest.fixture(scope="module")
def running(authority: Authority) -> Iterator[Issuer]:
    issuer = Issuer(authority).start()
    yield issuer
    issuer.stop()


@pytest.fixture
def issuer(running: Issuer) -> Iterator[Issuer]:
    yield running
    running.respond, running.configuration = None, {}
    running.requests.clear()


@pytest.fixture
async def client(issuer: Issuer) -> AsyncIterator[Callable[..., IssuerClient]]:
    made: list[IssuerClient] = []

    def make(**changed: Any) -> IssuerClient:
        made.append(issuer_client(OidcSettings.model_validate(issuer.settings(**changed))))
        return made[-1]

    yield make
    for each in made:
        await each.close()


async def test_keys_are_found_by_what_the_issuer_says_of_itself(
    issuer: Issuer, client: Callable[..., IssuerClient]
) -> None:
    issuer.configuration = {"token_endpoint": f"{issuer.url}/token"}
    assert (await client().metadata())["token_endpoint"] == f"{issuer.url}/token"
    assert set(await client().keys()) == {"first"}
    assert issuer.requests == ["/.well-known/openid-configuration"] * 2 + ["/keys"]


@pytest.mark.parametrize(
    ("configuration", "reason"),
    [
        ({"issuer": "https://other.example.com"}, "another issuer"),
        ({"issuer": None}, "another issuer"),
        ({"jwks_uri": None}, "no jwks_uri"),
        ({"jwks_uri": "http://127.0.0.1/keys"}, "no jwks_uri with https"),
        ({"jwks_uri": "https://user@127.0.0.1/keys"}, "no jwks_uri with https"),
        ({"jwks_uri": "file:///etc/passwd"}, "no jwks_uri with https"),
        ({"jwks_uri": ["https://127.0.0.1"]}, "no jwks_uri with https"),
    ],
)
async def test_a_configuration_that_is_not_its_own_is_refused(
    issuer: Issuer, client: Callable[..., IssuerClient], configuration: dict[str, Any], reason: str
) -> None:
    issuer.configuration = configuration
    with pytest.raises(IssuerUnusable, match=reason):
        await client().keys()
    assert "/keys" not in issuer.requests


def answer_with(content: bytes, status: int = 200) -> Callable[[Request], Response]:
    return lambda request: Response(content, status, media_type="application/json")


@pytest.mark.parametrize(
    ("respond", "reason"),
    [
        (redirect, "responded with 307"),
        (answer_with(b"", 500), "responded with 500"),
        (answer_with(b"", 404), "responded with 404"),
        (answer_with(b"<html>"), "not a JSON document"),
        (answer_with(b"[" * 100), "JSON document"),
        (answer_with(b"x" * (KEYS_LIMIT + 1)), "more than"),
    ],
)
async def test_what_is_no_configuration_is_refused(
    issuer: Issuer, client: Callable[..., IssuerClient], respond: Callable[[Request], Response], reason: str
) -> None:
    issuer.respond = respond
    with pytest.raises(IssuerUnusable, match=reason):
        await client().keys()
    assert len(issuer.requests) == 1


async def test_an_issuer_on_a_private_address_is_reached_only_where_the_settings_say_so(
    issuer: Issuer, client: Callable[..., IssuerClient]
) -> None:
    with pytest.raises(IssuerUnusable):
        await client(private_addresses=False).keys()
    assert issuer.requests == []


async def test_a_certificate_that_is_not_trusted_is_refused(
    issuer: Issuer, client: Callable[..., IssuerClient], tmp_path: Path
) -> None:
    other = Authority(tmp_path / "other")
    with pytest.raises(IssuerUnusable):
        await client(ca_file=str(other.ca_file)).keys()
    assert issuer.requests == []

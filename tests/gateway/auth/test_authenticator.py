"""Principals of requests."""

import pytest

from gateway.auth.authenticator import Authenticator
from gateway.auth.principal import ANONYMOUS
from tests.gateway.asgi import scope_of


@pytest.mark.parametrize("authorization", [None, "Basic YTpi", "Bearer abc", "Bearer", "\x00"])
async def test_every_request_is_anonymous_whatever_credential_it_bears(authorization: str | None) -> None:
    headers = [] if authorization is None else [("Authorization", authorization)]
    assert await Authenticator().authenticate(scope_of("GET", "/v2/", headers)) == ANONYMOUS

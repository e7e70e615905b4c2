"""OidcSignIn: how often an issuer is asked what it says of itself."""

from datetime import UTC, datetime
from typing import Any, cast

import pytest

from gateway.auth.oidc_sign_in import OidcSignIn, SignInIssuer
from gateway.auth.refused_logins import LoginRefused
from gateway.directory.identity_administration import IdentityAdministration
from gateway.oidc.code_flow import SignInAttempt
from gateway.oidc.errors import IssuerUnusable
from gateway.oidc.issuer import IssuerClient
from gateway.oidc.key_set import IssuerKeys


class Unreachable:
    """An issuer that cannot be reached; counts how often it was asked."""

    asked = 0

    async def metadata(self) -> Any:
        self.asked += 1
        raise IssuerUnusable("it did not respond in time")


async def test_an_issuer_that_fails_is_not_asked_again_by_everybody_who_follows_the_link() -> None:
    client, none = Unreachable(), cast(Any, None)
    issuer = SignInIssuer(
        *("ci", "https://ci.example", "registry", ()),
        cast(IssuerClient, client),
        cast(IssuerKeys, none),
        str,
    )
    sign_in = OidcSignIn([issuer], cast(IdentityAdministration, none), lambda: datetime.now(UTC))
    for number in range(3):
        with pytest.raises(LoginRefused) as refused:
            await sign_in.begin(SignInAttempt("ci", f"secret{number}"), "https://registry.example/callback")
        assert "did not respond in time" in refused.value.reason
    assert client.asked == 1

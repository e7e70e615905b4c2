"""A password that expires: what is cached stays, people are told, and the next password needs no restart."""

from pathlib import Path

from tests.conftest import GatewayFactory
from tests.faults.remains import metric
from tests.parts import raw
from tests.parts.guarded import EXPIRED_AT_ECR, Guarded
from tests.parts.images import Images
from tests.parts.pages import PAGES

from .closed_group import GROUP, ClosedGroup
from .datafolder import await_log, await_rest, error_of

UPSTREAM = "registry.corp.example"


def test_an_expired_password_is_reported_and_replaced_without_a_loss(
    gateway: GatewayFactory, images: Images, scratch: Path
) -> None:
    password_file = scratch / "password"
    password_file.write_text("first")
    with Guarded("Basic", AWS="first") as registry:
        layout = registry.offer(images.tiny)
        login = {"username": "AWS", "password_file": str(password_file), "groups": ["hub"]}
        upstreams = {"ecr.example": registry.settings(**login)}
        server = gateway({"upstreams": upstreams, "cache": {"ttl": "0s", "prefetch": False}})

        def get(path: str, image: str = "acme/app") -> raw.RawResponse:
            return raw.get(server.proxied_url(f"ecr.example/{image}/{path}"))

        layer = layout.layers[0]
        assert get("manifests/latest").status == get(f"blobs/{layer}").status == 200
        await_rest(server, "ecr.example/acme/app", layer)

        registry.users, registry.expired = {"AWS": "second"}, EXPIRED_AT_ECR
        for _ in range(2):
            stale = get("manifests/latest")
            assert (stale.body, stale.headers["x-cache"]) == (layout.manifest_bytes, "STALE")
            assert "AWS" in stale.headers["warning"]
        assert get(f"manifests/{layout.digest}").headers["x-cache"] == "HIT"
        assert get(f"blobs/{layer}").headers["x-cache"] == "HIT"
        unknown = get("manifests/latest", "acme/unknown")
        assert (unknown.status, error_of(unknown)["code"]) == (503, "UNAVAILABLE")
        assert "AWS" in error_of(unknown)["message"]
        await_log(server, "upstream_credential_refused")
        assert (metric(server, "gateway_upstream_credential_refusals_total") or 0) >= 1

        password_file.write_text("second")
        assert get("manifests/latest").headers["x-cache"] == "REVALIDATED"
        assert get("manifests/latest", "acme/unknown").status == 200


def test_an_account_opens_a_private_image_to_members_until_its_password_is_wrong(
    gateway: GatewayFactory, images: Images, scratch: Path
) -> None:
    """The example of the pages, and what they say that clients and the log tell."""
    password_file = scratch / "corp-token"
    password_file.write_text("first\n")
    with Guarded("Basic", robot="first") as registry:
        layout = registry.offer(images.tiny)
        account = registry.settings(username="robot", password_file=str(password_file))
        server = gateway({"upstreams": {UPSTREAM: account}, "cache": {"ttl": "0s", "prefetch": False}})
        alice = ClosedGroup(server).ann

        def get(group: str, image: str = "acme/app") -> raw.RawResponse:
            login = alice.basic if group == GROUP else {}
            return raw.get(server.proxied_url(f"{UPSTREAM}/{image}/manifests/latest", group), login)

        assert get(GROUP).body == layout.manifest_bytes
        assert error_of(get("hub"))["code"] == "MANIFEST_UNKNOWN"
        await_log(server, documented("refuses access to acme/app without a login"))

        registry.users = {"robot": "second"}
        told = error_of(get(GROUP, "acme/other"))
        said = documented("refuses user robot (401): the password may have expired; replace it")
        assert (told["code"], told["message"]) == ("UNAVAILABLE", f"{registry.netloc} {said}")
        assert get(GROUP).headers["x-cache"] == "STALE"
        await_log(server, documented("upstream_credential_refused"))

        password_file.write_text("second\n")
        assert get(GROUP, "acme/other").status == 200

        registry.closed = {"acme/closed"}
        assert error_of(get(GROUP, "acme/closed"))["code"] == "MANIFEST_UNKNOWN"
        await_log(server, documented("refuses access to acme/app to user robot").replace("app", "closed"))


def documented(text: str) -> str:
    """A text that the page on upstreams quotes."""
    assert text in PAGES["upstreams"].replace("\n", " ")
    return text

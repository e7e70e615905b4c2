"""A password that expires: what is cached stays, people are told, and the next password needs no restart."""

from pathlib import Path

from tests.conftest import GatewayFactory
from tests.faults.remains import metric
from tests.parts import raw
from tests.parts.guarded import EXPIRED_AT_ECR, Guarded
from tests.parts.images import Images

from .datafolder import await_rest, error_of


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
        assert "upstream_credential_refused" in server.log_text()
        assert (metric(server, "gateway_upstream_credential_refusals_total") or 0) >= 1

        password_file.write_text("second")
        assert get("manifests/latest").headers["x-cache"] == "REVALIDATED"
        assert get("manifests/latest", "acme/unknown").status == 200

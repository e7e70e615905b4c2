"""Upstream of all peers: a docker-registry with images of one layer each, which counts its requests."""

import json
from pathlib import Path

from tests.bench.peers import IMAGE
from tests.parts.images import CONFIG, MANIFEST, seeded
from tests.parts.registry import Registry

MB = 1024 * 1024
LAYER = "application/vnd.oci.image.layer.v1.tar"


class Upstream:
    """Registry with `layers` by tag. `large` is the pulled image; the others are for clients that need a cold blob
    each."""

    def __init__(self, directory: Path, large: int = 256 * MB) -> None:
        self._registry = Registry(directory)
        self._registry.start()
        self.layers: dict[str, str] = {}
        self._log_from = 0
        self._config = self._registry.put_blob(IMAGE, b"{}")
        sizes = {"large": large, "small1": MB, "small16": MB, "large1": large, "large16": large}
        for tag, size in sizes.items():
            self._publish(tag, seeded(f"bench-{tag}", size))

    @property
    def url(self) -> str:
        return self._registry.url

    @property
    def base(self) -> str:
        return f"{self.url}/v2/{IMAGE}"

    def stop(self) -> None:
        self._registry.stop()

    def forget_requests(self) -> None:
        self._log_from = len(self._registry.log_text())

    def gets(self, digest: str) -> int:
        """Number of GET requests for the blob since `forget_requests`."""
        lines = self._registry.log_text()[self._log_from :].splitlines()
        return sum(1 for line in lines if f'"GET /v2/{IMAGE}/blobs/{digest} ' in line)

    def _publish(self, tag: str, layer: bytes) -> None:
        digest = self.layers[tag] = self._registry.put_blob(IMAGE, layer)
        publish(self._registry, tag, digest, len(layer), self._config)


def publish(registry: Registry, tag: str, digest: str, size: int, config: str) -> None:
    """Publishes a manifest with one layer, which makes the image known."""
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": config, "size": 2},
        "layers": [{"mediaType": LAYER, "digest": digest, "size": size}],
    }
    registry.put_manifest(IMAGE, tag, MANIFEST, json.dumps(document).encode())

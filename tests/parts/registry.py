"""Real registry (Debian's docker-registry) over a folder, and ways to fill it."""

import http.client
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from .clients import Skopeo
from .images import INDEX, ImageLayout, digest_of
from .ports import HOST, free_port
from .processes import PartFailed, Process, answers_http, binary


@dataclass(frozen=True)
class RegistryFolder:
    """docker-registry's folder seen from outside: what a repository holds and where the bytes are."""

    root: Path

    @property
    def _v2(self) -> Path:
        return self.root / "docker" / "registry" / "v2"

    def repository(self, name: str) -> Path:
        return self._v2 / "repositories" / name

    def holds_repository(self, name: str) -> bool:
        return (self.repository(name) / "_manifests").is_dir()

    def holds_blob(self, name: str, digest: str) -> bool:
        """Whether the repository may serve that blob (not only whether its bytes exist)."""
        algorithm, _, hex_digits = digest.partition(":")
        return (self.repository(name) / "_layers" / algorithm / hex_digits / "link").is_file()

    def blob_file(self, digest: str) -> Path:
        algorithm, _, hex_digits = digest.partition(":")
        return self._v2 / "blobs" / algorithm / hex_digits[:2] / hex_digits / "data"

    def manifests(self, name: str) -> list[tuple[str, bytes]]:
        """Every manifest of the repository: digest and bytes."""
        revisions = self.repository(name) / "_manifests" / "revisions"
        digests = [link.read_text().strip() for link in sorted(revisions.glob("*/*/link"))]
        return [(digest, self.blob_file(digest).read_bytes()) for digest in digests]


class Registry:
    """docker-registry on a separate port, with its data and log below `directory`.

    The port and the data outlive `stop`, so that `start` starts the same registry again.
    """

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.folder = RegistryFolder(directory / "data")
        self._skopeo = Skopeo(directory / "skopeo")
        self._pushed: set[tuple[str, str, str]] = set()
        self.folder.root.mkdir(parents=True, exist_ok=True)
        settings = directory / "registry.json"  # JSON is YAML
        settings.write_text(
            json.dumps(
                {
                    "version": 0.1,
                    "log": {"level": "warn", "accesslog": {"disabled": False}},
                    "storage": {
                        "filesystem": {"rootdirectory": str(self.folder.root), "maxthreads": 100},
                        "delete": {"enabled": True},
                    },
                    "http": {"addr": self.netloc, "secret": "not a secret"},
                }
            )
        )
        program = binary("docker-registry", "docker-registry")
        self._process = Process([program, "serve", settings], log=directory / "registry.log")

    @property
    def netloc(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.netloc}"

    def start(self) -> None:
        self._process.start(answers_http(f"{self.url}/v2/"))

    def stop(self) -> None:
        self._process.stop()

    def log_text(self) -> str:
        return self._process.log_text()

    def settings(self) -> dict[str, Any]:
        """Settings of the server under test for an upstream that is this registry."""
        return {"url": self.url, "private_addresses": True}

    def push(self, layout: ImageLayout, name: str, tag: str = "latest") -> str:
        """Publishes an image as `name:tag`, manifests byte for byte; returns its digest. Pushing it again costs
        nothing."""
        key = (layout.digest, name, tag)
        if key not in self._pushed:
            if "subject" in layout.manifest:
                self._push_referrer(layout, name)
            else:
                self._skopeo.copy(layout.source, f"docker://{self.netloc}/{name}:{tag}")
            self._pushed = {kept for kept in self._pushed if kept[1:] != (name, tag)} | {key}
        return layout.digest

    def delete(self, name: str, digest: str) -> None:
        """Deletes a manifest, and with it every tag that points to it."""
        self.call("DELETE", f"/v2/{name}/manifests/{digest}", expected=202)
        self._pushed = {kept for kept in self._pushed if kept[:2] != (digest, name)}

    def put_manifest(self, name: str, reference: str, media_type: str, content: bytes) -> None:
        headers = {"Content-Type": media_type}
        self.call("PUT", f"/v2/{name}/manifests/{reference}", content, headers, expected=201)

    def put_blob(self, name: str, content: bytes) -> str:
        """Uploads a blob; returns its digest."""
        digest = digest_of(content)
        headers, _ = self.call("POST", f"/v2/{name}/blobs/uploads/", expected=202)
        address = urlsplit(headers["location"])
        target = f"{address.path}?{address.query}&digest={quote(digest)}"
        self.call("PUT", target, content, {"Content-Type": "application/octet-stream"}, expected=201)
        return digest

    def call(
        self,
        method: str,
        target: str,
        content: bytes | None = None,
        headers: dict[str, str] | None = None,
        *,
        expected: int = 200,
    ) -> tuple[dict[str, str], bytes]:
        """Sends one request to the registry; returns headers (lower case) and body. Raises PartFailed for another
        status."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=60)
        try:
            connection.request(method, target, content, headers or {})
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        if response.status != expected:
            raise PartFailed(f"{method} {target}: {response.status} instead of {expected}: {body[:500]!r}")
        return {key.lower(): value for key, value in response.getheaders()}, body

    def _push_referrer(self, layout: ImageLayout, name: str) -> None:
        """Pushes a referrer by digest, and under the fallback tag of the subject (distribution-spec 1.1, "Referrers Tag
        Schema")."""
        manifest = layout.manifest
        for descriptor in (manifest["config"], *manifest["layers"]):
            self.put_blob(name, layout.read(descriptor["digest"]))
        self.put_manifest(name, layout.digest, layout.media_type, layout.manifest_bytes)
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [referrer(layout.digest, layout.manifest_bytes)]}
        fallback_tag = manifest["subject"]["digest"].replace(":", "-")
        self.put_manifest(name, fallback_tag, INDEX, json.dumps(index).encode())


def referrer(digest: str, content: bytes) -> dict[str, Any]:
    """Descriptor by which an index of referrers lists a manifest."""
    manifest = json.loads(content)
    return {
        "mediaType": manifest["mediaType"],
        "digest": digest,
        "size": len(content),
        "artifactType": manifest.get("artifactType", manifest.get("config", {}).get("mediaType")),
        "annotations": manifest.get("annotations", {}),
    }

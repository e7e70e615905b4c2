"""Test images as OCI image layouts, with the same bytes each time and everywhere.

Content is SHAKE-128 of a fixed seed, and gzip is written as stored blocks, so no digest depends on a compressor.
"""

import hashlib
import io
import json
import shutil
import struct
import tarfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
EMPTY = "application/vnd.oci.empty.v1+json"
SIGNATURE = "application/vnd.example.signature.v1+json"

EPOCH = 1_600_000_000
CREATED = "2020-09-13T12:26:40Z"
STORED_BLOCK = 0xFFFF
MB = 1_000_000

Descriptor = dict[str, Any]


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def seeded(seed: str, size: int) -> bytes:
    """Makes `size` incompressible bytes that depend on `seed` alone."""
    return hashlib.shake_128(seed.encode()).digest(size)


def stored_gzip(data: bytes) -> bytes:
    """Wraps `data` in gzip (RFC 1952) with stored blocks (RFC 1951, 3.2.4): valid for every reader, compressed by
    none."""
    view = memoryview(data)
    starts = range(0, len(data), STORED_BLOCK) if data else range(1)
    parts: list[bytes | memoryview] = [b"\x1f\x8b\x08" + bytes(6) + b"\xff"]
    for start in starts:
        block = view[start : start + STORED_BLOCK]
        last = start + STORED_BLOCK >= len(data)
        parts += [struct.pack("<BHH", last, len(block), len(block) ^ 0xFFFF), block]
    parts.append(struct.pack("<II", zlib.crc32(data), len(data) & 0xFFFF_FFFF))
    return b"".join(parts)


def archive(files: Mapping[str, bytes]) -> bytes:
    """Makes an uncompressed layer that holds `files`, without owners and times."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.mtime = len(content), 0o644, EPOCH
            tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


@dataclass(frozen=True)
class ImageLayout:
    """One image (or index, or artifact) in an OCI image layout folder.

    `digest` and `media_type` are those of the top manifest; `tag` is its name in `index.json`.
    """

    name: str
    path: Path
    digest: str
    media_type: str
    tag: str = "latest"

    @cached_property
    def blobs(self) -> dict[str, Path]:
        """Every file of the layout by digest: layers, configs and manifests."""
        folder = self.path / "blobs" / "sha256"
        return {f"sha256:{file.name}": file for file in sorted(folder.iterdir())}

    @cached_property
    def manifests(self) -> dict[str, str]:
        """Digest to media type of the top manifest and, if it is an index, of its children."""
        found = {self.digest: self.media_type}
        found.update({child["digest"]: child["mediaType"] for child in self.manifest.get("manifests", [])})
        return found

    @property
    def manifest_bytes(self) -> bytes:
        return self.read(self.digest)

    @property
    def manifest(self) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(self.manifest_bytes)
        return parsed

    @property
    def layers(self) -> list[str]:
        """Digests of the layers, in order, of all manifests, each once."""
        documents = (json.loads(self.read(digest)) for digest in self.manifests)
        return list(dict.fromkeys(layer["digest"] for document in documents for layer in document.get("layers", [])))

    @property
    def source(self) -> str:
        """Reference by which skopeo reads this layout."""
        return f"oci:{self.path}:{self.tag}"

    def read(self, digest: str) -> bytes:
        return self.blobs[digest].read_bytes()


@dataclass
class LayoutWriter:
    """Writes blobs into a layout folder; `finish` makes it readable as one image."""

    name: str
    path: Path
    written: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        (self.path / "blobs" / "sha256").mkdir(parents=True)
        (self.path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')

    def blob(self, data: bytes, media_type: str) -> Descriptor:
        digest = digest_of(data)
        if digest not in self.written:
            (self.path / "blobs" / "sha256" / digest.removeprefix("sha256:")).write_bytes(data)
            self.written.add(digest)
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    def document(self, value: object, media_type: str) -> Descriptor:
        return self.blob(json.dumps(value, indent=3, sort_keys=True).encode(), media_type)

    def image(self, layers: Iterable[bytes], platform: Mapping[str, str]) -> Descriptor:
        diff_ids, descriptors = [], []
        for layer in layers:
            diff_ids.append(digest_of(layer))
            descriptors.append(self.blob(stored_gzip(layer), LAYER))
        config = {
            "created": CREATED,
            **platform,
            "config": {"Cmd": ["/bin/true"], "Labels": {"test.image": self.name}},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": [{"created": CREATED, "created_by": f"layer {number}"} for number, _ in enumerate(diff_ids)],
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.document(config, CONFIG),
            "layers": descriptors,
        }
        return self.document(manifest, MANIFEST)

    def finish(self, top: Descriptor, tag: str = "latest") -> ImageLayout:
        entry = {**top, "annotations": {"org.opencontainers.image.ref.name": tag}}
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}
        (self.path / "index.json").write_text(json.dumps(index))
        return ImageLayout(self.name, self.path, top["digest"], top["mediaType"], tag)


AMD64 = {"architecture": "amd64", "os": "linux"}
PLATFORMS = (
    AMD64,
    {"architecture": "arm64", "os": "linux", "variant": "v8"},
    {"architecture": "arm", "os": "linux", "variant": "v7"},
)


def write_tiny(layout: LayoutWriter) -> Descriptor:
    """Writes three layers of a few KB; the second is larger than one TCP segment, the first smaller than a page."""
    layers = (
        archive({"etc/hostname": b"tiny\n"}),
        archive({"srv/notes.bin": seeded("tiny notes", 40_000)}),
        archive({"srv/words.txt": b"one two three\n" * 300, "srv/seed.bin": seeded("tiny seed", 3_000)}),
    )
    return layout.image(layers, AMD64)


def write_other(layout: LayoutWriter) -> Descriptor:
    """Writes an image like tiny with another last layer, to which a tag moves; it shares two layers with tiny."""
    layers = (
        archive({"etc/hostname": b"tiny\n"}),
        archive({"srv/notes.bin": seeded("tiny notes", 40_000)}),
        archive({"srv/words.txt": b"three two one\n" * 300}),
    )
    return layout.image(layers, AMD64)


def write_mid(layout: LayoutWriter) -> Descriptor:
    """Writes one layer of 60 MB."""
    return layout.image([archive({"var/mid.bin": seeded("mid", 60 * MB)})], AMD64)


def write_big(layout: LayoutWriter) -> Descriptor:
    """Writes four layers of 75 MB each: 300 MB in all."""
    return layout.image((archive({f"var/big-{n}.bin": seeded(f"big {n}", 75 * MB)}) for n in range(4)), AMD64)


def write_multi(layout: LayoutWriter) -> Descriptor:
    """Writes an index of three platforms, which share one layer."""
    shared = archive({"usr/share/common.bin": seeded("multi common", 150_000)})
    children = []
    for platform in PLATFORMS:
        own = archive({"usr/lib/own.bin": seeded(f"multi {platform['architecture']}", 70_000)})
        children.append({**layout.image([shared, own], platform), "platform": platform})
    return layout.document({"schemaVersion": 2, "mediaType": INDEX, "manifests": children}, INDEX)


def write_referrer(layout: LayoutWriter) -> Descriptor:
    """Writes an artifact whose `subject` is tiny's manifest (image-spec 1.1); tiny itself is not in this layout."""
    beside = layout.path.with_name(layout.path.name + ".subject")
    subject = make_image("tiny", beside)
    size = len(subject.manifest_bytes)
    shutil.rmtree(beside)
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": SIGNATURE,
        "config": layout.blob(b"{}", EMPTY),
        "layers": [layout.blob(seeded("referrer", 900), SIGNATURE)],
        "subject": {"mediaType": MANIFEST, "digest": subject.digest, "size": size},
        "annotations": {"test.purpose": "refers to tiny"},
    }
    return layout.document(manifest, MANIFEST)


WRITERS: dict[str, Callable[[LayoutWriter], Descriptor]] = {
    "tiny": write_tiny,
    "other": write_other,
    "mid": write_mid,
    "big": write_big,
    "multi": write_multi,
    "referrer": write_referrer,
}


def make_image(name: str, directory: Path) -> ImageLayout:
    """Writes the image `name` (a key of WRITERS) into `directory`, replacing its content."""
    layout = LayoutWriter(name, directory)
    return layout.finish(WRITERS[name](layout))


class Images:
    """Images by name, each made below `directory` on first use."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._made: dict[str, ImageLayout] = {}

    def __getitem__(self, name: str) -> ImageLayout:
        if name not in self._made:
            self._made[name] = make_image(name, self._directory / name)
        return self._made[name]

    @property
    def tiny(self) -> ImageLayout:
        return self["tiny"]

    @property
    def other(self) -> ImageLayout:
        return self["other"]

    @property
    def mid(self) -> ImageLayout:
        return self["mid"]

    @property
    def big(self) -> ImageLayout:
        return self["big"]

    @property
    def multi(self) -> ImageLayout:
        return self["multi"]

    @property
    def referrer(self) -> ImageLayout:
        return self["referrer"]

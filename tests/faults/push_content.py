"""Content that pushers push: shared blobs of every size that has once been a boundary, new ones, and manifests."""

import hashlib
import json
import random
import threading
from collections.abc import Sequence
from typing import Any

from tests.parts.images import CONFIG, INDEX, LAYER, MANIFEST, MB, digest_of, seeded

from .library import KIB, MIB, Content

SHARED_SIZES = (0, 1, 2, 1_000, 32 * KIB - 1, 32 * KIB + 1, 300_000, MIB, MIB, 5 * MB, 20 * MB)
NEW_SIZES = (1_000, 30_000, 300_000, 900_000)
NEW_BYTES = 200 * MB
"""Bytes of all new blobs of a run: deleted ones are kept for a review, so they need their room on the disk."""


class Shelf:
    """Blobs to push. The shared ones are pushed by many at once; each new one is pushed once, while there is room."""

    def __init__(self, seed: str) -> None:
        self._seed, self._lock, self._left, self._made = seed, threading.Lock(), NEW_BYTES, 0
        self.shared = [content_of(f"shared {number}", size) for number, size in enumerate(SHARED_SIZES)]
        self.shared.append(content_of("by another algorithm", 200_000, "sha512"))

    def draw(self, chance: random.Random) -> Content:
        if chance.random() < 0.4:
            return chance.choice(self.shared)
        size = chance.choice(NEW_SIZES)
        with self._lock:
            if size > self._left:
                return chance.choice(self.shared)
            self._left -= size
            self._made += 1
            number = self._made
        return content_of(f"{self._seed} {number}", size)


def content_of(seed: str, size: int, algorithm: str = "sha256") -> Content:
    data = seeded(seed, size)
    return Content(f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}", data)


def manifest_of(config: Content, layers: Sequence[Content], note: str, subject: Content | None = None) -> Content:
    """Manifest of an image; `note` makes it another one than any of the same blobs."""
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": config.digest, "size": config.size},
        "layers": [{"mediaType": LAYER, "digest": layer.digest, "size": layer.size} for layer in layers],
        "annotations": {"note": note},
    }
    if subject is not None:
        document["subject"] = {"mediaType": MANIFEST, "digest": subject.digest, "size": subject.size}
    return as_content(document)


def index_of(children: Sequence[Content], note: str) -> Content:
    listed = [{"mediaType": MANIFEST, "digest": child.digest, "size": child.size} for child in children]
    return as_content({"schemaVersion": 2, "mediaType": INDEX, "manifests": listed, "annotations": {"note": note}})


def as_content(document: dict[str, Any]) -> Content:
    data = json.dumps(document).encode()
    return Content(digest_of(data), data)

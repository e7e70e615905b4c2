"""Large documents of an upstream: none of them keeps the event loop from other clients for long."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.parts import lies, raw
from tests.parts.gateway import Gateway
from tests.parts.images import INDEX, MANIFEST
from tests.parts.liar import Liar

SIZE = 4 * 1024 * 1024
LONGEST_PAUSE = 1.0
"""Seconds; the figures of an idle machine are in `cache.oci.document`."""


def padded(document: str, entry: str) -> bytes:
    """A document of 4 MiB that ends with a list of as many entries as fit into it."""
    head = f'{document[:-1]}, "x": ['
    return (head + entry * ((SIZE - len(head) - 10) // len(entry)) + "0]}").encode()


EMPTY = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": []})
ENTRY = json.dumps({"mediaType": MANIFEST, "digest": f"sha256:{'0' * 64}", "size": 1, "annotations": {"a": "b" * 100}})
DOCUMENTS = {
    "nested lists": padded(EMPTY, "[[]],"),
    "objects": padded(EMPTY, "{},"),
    "members": padded(EMPTY, '{"a":0,"b":1},'),
    "long numbers": padded(EMPTY, "9" * 4299 + ","),
    "texts": padded(EMPTY, '"' + "x" * 20 + '",'),
    "descriptors": f'{{"manifests": [{",".join([ENTRY] * (SIZE // (len(ENTRY) + 1) - 10))}]}}'.encode(),
    "referrers": f'{{"manifests": [{",".join([ENTRY] * 5000)}]}}'.encode(),
}


@contextmanager
def watched(server: Gateway) -> Iterator[list[float]]:
    """Measure the seconds of one request after the other that needs nothing but the event loop."""
    seconds: list[float] = []
    stopped = threading.Event()

    def watch() -> None:
        while not stopped.is_set():
            began = time.monotonic()
            assert raw.get(f"{server.url}/-/health").status == 200
            seconds.append(time.monotonic() - began)

    watcher = threading.Thread(target=watch)
    watcher.start()
    yield seconds
    stopped.set()
    watcher.join()


def test_large_documents_keep_nobody_waiting(gateway: Callable[..., Gateway], liar: Liar) -> None:
    server = gateway({"upstreams": {"docker.io": liar.settings()}})
    with watched(server) as seconds:
        for name, document in DOCUMENTS.items():
            image = f"acme/{name.replace(' ', '-')}"
            digest = liar.offer_manifest(image.replace("/", "-"), INDEX, document)
            liar.behave(f"{image}/tags/list", lies.answered(200, document, Content_Type="application/json"))
            liar.behave(f"{image}/referrers", lies.answered(200, document, Content_Type=INDEX))
            for path in (f"manifests/{image.replace('/', '-')}", "tags/list", f"referrers/{digest}"):
                answer = raw.get(server.proxied_url(f"{image}/{path}"), [("Accept", INDEX)])
                assert answer.status in (200, 502, 503)
    assert max(seconds) < LONGEST_PAUSE

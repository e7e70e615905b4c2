"""Data folder of a server, seen from outside."""

import json
from pathlib import Path
from typing import Any

from tests.parts import raw
from tests.parts.gateway import Gateway
from tests.parts.processes import wait_until
from tests.parts.raw import RawResponse

TROUBLE = ("Traceback", "request_failed", "task_failed", "fill_failed", "commit_failed")


def blob_file(gateway: Gateway, digest: str) -> Path:
    """Path of a verified blob in the cache."""
    algorithm, _, hex_digits = digest.partition(":")
    return gateway.data / "cache" / algorithm / hex_digits[:2] / hex_digits


def holds(gateway: Gateway, *digests: str) -> bool:
    return all(blob_file(gateway, digest).exists() for digest in digests)


def await_rest(gateway: Gateway, image: str, *digests: str) -> None:
    """Waits until these blobs are cached and recorded; a client may have its last byte a moment earlier."""

    def cached(digest: str) -> bool:
        return raw.head(gateway.proxied_url(f"{image}/blobs/{digest}")).headers.get("x-cache") == "HIT"

    wait_until(lambda: holds(gateway, *digests) and all(map(cached, digests)), what=f"{digests} did not come to rest")


def spools(gateway: Gateway) -> list[str]:
    """Downloads that are in progress or were left behind: each a file, with a note beside it."""
    names = {path.name.removesuffix(".note") for path in (gateway.data / "spool").iterdir()}
    return sorted(names - {"leases", "uploads"})


def trouble(gateway: Gateway) -> list[str]:
    """Lines of the log that no upstream and no client may cause."""
    return [line for line in gateway.log_text().splitlines() if any(word in line for word in TROUBLE)]


def await_log(gateway: Gateway, text: str) -> None:
    """Waits until the log holds a text: a worker writes its lines a little later, in a thread."""
    wait_until(lambda: text in gateway.log_text(), what=f"the log lacks: {text}")


def error_of(answer: RawResponse) -> dict[str, Any]:
    """The one error of an OCI error response: code, message, detail."""
    assert answer.headers["content-type"] == "application/json"
    assert answer.complete
    [error] = json.loads(answer.body)["errors"]
    assert isinstance(error, dict)
    return error

"""Canaries: secrets that the server under test must never reveal.

Every password of the tests is CANARY, every token and signature that the parts issue is recorded in this module, and
the fixture `gateway` searches the logs and data folders of the servers for all of them when a test ends.
"""

import base64
from contextlib import suppress
from pathlib import Path

CANARY = "canary-5e2f0b9c71d84a36"
SEARCHED_BYTES = 8 * 1024 * 1024

_HEAD = 6
_live: dict[bytes, set[bytes]] = {}
"""Secrets by their first bytes, which thousands of tokens share and no log holds, so that a search is short."""


def remember(secret: str) -> str:
    _live.setdefault(secret.encode()[:_HEAD], set()).add(secret.encode())
    return secret


remember(CANARY)
remember(base64.b64encode(f"ada:{CANARY}".encode()).decode())


def found_in(content: bytes) -> list[str]:
    """Secrets that the content holds."""
    heads = [head for head in tuple(_live) if head in content]
    return [secret.decode() for head in heads for secret in tuple(_live[head]) if secret in content]


def found_below(folder: Path) -> dict[str, list[str]]:
    """Files that hold secrets; blobs and refused bodies are skipped, because their content is foreign, and so is what
    a server deletes meanwhile."""
    foreign, found = {folder / "cache", folder / "quarantine"}, {}
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            if path.is_file() and foreign.isdisjoint(path.parents) and path.stat().st_size <= SEARCHED_BYTES:
                found[str(path)] = found_in(path.read_bytes())
    return {path: secrets for path, secrets in found.items() if secrets}

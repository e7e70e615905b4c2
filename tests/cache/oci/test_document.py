"""Documents: what is refused, and that nothing within the limits takes long to parse."""

import gc
import json
import time

import pytest

from cache.oci.document import DEPTH_LIMIT, ELEMENT_LIMIT, STRUCTURE_LIMIT, parse_document
from cache.oci.manifest import SIZE_LIMIT

CANARY = "canary"
LONGEST_SECONDS = 0.4
"""CPU time, ten times what is measured on an idle machine for the worst; without limits it is a second and more."""


def repeated(entry: str, count: int) -> bytes:
    return f"[{entry * min(count, SIZE_LIMIT // len(entry))}0]".encode()


MEMBERS = "{" + ",".join(f'"{number}":0' for number in range(SIZE_LIMIT // 11)) + "}"
LARGE = {
    "numbers": repeated("1,", SIZE_LIMIT),
    "lists": repeated("[],", SIZE_LIMIT),
    "nested lists": repeated("[" * (DEPTH_LIMIT - 2) + "]" * (DEPTH_LIMIT - 2) + ",", SIZE_LIMIT),
    "objects": repeated("{},", SIZE_LIMIT),
    "members": MEMBERS.encode(),
    "long fractions": repeated(f"1.{'7' * 30}e9,", SIZE_LIMIT),
    "a long fraction": b"[1." + b"1" * (SIZE_LIMIT - 6) + b"]",
    "long integers": repeated("9" * 4299 + ",", SIZE_LIMIT),
    "brackets": b"[" * SIZE_LIMIT,
}
WITHIN = {
    "texts": repeated('"0123456789",', ELEMENT_LIMIT),
    "numbers": repeated("1,", ELEMENT_LIMIT),
    "fractions": repeated(f"1.{'7' * 12}e9,", ELEMENT_LIMIT),
    "lists": repeated("[],", STRUCTURE_LIMIT - 1),
    "objects": repeated("{},", STRUCTURE_LIMIT - 1),
    "one text": json.dumps(["x" * (SIZE_LIMIT - 4)]).encode(),
}


@pytest.mark.parametrize("raw", LARGE.values(), ids=LARGE)
def test_a_document_that_would_take_long_is_refused_at_once(raw: bytes) -> None:
    began = time.thread_time()
    with pytest.raises(ValueError, match=r"too many (values|digits)|nested"):
        parse_document(raw)
    assert time.thread_time() - began < LONGEST_SECONDS


@pytest.mark.parametrize("raw", WITHIN.values(), ids=WITHIN)
def test_a_document_within_the_limits_takes_no_long_time(raw: bytes) -> None:
    expected = json.loads(raw)
    gc.freeze()  # else the collector walks all that earlier tests have left, again and again
    try:
        began = time.thread_time()
        parsed = parse_document(raw)
        taken = time.thread_time() - began
    finally:
        gc.unfreeze()
    assert parsed == expected
    assert taken < 2 * LONGEST_SECONDS


@pytest.mark.parametrize(
    "text",
    [
        f'{{"{CANARY}": 1, "{CANARY}": 2}}',
        f'{{"{CANARY}": NaN}}',
        f'["{CANARY}"',
        f'["{CANARY}\\q"]',
        f'{{"{CANARY}": {"7" * 21}}}',
        f'{{"{CANARY}": 1e999}}',
        f'{{"{CANARY}": [-1E999]}}',
        "[" * (DEPTH_LIMIT + 1) + f'"{CANARY}"' + "]" * (DEPTH_LIMIT + 1),
        f"\ufeff[{CANARY}]",
        CANARY,
        "",
    ],
)
def test_what_is_refused_is_not_repeated(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_document(text.encode())
    assert CANARY not in str(caught.value)


def test_the_largest_real_documents_are_parsed() -> None:
    annotations = {f"org.example.annotation.{number}": f"https://example.com:443/{number}" for number in range(10)}
    entry = {"mediaType": "application/x", "digest": "sha256:" + 64 * "a", "size": 2**62, "annotations": annotations}
    index = {"schemaVersion": 2, "manifests": [entry] * 1000}
    assert parse_document(json.dumps(index).encode()) == index
    tags = {"name": "acme/app", "tags": [f"v{number}.0.1" for number in range(200_000)]}
    assert parse_document(json.dumps(tags).encode()) == tags

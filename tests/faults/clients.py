"""Clients of the fault tests: each runs in a thread, pulls popular or rare images, and retries as real clients do."""

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from tests.parts import raw
from tests.parts.images import MANIFEST

from .ledger import Kind, Ledger, Seen
from .library import Content, Image

PATIENCE = 60.0
TRIES = 6
LONGEST_PAUSE = 2.0
LONGEST_REFUSAL = 400
STATED = {Kind.HEAD: "HEAD"}

Urls = Callable[[str], str]


def send_request(
    kind: Kind,
    url: str,
    image: str,
    content: Content,
    headers: Mapping[str, str] | None = None,
    part: range | None = None,
) -> Seen:
    """Sends one request and reads it to its end, however it ends. With `part`, only those bytes of the content are
    requested."""
    begun = time.monotonic()
    wanted = dict(headers or {})
    start, size = 0, content.size
    if part is not None:
        wanted["Range"] = f"bytes={part.start}-{part.stop - 1}"
    try:
        with raw.open_stream(STATED.get(kind, "GET"), url, wanted, timeout=PATIENCE) as stream:
            waited = time.monotonic() - begun
            if part is not None and stream.status == 206:
                start, size = part.start, len(part)
            right, refusal = True, b""
            try:
                if stream.status in (200, 206):
                    right = stream.same_as(content.data, start, start + size)  # a slice would be a copy for each client
                    if stream.complete:
                        right = right and promised_length(kind, stream) == size
                else:
                    refusal = stream.read_all()
                hung = False
            except TimeoutError:
                hung = True
            return Seen(
                kind,
                image,
                content.digest,
                begun,
                time.monotonic(),
                stream.status,
                stream.complete,
                right,
                hung,
                stream.received,
                waited,
                stream.headers.get("x-cache"),
                stream.headers.get("retry-after"),
                stream.headers.get("x-request-id"),
                stream.addresses[0][1],
                refusal[:LONGEST_REFUSAL].decode(errors="replace"),
            )
    except TimeoutError:
        return Seen(kind, image, content.digest, begun, time.monotonic(), hung=True)
    except raw.BrokenHead as error:
        return Seen(kind, image, content.digest, begun, time.monotonic(), port=error.port)
    except OSError:
        return Seen(kind, image, content.digest, begun, time.monotonic())


def promised_length(kind: Kind, stream: raw.RawStream) -> int:
    """Number of bytes that a complete response had; for a HEAD, the number that it promised."""
    length = stream.headers.get("content-length")
    return int(length or -1) if kind is Kind.HEAD else stream.received


class Crowd:
    """Threads of `count` clients that pull until `stop`, chosen by `seed`; the image of rank N has a weight of 1/N."""

    def __init__(self, ledger: Ledger, url: Urls, images: Sequence[Image], seed: int, count: int) -> None:
        self._ledger, self._url, self._images = ledger, url, images
        self._weights = [1 / rank for rank in range(1, len(images) + 1)]
        self._ending = threading.Event()
        self._threads = [
            threading.Thread(target=self._live, args=(random.Random(f"{seed}-{number}"),), daemon=True)
            for number in range(count)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self, within: float = 3 * PATIENCE) -> None:
        """Waits until every client has ended its current request; raises TimeoutError for one that does not."""
        self._ending.set()
        deadline = time.monotonic() + within
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                raise TimeoutError(f"a client still waits {within} s after the end of the run")

    def _live(self, chance: random.Random) -> None:
        while not self._ending.is_set():
            [image] = chance.choices(self._images, self._weights)
            if self._try(chance, lambda image=image: self._ask_manifest(chance, image)) and not self._ending.is_set():
                self._try(chance, lambda image=image: self._ask_blob(chance, image, image.config))
                self._try(chance, lambda image=image: self._ask_blob(chance, image, image.layer))

    def _try(self, chance: random.Random, once: Callable[[], Seen]) -> bool:
        """Retries until a complete response without an error arrives, at most TRIES times; whether one arrived."""
        for attempt in range(TRIES):
            seen = once()
            self._ledger.saw(seen)
            if seen.complete and seen.status < 400:
                return True
            pause = min(LONGEST_PAUSE, float(seen.retry_after or 0) or 0.1 * 2**attempt)
            if self._ending.wait(pause * chance.uniform(0.5, 1)):
                return False
        return False

    def _ask_manifest(self, chance: random.Random, image: Image) -> Seen:
        by_tag = chance.random() < 0.7
        reference = "latest" if by_tag else image.manifest.digest
        url = self._url(f"{image.name}/manifests/{reference}")
        return send_request(
            Kind.TAG if by_tag else Kind.MANIFEST, url, image.name, image.manifest, {"Accept": MANIFEST}
        )

    def _ask_blob(self, chance: random.Random, image: Image, content: Content) -> Seen:
        url = self._url(f"{image.name}/blobs/{content.digest}")
        what = chance.random()
        if what < 0.15:
            return send_request(Kind.HEAD, url, image.name, content)
        if what < 0.4 and content.size > 1:
            start = chance.randrange(content.size)
            stop = min(content.size, start + chance.choice((1, 4_096, 1_000_000, content.size)))
            return send_request(Kind.RANGE, url, image.name, content, part=range(start, stop))
        return send_request(Kind.BLOB, url, image.name, content)


def pull_everything(url: Urls, images: Sequence[Image], patience: float) -> list[Seen]:
    """Pulls every content of every image once and completely, with retries; raises TimeoutError after `patience`
    seconds."""
    seen, deadline = [], time.monotonic() + patience
    for image in images:
        paths = [(Kind.TAG, f"{image.name}/manifests/latest", image.manifest)]
        paths += [(Kind.BLOB, f"{image.name}/blobs/{content.digest}", content) for content in image.blobs]
        for kind, path, content in paths:
            while not (answer := send_request(kind, url(path), image.name, content)).served:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{path} is not served {patience} s after the end of all faults: {answer}")
                time.sleep(0.2)
            seen.append(answer)
    return seen

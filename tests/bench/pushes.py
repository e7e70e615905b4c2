"""Pieces of work that push; each returns one round's figures of one store, which was started afresh."""

import json
import threading
import time
from base64 import b64encode
from pathlib import Path

from tests.bench.clients import ACCEPT, at_once, get
from tests.bench.measure import cpu_seconds
from tests.bench.peers import Peer, RegistryGateway
from tests.bench.pushing import Content, Pusher
from tests.bench.work import Figures, Round, percentile, requests_per_second
from tests.parts.images import CONFIG, MANIFEST

MB = 1024 * 1024
GROUP, PROJECT, USER = "team", "team/app", "pusher"
LAYER = "application/vnd.oci.image.layer.v1.tar"
LARGE = 1024 * MB
COMMITS = {"small": 10 * MB, "large": 2048 * MB}
LAYERS, LAYER_BYTES = 30, 100_000
PUSHERS, PUSHER_BYTES = 8, 64 * MB


class GatewayStore(RegistryGateway):
    """Our server with a project, to which a developer pushes with a Bearer token."""

    def start(self, directory: Path, upstream: str) -> None:
        super().start(directory, upstream)
        for words in (
            ("group", "create", GROUP),
            ("project", "create", PROJECT),
            ("user", "create", USER),
            ("member", "add", GROUP, USER, "developer"),
        ):
            self.command(*words)
        scopes = ("--scope", "read_registry", "--scope", "write_registry")
        self._secret = self.command("token", "create", "--user", USER, "--name", "bench", *scopes)["token"]
        self.log_in()

    def log_in(self) -> None:
        """Fetches a Bearer token, which lasts some minutes."""
        basic = f"Authorization: Basic {b64encode(f'{USER}:{self._secret}'.encode()).decode()}\r\n"
        endpoint = f"{self.url}/jwt/auth?service=registry-gateway&scope=repository:{PROJECT}:pull,push"
        self._header = f"Authorization: Bearer {json.loads(get(endpoint, basic, keep_body=True).body)['token']}"

    @property
    def base(self) -> str:
        return f"{self.url}/v2/{PROJECT}"

    @property
    def header(self) -> str:
        return self._header


def chunked(one: Round) -> Figures:
    """One large blob as docker sends it."""
    return _large(one, chunked=True)


def with_length(one: Round) -> Figures:
    """One large blob in one body with a Content-Length."""
    return _large(one, chunked=False)


def _large(one: Round, *, chunked: bool) -> Figures:
    content = Content("large", LARGE)
    content.digest  # noqa: B018  # is computed before the clock starts
    before = cpu_seconds(one.peer.pids)
    with _pusher(one.peer) as pusher:
        began = time.perf_counter()
        pusher.push(content, chunked=chunked)
        wall = time.perf_counter() - began
    cpu = cpu_seconds(one.peer.pids) - before
    return {"mb_per_s": LARGE / 1e6 / wall, "cpu_per_gb": cpu / (LARGE / 1e9)}


def eight_pushers(one: Round) -> Figures:
    """Eight pushes at once, with a small request every 10 ms at the same time."""
    publish(one.peer)
    contents = [Content(f"eight-{number}", PUSHER_BYTES) for number in range(PUSHERS)]
    remaining = [content for content in contents if content.digest]
    waits: list[float] = []
    done = threading.Event()

    def small() -> None:
        while not done.wait(0.01):
            waits.append(_small(one))

    def push() -> None:
        with _pusher(one.peer) as pusher:
            pusher.push(remaining.pop(), chunked=True)

    beside = threading.Thread(target=small)
    before = cpu_seconds(one.peer.pids)
    beside.start()
    try:
        _, wall = at_once(PUSHERS, push)
    finally:
        done.set()
        beside.join()
    moved = PUSHERS * PUSHER_BYTES
    cpu = (cpu_seconds(one.peer.pids) - before) / (moved / 1e9)
    return {"wall": wall, "cpu_per_gb": cpu, "small_p99": percentile(waits, 0.99)}


def commits(one: Round) -> Figures:
    """Seconds of the request that ends an upload, of a small and of a large blob."""
    figures: Figures = {}
    for name, size in COMMITS.items():
        with _pusher(one.peer) as pusher:
            pusher.push(Content(f"commit-{name}", size), chunked=True)
            figures[name] = pusher.commit_seconds
    return figures | {"large_over_small": figures["large"] / figures["small"]}


def small_layers(one: Round) -> Figures:
    """An image of many small layers, four at once as docker pushes them, and its manifest."""
    layers = [Content(f"layer-{number}", LAYER_BYTES) for number in range(LAYERS)]
    remaining = [layer for layer in layers if layer.digest]

    def push() -> None:
        with _pusher(one.peer) as pusher:
            while True:
                try:
                    layer = remaining.pop()
                except IndexError:
                    return
                pusher.push(layer, chunked=True)

    began = time.perf_counter()
    at_once(4, push)
    _put_manifest(one.peer, "layers", layers)
    return {"wall": time.perf_counter() - began}


def stored_tag(one: Round) -> Figures:
    """Requests of a manifest by its tag."""
    publish(one.peer)
    headers = f"Accept: {ACCEPT}", header_of(one.peer)  # without the first, docker-registry shows no OCI image
    return {"rps": requests_per_second(f"{one.peer.base}/manifests/small", one.seconds, True, *headers)}


def header_of(peer: Peer) -> str:
    """The line with the credential that a store needs; empty for those that need none."""
    return str(getattr(peer, "header", ""))


def publish(peer: Peer) -> None:
    """Push a small image with the tag `small`."""
    layer = Content("small", 1000)
    with _pusher(peer) as pusher:
        pusher.push(layer, chunked=False)
    _put_manifest(peer, "small", [layer])


def push_small(peer: Peer, name: str) -> float:
    """Seconds of a push of a blob of 1000 bytes and a manifest, which moves a tag."""
    began = time.perf_counter()
    layer = Content(f"small-{name}", 1000)
    with _pusher(peer) as pusher:
        pusher.push(layer, chunked=False)
    _put_manifest(peer, "moving", [layer])
    return time.perf_counter() - began


def _pusher(peer: Peer) -> Pusher:
    return Pusher(peer.base, header_of(peer))


def _put_manifest(peer: Peer, tag: str, layers: list[Content]) -> None:
    config = Content("config", 1000)
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": config.digest, "size": config.size},
        "layers": [{"mediaType": LAYER, "digest": layer.digest, "size": layer.size} for layer in layers],
    }
    with _pusher(peer) as pusher:
        pusher.push(config, chunked=False)
        pusher.put_manifest(tag, MANIFEST, json.dumps(document).encode())


def _small(one: Round) -> float:
    header = header_of(one.peer)
    got = get(f"{one.peer.base}/manifests/small", f"{header}\r\n" if header else "", keep_body=True)
    if got.status != 200:
        raise RuntimeError(f"a small request: {got.status}")
    return got.seconds

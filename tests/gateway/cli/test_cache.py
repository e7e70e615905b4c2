"""`cache` commands on the data of a real server, running and stopped."""

import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cache.index.happenings import Happening, HappeningKind, HappeningLog
from cache.oci.names import RepositoryName
from cache.upstream.urls import origin_of
from cache.values import Source
from gateway.data_folder import CacheFolder
from tests.gateway.cli.terminal import on_terminal
from tests.parts import raw
from tests.parts.gateway import Gateway
from tests.parts.hub import Hub
from tests.parts.images import ImageLayout, Images, digest_of

ACCEPT = [("Accept", "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json")]


@pytest.fixture
def served(gateway: Callable[..., Gateway], hub: Hub, published: Callable[..., str]) -> Gateway:
    published("tiny")
    published("multi")
    return gateway({"upstreams": {"docker.io": hub.settings()}, "cache": {"prefetch": False}})


@pytest.fixture(scope="module")
def idle(workplace: Path, plain_hub_servers: Hub, published: Callable[..., str]) -> Iterator[Gateway]:
    """A server from which nothing is pulled."""
    published("tiny")
    with tempfile.TemporaryDirectory(dir=workplace) as directory:
        server = Gateway(Path(directory), {"upstreams": {"docker.io": plain_hub_servers.settings()}})
        server.start()
        yield server
        server.kill()


def pull(server: Gateway, images: Images, name: str) -> None:
    assert raw.get(server.proxied_url(f"{name}/manifests/latest"), ACCEPT).status == 200
    for digest in images[name].blobs:
        kind = "manifests" if digest in images[name].manifests else "blobs"
        assert raw.get(server.proxied_url(f"{name}/{kind}/{digest}"), ACCEPT).complete


def stored(server: Gateway) -> list[Path]:
    return [path for path in (server.data / "cache").rglob("*") if path.is_file()]


def test_an_empty_cache_counts_nothing(served: Gateway) -> None:
    served.stop()
    status = served.json("cache", "status")
    assert status.pop("database_bytes") > 0
    assert status == {
        "bytes": 0,
        "blobs": 0,
        "manifests": 0,
        "images": 0,
        "tags": 0,
        "quarantine_bytes": 0,
        "since": None,
        "pulls": 0,
        "hit_rate": None,
        "saved_pulls": 0,
        "sent_bytes": 0,
        "fetched_bytes": 0,
        "upstreams": [],
    }
    assert served.json("cache", "list") == []


def test_status_and_list_tell_what_was_pulled(served: Gateway, images: Images) -> None:
    pull(served, images, "tiny")
    served.stop()
    tiny = images.tiny
    size = sum(path.stat().st_size for path in tiny.blobs.values())
    counted = {"pulls": 1 + len(tiny.blobs), "saved_pulls": 1, "fetched_bytes": size}
    sent = size + tiny.blobs[tiny.digest].stat().st_size
    shared = {**counted, "sent_bytes": sent, "hit_rate": round(1 / (1 + len(tiny.blobs)), 4)}
    status = served.json("cache", "status")
    assert status.pop("since") == datetime.now(UTC).date().isoformat()
    assert status.pop("database_bytes") > size
    assert status == {
        "bytes": size,
        "blobs": len(tiny.blobs) - 1,
        "manifests": 1,
        "images": 1,
        "tags": 1,
        "quarantine_bytes": 0,
        **shared,
        "upstreams": [{"upstream": "docker.io", **shared}],
    }
    [row] = served.json("cache", "list")
    assert (row["image"], row["tag"], row["digest"], row["bytes"]) == ("library/tiny", "latest", tiny.digest, size)
    assert row["state"] == "fresh"
    assert row["last_used"] is not None


def test_explain_says_why_a_pull_would_be_answered_as_it_is(served: Gateway, images: Images) -> None:
    assert served.json("cache", "explain", "tiny")["state"] == "absent"
    assert raw.head(served.proxied_url("tiny/manifests/latest"), ACCEPT).status == 200
    assert served.json("cache", "explain", "tiny:latest")["state"] == "known"
    pull(served, images, "tiny")
    explained = served.json("cache", "explain", "docker.io/library/tiny")
    assert explained["state"] == "fresh"
    assert "ttl" in explained["reason"]
    assert served.json("cache", "explain", f"tiny@{images.tiny.digest}")["state"] == "fresh"


def test_explain_says_what_is_here_and_what_is_missing(served: Gateway, images: Images) -> None:
    tiny = images.tiny
    layer = tiny.layers[0]
    assert raw.get(served.proxied_url("tiny/manifests/latest"), ACCEPT).status == 200
    assert raw.get(served.proxied_url(f"tiny/blobs/{layer}"), ACCEPT).complete
    served.stop()
    explained = served.json("cache", "explain", "tiny")
    here = {part["digest"]: part["here"] for part in explained["parts"]}
    assert here == {digest: digest in (tiny.digest, layer) for digest in tiny.blobs}
    roles = {part["digest"]: (part["role"], part["of"]) for part in explained["parts"]}
    assert roles[tiny.digest] == ("manifest", None)
    assert roles[layer] == ("layer", tiny.digest)
    assert [part["size"] for part in explained["parts"] if part["digest"] == layer] == [
        tiny.blobs[layer].stat().st_size
    ]
    absent = len(tiny.blobs) - 2
    assert explained["next_pull"].startswith(f"{absent} of {absent + 1} blobs")
    assert explained["last_fill"]["digest"] == layer
    assert explained["last_fill"]["bytes_per_second"] > 0
    assert [explained[key] for key in ("last_refusal", "last_wait", "evictions", "slow")] == [None, None, [], None]
    shown = served.cli("cache", "explain", "tiny").stdout
    assert f"role layer, digest {layer}" in shown


def test_explain_says_how_long_a_blob_waited_for_a_connection(served: Gateway, images: Images, hub: Hub) -> None:
    pull(served, images, "tiny")
    served.stop()
    source, image, layer = Source(origin_of(hub.url)), RepositoryName("library/tiny"), images.tiny.layers[0]
    log = HappeningLog(CacheFolder(served.data).usage)
    log.note(Happening(HappeningKind.QUEUED, datetime.now(UTC), source, image, layer, "it waited", seconds=4.2))
    log.flush()
    waited = served.json("cache", "explain", "tiny")["last_wait"]
    assert (waited["of"], waited["reason"], waited["seconds"]) == (layer, "it waited", 4.2)


def test_explain_says_when_and_why_it_was_refused_or_evicted(served: Gateway, images: Images, hub: Hub) -> None:
    hub.down = True
    for _ in range(2):  # a third failure would open the circuit breaker
        assert raw.get(served.proxied_url("tiny/manifests/latest"), ACCEPT).status == 503
    hub.down = False
    pull(served, images, "tiny")
    served.json("cache", "evict", "tiny:latest")
    served.stop()
    explained = served.json("cache", "explain", "tiny")
    assert explained["state"] == "absent"
    assert explained["next_pull"].startswith("no manifest")
    assert (explained["last_refusal"]["of"], explained["last_refusal"]["times"]) == ("latest", 2)
    assert "503" in explained["last_refusal"]["reason"]
    [evicted] = explained["evictions"]
    assert (evicted["of"], "cache evict" in evicted["reason"]) == ("latest", True)
    assert evicted["bytes"] == sum(path.stat().st_size for path in images.tiny.blobs.values())
    assert served.json("cache", "explain", "tiny:other")["evictions"] == []


def test_evicting_a_tag_takes_its_bytes_and_leaves_the_other_image(served: Gateway, images: Images, hub: Hub) -> None:
    pull(served, images, "tiny")
    pull(served, images, "multi")
    gone = served.json("cache", "evict", "tiny:latest")
    assert gone == {"tags": 1, "bytes": sum(path.stat().st_size for path in images.tiny.blobs.values()), "kept": []}
    assert {path.name for path in stored(served)} == {
        digest.partition(":")[2] for digest in images.multi.blobs if digest not in images.multi.manifests
    }
    hub.log.clear()
    answer = raw.get(served.proxied_url("multi/manifests/latest"), ACCEPT)
    assert answer.headers["x-cache"] == "HIT"
    assert raw.get(served.proxied_url("tiny/manifests/latest"), ACCEPT).headers["x-cache"] == "MISS"


def test_evicting_all_empties_the_cache_of_a_running_server(served: Gateway, images: Images) -> None:
    pull(served, images, "tiny")
    pull(served, images, "multi")
    assert served.json("cache", "evict", "--all", "--yes")["tags"] == 2
    assert stored(served) == []
    status = served.json("cache", "status")
    assert [status[name] for name in ("bytes", "blobs", "manifests", "images", "tags")] == [0] * 5
    pull(served, images, "tiny")


def test_evicting_all_takes_what_no_image_has_a_right_to_and_what_is_gone(served: Gateway, images: Images) -> None:
    pull(served, images, "tiny")
    pull(served, images, "multi")
    with closing(sqlite3.connect(served.data / "cache.db")) as index, index:
        index.execute("DELETE FROM links WHERE digest IN (SELECT digest FROM links ORDER BY digest LIMIT 3)")
    min(stored(served)).unlink()
    told = served.json("cache", "evict", "--all", "--dry-run")
    assert served.json("cache", "evict", "--all", "--yes") == told
    assert told["bytes"] > 0
    assert stored(served) == []
    status = served.json("cache", "status")
    assert [status[name] for name in ("bytes", "blobs", "manifests", "images", "tags")] == [0] * 5


def test_pins_are_listed_and_eviction_tells_what_they_keep(served: Gateway, images: Images) -> None:
    pull(served, images, "tiny")
    pull(served, images, "multi")
    served.stop()  # by then everything is committed
    assert served.json("cache", "pins") == []
    served.json("cache", "pin", "tiny:latest")
    served.json("cache", "pin", "nowhere/nothing")
    size = sum(path.stat().st_size for path in images.tiny.blobs.values())
    tiny, nothing = served.json("cache", "pins")
    assert (nothing["image"], nothing["reference"], nothing["protected"]) == ("nowhere/nothing", "", 0)
    assert (tiny["image"], tiny["reference"]) == ("library/tiny", "latest")
    assert (tiny["protected"], tiny["protected_bytes"]) == (len(images.tiny.blobs), size)
    heading, row, _ = served.cli("cache", "pins").stdout.splitlines()
    assert heading == "Upstream\tImage\tPinned\tBlobs\tSize"
    assert row.split("\t")[:4] == ["docker.io", "library/tiny", "latest", str(len(images.tiny.blobs))]

    refused = served.cli("cache", "evict", "tiny")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "since the pin of latest keeps it: `registry-gateway cache unpin` drops it" in refused.stderr
    shown = served.cli("cache", "evict", "--all", "--yes").stdout.splitlines()
    assert len(shown) == 2 and shown[1].startswith("kept ") and shown[1].endswith("of library/tiny, pinned: latest")
    assert served.json("cache", "status")["bytes"] == size
    assert [row["image"] for row in served.json("cache", "list")] == ["library/tiny"]
    served.json("cache", "unpin", "tiny:latest")
    assert served.json("cache", "evict", "tiny") == {"tags": 1, "bytes": size, "kept": []}


def test_a_dry_run_tells_what_would_go_and_evicts_nothing(served: Gateway, images: Images) -> None:
    pull(served, images, "tiny")
    pull(served, images, "multi")
    served.stop()  # by then everything is committed
    for words in (("tiny:latest",), ("--all",)):
        before = stored(served)
        told = served.json("cache", "evict", *words, "--dry-run")
        assert served.cli("cache", "evict", *words, "--dry-run").stdout.startswith("would evict ")
        assert stored(served) == before
        assert served.json("cache", "evict", *words, "--yes") == told
        assert told["tags"] == 1


def test_everything_is_evicted_on_a_word_where_nobody_can_be_asked(served: Gateway, images: Images) -> None:
    pull(served, images, "tiny")
    done = served.cli("cache", "evict", "--all")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "--yes" in done.stderr and "--dry-run" in done.stderr
    assert served.json("cache", "status")["tags"] == 1


@pytest.mark.parametrize(("typed", "code", "left"), [("n\n", 1, 1), ("y\n", 0, 0)])
def test_a_person_is_asked_before_everything_goes(
    served: Gateway, images: Images, typed: str, code: int, left: int
) -> None:
    pull(served, images, "tiny")
    ended, shown = on_terminal(["cache", "evict", "--all", "--data", str(served.data)], typed)
    assert (ended, "evict all " in shown) == (code, True)
    assert served.json("cache", "status")["tags"] == left


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["evict", "tiny"], 1, "nothing of tiny is cached"),
        (["evict"], 2, "--all"),
        (["evict", "tiny:", "--yes"], 1, "tag"),
        (["pin", "tiny:"], 1, "tag"),
        (["refresh", "nowhere/nothing"], 1, "manifest unknown"),
        (["refresh", "TINY"], 1, "lower-case"),
        (["refresh", f"tiny@sha256:{'1' * 64}"], 1, "names a digest"),
        (["refresh", "tiny", "--group", "nowhere"], 1, "nowhere"),
        (["explain", "TINY"], 1, "lower-case"),
        (["explain", "tiny@sha256:12"], 1, "64"),
        (["explain", "quay.io/a/b"], 1, "not configured"),
        (["explain", "tiny", "--group", "nowhere"], 1, "nowhere"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(
    idle: Gateway, hub: Hub, words: list[str], status: int, said: str
) -> None:
    done = idle.cli("cache", *words)
    assert done.returncode == status
    assert said in done.stderr


def test_without_a_data_folder_there_is_nothing_to_list(gateway: Callable[..., Gateway]) -> None:
    done = gateway({}, start=False).cli("cache", "list")
    assert done.returncode == 1
    assert "no data folder" in done.stderr


@pytest.mark.parametrize("running", [True, False])
def test_refresh_says_what_changed_and_the_server_follows(
    running: bool, gateway: Callable[..., Gateway], hub: Hub, published: Callable[..., ImageLayout]
) -> None:
    image = f"refresh/{'running' if running else 'stopped'}"
    tiny = published("tiny", repository=image)
    server = gateway({"upstreams": {"docker.io": hub.settings()}, "cache": {"ttl": "1d"}})
    if not running:
        server.stop()
    first = server.json("cache", "refresh", f"{image}:latest")
    assert (first["old_digest"], first["digest"], first["changed"]) == (None, tiny.digest, True)
    other = published("other", repository=image)
    second = server.json("cache", "refresh", image)
    assert (second["old_digest"], second["digest"], second["changed"]) == (tiny.digest, other.digest, True)
    assert "still is" in server.cli("cache", "refresh", image).stdout
    if not running:
        server.start()
    hub.refuse()
    answer = raw.get(server.proxied_url(f"{image}/manifests/latest"))
    assert (answer.digest, answer.headers["x-cache"]) == (other.digest, "HIT")
    hub.accept()


def test_refresh_leaves_downloads_of_a_running_server_alone(
    served: Gateway, images: Images, hub: Hub, published: Callable[..., ImageLayout]
) -> None:
    layer = max(published("mid").layers, key=lambda digest: images.mid.blobs[digest].stat().st_size)
    hold = hub.hold(layer)
    with raw.open_stream("GET", served.proxied_url(f"mid/blobs/{layer}")) as stream:
        assert hold.reached.wait(30)
        spools = sorted((served.data / "spool").iterdir())
        served.json("cache", "refresh", "tiny")
        assert spools == sorted((served.data / "spool").iterdir()) != []
        hold.release()
        assert digest_of(stream.read_all()) == layer


def test_the_pin_of_a_tag_protects_nothing_that_was_pulled_by_digest_alone(served: Gateway, images: Images) -> None:
    [manifest] = images["tiny"].manifests
    assert raw.get(served.proxied_url(f"tiny/manifests/{manifest}"), ACCEPT).status == 200
    assert served.json("cache", "pin", "tiny:latest")["protected"] == 0
    assert "nothing of it is cached under that name yet" in served.cli("cache", "pin", "tiny:latest").stdout
    pinned = served.json("cache", "pin", f"tiny@{manifest}")
    assert (pinned["protected"], pinned["protected_bytes"]) == (1, len(images["tiny"].read(manifest)))
    pull(served, images, "tiny")
    assert served.json("cache", "pin", "tiny:latest")["protected"] == len(images["tiny"].blobs)

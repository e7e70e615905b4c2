"""Tests of `cache warm` with a running server and without one."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import GatewayFactory, Publish
from tests.gateway.cli.terminal import on_terminal
from tests.parts import raw
from tests.parts.gateway import ROOT, Gateway
from tests.parts.hub import Hub
from tests.parts.images import digest_of
from tests.parts.processes import plain_environment, wait_until

from .datafolder import await_log, blob_file, holds


@pytest.fixture(autouse=True)
def upstream_is_back(hub: Hub) -> Iterator[None]:
    yield
    hub.reset()


def write_list(server: Gateway, text: str) -> str:
    file = server.directory / "images.list"
    file.write_text(text)
    return str(file)


def warmed(server: Gateway, text: str, *words: str) -> tuple[int, dict[str, Any]]:
    done = server.cli("cache", "warm", write_list(server, text), "--json", *words)
    return done.returncode, json.loads(done.stdout)


@pytest.mark.parametrize("running", [True, False])
def test_a_list_is_brought_here_once_and_served_without_the_upstream(
    running: bool, hub: Hub, published: Publish, gateway: GatewayFactory
) -> None:
    """Tags by a glob, and one platform of an index; a second run fetches nothing."""
    image = f"warm/{'running' if running else 'alone'}"
    multi = published("multi", repository=image, tag="v1")
    tiny = published("tiny", repository=image, tag="v2")
    published("other", repository=image, tag="other")
    server = gateway({"upstreams": {"docker.io": hub.settings()}})
    if not running:
        server.stop()
    code, first = warmed(server, f"{image}:v* linux/arm64\n")
    assert (code, first["failed"], first["held"]) == (0, [], 0)
    gets = {record.path for record in hub.log.select("cdn", "GET")}
    assert hub.count("cdn", "GET") == len(gets) == first["fetched"]
    assert hub.count("hub", "GET", "/manifests/other") == 0
    assert holds(server, *tiny.layers)
    assert 0 < len([digest for digest in multi.layers if holds(server, digest)]) < len(multi.layers)

    code, second = warmed(server, f"{image}:v* linux/arm64\n")
    assert (code, second["failed"], second["fetched"], second["held"]) == (0, [], 0, first["fetched"])
    assert hub.count("cdn", "GET") == len(gets)
    if not running:
        server.start()
    hub.refuse()
    for digest in tiny.blobs:
        kind = "manifests" if digest in tiny.manifests else "blobs"
        assert raw.get(server.proxied_url(f"{image}/{kind}/{digest}")).headers["x-cache"] == "HIT"
    assert raw.get(server.proxied_url(f"{image}/manifests/v1")).digest == multi.digest


@pytest.mark.parametrize("running", [True, False])
def test_a_damaged_file_is_not_held_and_is_fetched_again(
    running: bool, hub: Hub, published: Publish, gateway: GatewayFactory
) -> None:
    tiny = published("tiny")
    server = gateway({"upstreams": {"docker.io": hub.settings()}, "cache": {"scrub_rate": "0"}})
    code, first = warmed(server, "tiny\n")
    assert (code, first["failed"]) == (0, [])
    if not running:
        server.stop()
    layer = tiny.layers[0]
    os.truncate(blob_file(server, layer), 10)
    parts = server.json("cache", "explain", "tiny")["parts"]
    assert [part["here"] for part in parts if part["digest"] == layer] == [False]
    code, second = warmed(server, "tiny\n")
    assert (code, second["failed"], second["fetched"], second["held"]) == (0, [], 1, first["fetched"] - 1)
    assert digest_of(blob_file(server, layer).read_bytes()) == layer


def test_what_broke_off_is_named_and_goes_on_where_it_was(
    hub: Hub, published: Publish, gateway: GatewayFactory
) -> None:
    mid, tiny = published("mid"), published("tiny")
    server = gateway({"upstreams": {"docker.io": hub.settings()}})
    server.json("group", "create", "narrow", "--visibility=public", "--anonymous-pull", "--deny=library/mid")
    text = "tiny *\nmid *\nwarm/nowhere\n"
    code, refused = warmed(server, text, "--group=narrow")
    assert code == 1
    assert [one["image"] for one in refused["failed"]] == ["mid:latest", "warm/nowhere:latest"]
    assert holds(server, *tiny.layers)
    assert not any(holds(server, digest) for digest in mid.layers)

    hub.log.clear()
    code, rest = warmed(server, text)
    assert (code, [one["image"] for one in rest["failed"]]) == (1, ["warm/nowhere:latest"])
    assert holds(server, *mid.layers)
    assert all(hub.count("cdn", "GET", digest) == 0 for digest in tiny.layers)
    for digest in mid.layers:
        await_log(server, f"fill_ended                     digest={digest}")
    begun = [line for line in server.log_text().splitlines() if "fill_began" in line]
    assert all(sum(digest in line for line in begun) == 1 for digest in mid.layers)  # slow downloads are divided


def test_a_platform_that_is_not_there_is_said(hub: Hub, published: Publish, gateway: GatewayFactory) -> None:
    published("multi")
    server = gateway({"upstreams": {"docker.io": hub.settings()}})
    done = server.cli("cache", "warm", write_list(server, "multi linux/mips64\n"))
    assert done.returncode == 1
    assert "multi:latest is not completely cached: it has nothing for linux/mips64" in done.stderr
    assert server.cli("cache", "warm", str(server.directory / "no-such-file")).returncode == 1
    assert server.cli("cache", "warm", write_list(server, "multi\n"), "--every=often").returncode == 1


def test_a_person_sees_how_far_it_is(hub: Hub, published: Publish, gateway: GatewayFactory) -> None:
    """On a terminal one line that is drawn anew, elsewhere a line for each image; nothing mixes with the log."""
    published("tiny", repository="warm/first")
    published("mid", repository="warm/second")
    server = gateway({"upstreams": {"docker.io": hub.settings()}})
    piped = server.cli("cache", "warm", write_list(server, "warm/first\n"))
    first, summary = piped.stdout.splitlines()
    assert re.fullmatch(r"warmed 1/1 warm/first:latest [\d.]+ KiB", first)
    assert summary.startswith("warmed 1 manifests: ")
    assert "warming" not in piped.stderr
    words = ["cache", "warm", write_list(server, "warm/first\nwarm/second\n"), "--data", str(server.data)]
    code, shown = on_terminal(words)
    assert code == 0
    drawn = re.split("[\r\n]", shown.replace("\x1b[K", ""))
    line = re.compile(r"warming 2/2 warm/second:latest [\d.]+/[\d.]+ MiB( [\d.]+ [KM]iB/s)?")
    assert any(map(line.fullmatch, drawn))
    assert shown.rpartition("\x1b[K")[2].startswith("warmed 2 manifests: ")


def test_on_a_schedule_it_goes_on_until_it_is_stopped_and_brings_what_moved(
    hub: Hub, published: Publish, gateway: GatewayFactory, scratch: Path
) -> None:
    published("tiny", repository="warm/scheduled")
    server = gateway({"upstreams": {"docker.io": hub.settings()}, "cache": {"ttl": "0s"}})
    words = ["cache", "warm", write_list(server, "warm/scheduled *\n"), "--every=1s", "--config"]
    command = [sys.executable, "-m", "gateway", *words, str(server.config_file), "--data", str(server.data)]
    environment = plain_environment(PYTHONPATH=str(ROOT), PYTHONUNBUFFERED="1", NO_COLOR="1")
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline().startswith("warmed 1/1 warm/scheduled:latest ")
            assert "0 were already cached" in process.stdout.readline()
            assert "0 blobs fetched" in process.stdout.readline()
            other = published("other", repository="warm/scheduled")
            while "0 blobs fetched" in process.stdout.readline():
                pass
            wait_until(lambda: holds(server, *other.layers))  # a client may have its last byte before the commit
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        finally:
            process.kill()

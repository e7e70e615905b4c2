"""Damage of pushed content while servers run: the scrub of one worker finds it, and no worker serves it."""

import os

from cache.oci.digest import Digest
from gateway.data_folder import NativeFolder
from tests.conftest import GatewayFactory
from tests.gateway.native_content import blob_file, push
from tests.parts import raw
from tests.parts.processes import wait_until


def test_the_scrub_of_a_server_sets_a_damaged_blob_aside(gateway: GatewayFactory) -> None:
    server = gateway({"workers": 2, "cache": {"scrub_rate": "64MiB"}}, start=False)
    server.json("group", "create", "team")
    server.json("project", "create", "team/app")
    layers = [os.urandom(300_000), b"whole"]
    push(server.data, "team/app", "team/app/web", layers, "latest")
    damaged, whole = (blob_file(server.data, Digest.of(layer)) for layer in layers)
    damaged.write_bytes(layers[0][:-1] + bytes([layers[0][-1] ^ 1]))
    server.start()
    wait_until(lambda: "native_blob_damaged" in server.log_text(), what="the scrub found nothing")
    assert not damaged.exists() and whole.exists()
    [kept] = NativeFolder(server.data).damaged.iterdir()
    assert kept.stat().st_size == len(layers[0])

    def counted() -> bool:
        page = raw.get(f"{server.url}/-/metrics").body.decode()
        return 'gateway_native_damaged_total{damage="digest"} 1.0' in page

    wait_until(counted, what="the damage was not counted")
    done = server.cli("verify", "--json")
    assert (done.returncode, '"missing": 1' in done.stdout) == (1, True)


def test_a_damaged_blob_that_a_client_pulls_again_is_read_at_once(gateway: GatewayFactory) -> None:
    server = gateway({"cache": {"scrub_rate": "1KiB"}}, start=False)
    server.json("group", "create", "team", "--visibility", "public")
    server.json("project", "create", "team/app", "--visibility", "public")
    layer = os.urandom(300_000)
    push(server.data, "team/app", "team/app/web", [layer], "latest")
    digest = Digest.of(layer)
    damaged = blob_file(server.data, digest)
    damaged.write_bytes(layer[:-1] + bytes([layer[-1] ^ 1]))
    server.start()
    url = f"{server.url}/v2/team/app/web/blobs/{digest}"
    assert [raw.get(url).status for _ in range(2)] == [200, 200]
    wait_until(lambda: "native_blob_damaged" in server.log_text(), what="it was not read")
    [line] = [line for line in server.log_text().splitlines() if "native_blob_damaged" in line]
    assert str(damaged) in line and "push the same image again" in line
    assert raw.get(url).status == 404

"""Pulls of twelve layers of 1 MB from a registry with TLS that is far away: straight, and through an empty cache."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.bench.clients import get
from tests.bench.measure import ratios, spread
from tests.bench.peers import IMAGE, DockerRegistry, RegistryGateway, go_program
from tests.bench.table import FAR_AWAY
from tests.bench.upstream import LAYER
from tests.parts.certs import Authority
from tests.parts.images import CONFIG, MANIFEST, seeded
from tests.parts.ports import HOST, free_port
from tests.parts.processes import Process, answers_tcp, binary, plain_environment
from tests.parts.registry import Registry

CRANE = "github.com/google/go-containerregistry/cmd/crane@v0.20.3"
LAYERS, SIZE = 12, 1_000_000
ROUND_TRIPS = (0.03, 0.1)
Seconds = dict[str, list[float]]


class FarAway:
    """A registry behind TLS and a relay that delays; its image is `IMAGE:latest`."""

    def __init__(self, folder: Path, round_trip: float) -> None:
        self.authority = Authority(folder / "certificates")
        registry = self._registry = Registry(folder / "registry")
        registry.start()
        descriptors = [(LAYER, seeded(f"far-{number}", SIZE)) for number in range(LAYERS)]
        config, *layers = [
            {"mediaType": kind, "digest": registry.put_blob(IMAGE, content), "size": len(content)}
            for kind, content in [(CONFIG, b"{}"), *descriptors]
        ]
        document = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}
        registry.put_manifest(IMAGE, "latest", MANIFEST, json.dumps(document).encode())
        registry.stop()
        near, self._port = free_port(), free_port()
        environment = plain_environment(
            REGISTRY_HTTP_ADDR=f"{HOST}:{near}",
            REGISTRY_HTTP_TLS_CERTIFICATE=str(self.authority.cert_file),
            REGISTRY_HTTP_TLS_KEY=str(self.authority.key_file),
            OTEL_TRACES_EXPORTER="none",
        )
        program = [binary("docker-registry", "docker-registry"), "serve", str(folder / "registry" / "registry.json")]
        self._served = Process(program, log=folder / "served.log", environment=environment)
        self._served.start(answers_tcp(near))
        relay = [sys.executable, "-m", "tests.bench.relay", str(self._port), str(near), str(round_trip)]
        self._relay = Process(relay, log=folder / "relay.log")
        self._relay.start(answers_tcp(self._port))

    @property
    def reference(self) -> str:
        return f"{HOST}:{self._port}/{IMAGE}:latest"

    @property
    def url(self) -> str:
        return f"https://{HOST}:{self._port}"

    def stop(self) -> None:
        self._relay.stop()
        self._served.stop()


def far_away(folder: Path, rounds: int, _quick: bool) -> dict[str, dict[str, list[float]]]:
    """Seconds of each pull, by round trip; prints the ratios of a pull through the gateway to the others."""
    print("\nfar away")
    found = {}
    for round_trip in ROUND_TRIPS:
        place = folder / f"far-{round_trip}"
        far = FarAway(place, round_trip)
        seconds: Seconds = {}
        try:
            for number in range(rounds):
                for name, work in _works(far).items():
                    one = place / f"{name.replace(' ', '-')}-{number}"
                    one.mkdir()
                    for figure, value in work(one).items():
                        seconds.setdefault(figure, []).append(value)
                    shutil.rmtree(one)
        finally:
            far.stop()
        found[f"{round_trip * 1000:.0f} ms"] = seconds
        print(f"  round trip of {round_trip * 1000:.0f} ms")
        for name, values in seconds.items():
            print(f"    {name:26} {spread(values)} s")
        for other, target in FAR_AWAY:
            print(f"    cold / {other}: {ratios(seconds['registry-gateway'], seconds[other])}, wanted <= {target}")
    return found


def _works(far: FarAway) -> dict[str, Callable[[Path], dict[str, float]]]:
    return {
        "crane straight": lambda folder: {"crane straight": _crane(far, far.reference, folder)},
        "registry-gateway": lambda folder: _ours(far, folder),
        "docker-registry": lambda folder: _docker_registry(far, folder),
        "skopeo straight": lambda folder: {"skopeo straight": _skopeo(far, folder)},
    }


def _ours(far: FarAway, folder: Path) -> dict[str, float]:
    """A pull through an empty cache, and a check of the tag right after its ttl."""
    upstream = {"url": far.url, "private_addresses": True, "ca_file": str(far.authority.ca_file)}
    ours = RegistryGateway(upstreams={"docker.io": upstream}, cache={"ttl": "1s"})
    ours.start(folder / "ours", far.url)
    try:
        base = ours.base.removeprefix(f"{ours.url}/v2/")
        cold = _crane(far, f"{ours.url.removeprefix('http://')}/{base}:latest", folder)
        time.sleep(1.2)
        checked = get(f"{ours.base}/manifests/latest", keep_body=True)
        if checked.status != 200:
            raise RuntimeError(f"the tag was not checked: {checked.status}")
        return {"registry-gateway": cold, "a check of the tag": checked.seconds}
    finally:
        ours.stop()


def _docker_registry(far: FarAway, folder: Path) -> dict[str, float]:
    peer = DockerRegistry(environment={"SSL_CERT_FILE": str(far.authority.ca_file)})
    peer.start(folder / "peer", far.url)
    try:
        host = peer.base.removeprefix("http://").partition("/")[0]
        return {"docker-registry": _crane(far, f"{host}/{IMAGE}:latest", folder)}
    finally:
        peer.stop()


def _crane(far: FarAway, reference: str, folder: Path) -> float:
    return _seconds([go_program("crane", CRANE), "pull", "--format=oci", reference, str(folder / "pulled")], far)


def _skopeo(far: FarAway, folder: Path) -> float:
    words = ["--insecure-policy", "copy", "--quiet", f"docker://{far.reference}", f"dir:{folder / 'pulled'}"]
    return _seconds([binary("skopeo", "skopeo"), *words], far)


def _seconds(command: list[str], far: FarAway) -> float:
    environment = {**os.environ, "SSL_CERT_FILE": str(far.authority.ca_file)}
    began = time.perf_counter()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return time.perf_counter() - began

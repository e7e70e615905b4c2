"""Cost of a login: a cached tag with a Bearer token beside an anonymous one, and the token endpoint."""

import json
from base64 import b64encode
from pathlib import Path

from tests.bench.clients import get
from tests.bench.measure import ratios, spread
from tests.bench.peers import IMAGE, Constant, RegistryGateway
from tests.bench.upstream import publish
from tests.bench.work import requests_per_second
from tests.parts.registry import Registry

GROUP, USER = "closed", "reader"
NAME = f"{GROUP}/dependency_proxy/containers/{IMAGE}"
SECONDS = 2.0
LAYER = b"logins"


def logins(folder: Path, rounds: int, quick: bool) -> dict[str, list[float]]:
    """Measures pairs in turns on one server, because both values of a pair are to have the same conditions."""
    print("\nlogins")
    place = folder / "logins"
    registry, ours, constant = Registry(place / "upstream"), RegistryGateway(), Constant()
    registry.start()
    publish(registry, "large", registry.put_blob(IMAGE, LAYER), len(LAYER), registry.put_blob(IMAGE, b"{}"))
    try:
        ours.start(place / "ours", registry.url)
        constant.start(place / "constant", registry.url)
        found = _measure(ours, constant, max(5, rounds))
    finally:
        constant.stop()
        ours.stop()
        registry.stop()
    added = [(1 / bearer - 1 / open_) * 1000 for bearer, open_ in zip(found["bearer"], found["anonymous"], strict=True)]
    print(f"  Bearer / anonymous, requests per second: {ratios(found['bearer'], found['anonymous'])}")
    print(f"  ms that a Bearer adds to a request: {spread(added)}, wanted <= 0.1")
    print(f"  token endpoint / constant answer: {ratios(found['token'], found['constant'])}, wanted >= 0.5")
    return {**found, "added_ms": added}


def _measure(ours: RegistryGateway, constant: Constant, rounds: int) -> dict[str, list[float]]:
    """Requests per second of each kind, one value a round."""
    for words in (
        ("group", "create", GROUP),
        ("user", "create", USER),
        ("member", "add", GROUP, USER, "guest"),
    ):
        ours.command(*words)
    secret = ours.command("token", "create", "--user", USER, "--name", "bench", "--scope", "read_registry")["token"]
    basic = f"Authorization: Basic {b64encode(f'{USER}:{secret}'.encode()).decode()}"
    endpoint = f"{ours.url}/jwt/auth?service=registry-gateway&scope=repository:{NAME}:pull"
    token = json.loads(get(endpoint, f"{basic}\r\n", keep_body=True).body)["token"]
    bearer = f"Authorization: Bearer {token}"
    works = {
        "anonymous": (f"{ours.base}/manifests/large", ""),
        "bearer": (f"{ours.url}/v2/{NAME}/manifests/large", bearer),
        "token": (endpoint, basic),
        "constant": (constant.base, ""),
    }
    found: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 1):
        for name, (url, header) in works.items():
            rate = requests_per_second(url, SECONDS, True, header)
            if number:  # the first round fills caches
                found[name].append(rate)
    return found

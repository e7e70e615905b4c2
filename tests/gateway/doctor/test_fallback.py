"""Checks of fallbacks: files of clients on this machine, as `client-config` prints them and as people write them."""

import json
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.doctor.check import Check, Remedy
from gateway.doctor.fallback import examine_fallback, reaches
from gateway.inspection.client_files import Client, ClientRoute, ServerUrl, client_file
from tests.parts.ports import HOST, free_port

HOSTS = ("mirror.example.com:8080", "mirror.example.com:8081")
ROUTE = ClientRoute(
    main=ServerUrl(f"http://{HOSTS[0]}"),
    root=ServerUrl(f"http://{HOSTS[1]}"),
    group="hub",
    upstream="docker.io",
    by_ns=True,
    is_default=True,
)
GATE = ["the gate of group hub"]
WITH_FILE = (Client.DOCKER, Client.CONTAINERD, Client.PODMAN, Client.BUILDKIT)


def install(root: Path, client: Client, route: ClientRoute = ROUTE) -> Path:
    file = client_file(client, route)
    place = root / file.path.lstrip("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(file.text)
    return place


def examined(root: Path, *, gates: list[str] = GATE, reachable: bool = True) -> list[Check]:
    return examine_fallback(HOSTS, gates, lambda upstream: reachable, root)


@pytest.mark.parametrize("client", WITH_FILE)
def test_a_client_that_falls_back_is_warned_of_where_a_gate_refuses(client: Client, tmp_path: Path) -> None:
    file = install(tmp_path, client)
    [check] = examined(tmp_path)
    assert check.ok is True
    assert check.name.endswith(" for docker.io")
    assert f"is requested from docker.io itself ({file}), whatever is refused by {GATE[0]}" in check.detail
    settable = client in (Client.CONTAINERD, Client.PODMAN)
    assert check.remedy is (Remedy.CLOSE_FALLBACK if settable else Remedy.BLOCK_FALLBACK)
    assert [check.remedy for check in examined(tmp_path, gates=[])] == [""]
    assert [check.remedy for check in examined(tmp_path, reachable=False)] == [""]
    assert [check.name for check in examine_fallback(["other.example.com:8080"], GATE, bool, tmp_path)] == ["fallback"]


@pytest.mark.parametrize("by_ns", [True, False])
@pytest.mark.parametrize("client", [Client.CONTAINERD, Client.PODMAN])
def test_a_client_without_a_fallback_is_not(client: Client, by_ns: bool, tmp_path: Path) -> None:
    install(tmp_path, client, replace(ROUTE, falls_back=False, by_ns=by_ns))
    [check] = examined(tmp_path)
    assert (check.ok, check.remedy) == (True, "")
    assert check.detail.startswith("none: ")


def test_all_files_of_a_machine_are_read_and_broken_ones_say_nothing(tmp_path: Path) -> None:
    for client in WITH_FILE:
        install(tmp_path, client)
    install(tmp_path, Client.CONTAINERD, replace(ROUTE, upstream="quay.io"))
    names = [check.name for check in examined(tmp_path)]
    assert len(names) == len(set(names)) == 5
    for text in ("{", json.dumps([]), '{"registry-mirrors": [1, null]}', "[[registry]]\nmirror = 3\n", "host = 1\n"):
        for file in tmp_path.rglob("*"):
            if file.is_file():
                file.write_text(text)
        assert [check.name for check in examined(tmp_path)] == ["fallback"]


def test_an_upstream_is_reached_where_something_listens() -> None:
    with socket.create_server((HOST, 0)) as listener:
        assert reaches(f"{HOST}:{listener.getsockname()[1]}")
    assert not reaches(f"{HOST}:{free_port()}")
    assert not reaches("absent.invalid")

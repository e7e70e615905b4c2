"""What a server tells the program that has started it."""

import socket
from pathlib import Path

import pytest

from gateway.processes.service_manager import READY, STOPPING, tell_service_manager
from tests.conftest import GatewayFactory


@pytest.fixture
def manager(tmp_path: Path) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listening.bind(str(tmp_path / "notify"))
    listening.settimeout(30)
    return listening


def test_a_server_tells_when_it_serves_and_when_it_stops(
    gateway: GatewayFactory, manager: socket.socket, tmp_path: Path
) -> None:
    with manager:
        server = gateway({"workers": 2}, environment={"NOTIFY_SOCKET": str(tmp_path / "notify")})
        assert manager.recv(100).decode() == READY
        server.stop()
        assert manager.recv(100).decode() == STOPPING
        manager.settimeout(0)
        with pytest.raises(BlockingIOError):
            manager.recv(100)


def test_an_abstract_address_is_understood(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    name = f"{tmp_path}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0{name}")
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
        tell_service_manager(READY)
        assert listening.recv(100).decode() == READY


@pytest.mark.parametrize("address", ["", "relative", "/nowhere/at/all", "vsock:2:1"])
def test_where_nobody_listens_nothing_happens(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    tell_service_manager(READY)

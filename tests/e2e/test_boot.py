"""The systemd unit on a machine that boots: the commands of the page, a service that starts, and what it survives."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.parts.booted_machine import BootedMachine
from tests.parts.images import Images
from tests.parts.pages import PAGES
from tests.parts.processes import wait_until

UNIT = "registry-gateway"
ADDRESS = "127.0.0.1:8080"
CONFIG = "/etc/registry-gateway/config.toml"


@pytest.fixture
def machine(scratch: Path, processes: None) -> Iterator[BootedMachine]:
    machine = BootedMachine(scratch / "machine")
    try:
        machine.start()
        yield machine
    finally:
        machine.close()


def installing() -> str:
    """The commands of the page from the first one after the program itself is installed, as written."""
    [block] = re.findall(r"```sh\n(python3 -m venv .*?)```", PAGES["installing"], re.DOTALL)
    return block[block.index("ln -s /opt/registry-gateway") :]


def keeping_a_token() -> str:
    """The command of the page that gives the service a file with a token, as written."""
    [block] = re.findall(r"```sh\n(install -m .*?)```", PAGES["installing"], re.DOTALL)
    return block


def is_ready(machine: BootedMachine) -> bool:
    return machine.run("curl", "--silent", "--fail", f"http://{ADDRESS}/-/ready", check=False).returncode == 0


def test_the_service_of_the_page_starts_at_boot_and_serves(machine: BootedMachine, images: Images) -> None:
    machine.run("sh", "-euc", installing())
    machine.run(
        "sed", "-i", f's#^external_url = .*#external_url = "http://{ADDRESS}"#', "/etc/registry-gateway/config.toml"
    )
    machine.run("systemctl", "restart", UNIT)
    assert is_ready(machine)
    machine.run("sh", "-euc", f"cd /root; umask 077; echo token-of-hub > token.txt; {keeping_a_token()}")
    token = "/etc/registry-gateway/docker-hub-token"
    assert machine.run("runuser", "-u", UNIT, "--", "cat", token).stdout == "token-of-hub\n"
    assert machine.run("runuser", "-u", "nobody", "--", "cat", token, check=False).returncode == 1
    machine.run(UNIT, "project", "create", "hub/app")
    assert "hub" in machine.run("runuser", "-u", UNIT, "--", UNIT, "group", "list").stdout
    password = machine.run("cat", "/var/lib/registry-gateway/keys/root-password").stdout.strip()
    layout = machine.copy_in(images.tiny.path, "image")
    login = ["--dest-tls-verify=false", f"--dest-creds=root:{password}"]
    push = ["skopeo", "--insecure-policy", "copy", "--quiet", *login]
    machine.run(*push, f"oci:{layout}:latest", f"docker://{ADDRESS}/hub/app:1")

    machine.reboot()
    wait_until(lambda: is_ready(machine), what="the service is not ready after a boot")
    pulling = ["skopeo", "inspect", "--tls-verify=false", f"--creds=root:{password}", f"docker://{ADDRESS}/hub/app:1"]
    assert json.loads(machine.run(*pulling).stdout)["Digest"] == images.tiny.digest

    machine.run("sh", "-euc", f"cp {CONFIG} /root/before; sed -i 's/^data = /daat = /' {CONFIG}")
    assert machine.run("systemctl", "restart", UNIT, check=False).returncode == 1
    assert "daat" in machine.run("journalctl", "--unit", UNIT, "--lines=20").stdout
    machine.run("sh", "-euc", f"cp /root/before {CONFIG}; systemctl restart {UNIT}")
    assert is_ready(machine)

    before = machine.run("systemctl", "show", "--property=MainPID", "--value", UNIT).stdout
    machine.run("systemctl", "reload", UNIT)
    wait_until(lambda: "reloaded" in machine.run("journalctl", "--unit", UNIT).stdout, what="nothing was reloaded")
    assert machine.run("systemctl", "show", "--property=MainPID", "--value", UNIT).stdout == before
    machine.run("kill", "-KILL", before.strip())
    wait_until(
        lambda: machine.run("systemctl", "show", "--property=NRestarts", "--value", UNIT).stdout.strip() == "1",
        what="it was not started again",
    )
    wait_until(lambda: is_ready(machine), what="the service is not ready after it was killed")
    machine.run("systemctl", "stop", UNIT)
    assert '"event": "stopped"' in machine.run("journalctl", "--unit", UNIT, "--lines=3").stdout

"""Namespaces where the host names of GitLab's user guide are this machine, and an authority of the tests is trusted."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from .certs import Authority
from .clients import run_client
from .processes import PartFailed, Process, binary, plain_environment

REGISTRY, PAGES, SERVICE = "registry.example.com", "gitlab.example.com", "docker"
"""Hosts of the registry, of the pages, and of the dockerd that jobs use."""

ADDRESS = "192.0.2.1"
"""Address of these hosts. It is none of loopback, where docker would do without TLS."""

LONGEST_RUN = 120
SETUP = """\
set -eu
ip link set lo up
ip address add "$ADDRESS/32" dev lo
mount -t tmpfs none "$FOLDER/memory"
cp -a /etc "$FOLDER/memory/etc"
mount --bind "$FOLDER/memory/etc" /etc
mount --bind "$FOLDER/bin" /usr/local/bin
printf "127.0.0.1 localhost\\n%s %s\\n" "$ADDRESS" "$HOSTS" > /etc/hosts
: > /etc/resolv.conf
mkdir -p /etc/ssl/certs
cat "$CA" >> /etc/ssl/certs/ca-certificates.crt
rm -rf /etc/docker
for registry in $TRUSTING; do
    mkdir -p "/etc/docker/certs.d/$registry"
    cp "$CA" "/etc/docker/certs.d/$registry/ca.crt"
done
echo ready
sleep infinity &
wait
"""
"""The first process of the namespaces, a shell: it waits for every process that has lost its parent."""


class PrivateMachine:
    """Namespaces of mounts, network and processes, for as long as the object is not closed. They need root.

    Within them, /etc is a copy in which `REGISTRY`, `PAGES` and `SERVICE` are names of `ADDRESS`, every client trusts
    `authority`, and dockerd does so through certs.d. Programs in the folder `bin` are those of /usr/local/bin. The
    folder `memory` can be seen from within alone, and what is in it never waits for a disk. Nothing of the machine
    changes, and `close` kills every process that runs within.
    """

    def __init__(self, directory: Path) -> None:
        if os.geteuid() != 0:
            raise PartFailed("namespaces need root: run the tests as root")
        self.directory = directory
        self.bin = directory / "bin"
        self.memory = directory / "memory"
        for folder in (self.bin, self.memory):
            folder.mkdir(parents=True)
        self.authority = Authority(directory / "certs", (REGISTRY, PAGES, SERVICE, "localhost"))
        environment = plain_environment(
            FOLDER=str(directory),
            ADDRESS=ADDRESS,
            HOSTS=f"{REGISTRY} {PAGES} {SERVICE}",
            TRUSTING=" ".join([REGISTRY, f"{REGISTRY}:443", PAGES]),
            CA=str(self.authority.ca_file),
        )
        words = ["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", SETUP]
        log = directory / "machine.log"
        self._process = Process([binary("unshare", "util-linux"), *words], log=log, environment=environment)
        self._process.start(lambda: self._process.log_text().endswith("ready\n"))
        [self._first] = self._process.children()

    def argv(self, *words: str, directory: Path | None = None) -> list[str]:
        """Words of a command that runs another one within the namespaces, in a folder (none: the root folder)."""
        place = ["env", "-C", str(directory)] if directory else []
        return ["nsenter", f"--target={self._first}", "--mount", "--net", "--pid", "--", *place, *words]

    def run(
        self,
        *words: str,
        directory: Path | None = None,
        environment: Mapping[str, str] | None = None,
        check: bool = True,
    ) -> "subprocess.CompletedProcess[str]":
        """Runs a program within the namespaces to its end; raises ClientFailed unless `check` is False."""
        given = plain_environment() if environment is None else environment
        return run_client(self.argv(*words, directory=directory), given, within=LONGEST_RUN, check=check)

    def close(self) -> None:
        self._process.kill()

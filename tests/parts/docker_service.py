"""dockerd as the service `docker` of CI jobs: inside a private machine, over TCP with TLS, and with a bridge."""

import shutil
import subprocess
from pathlib import Path

from .engines import Engine, debian_program
from .private_machine import SERVICE, PrivateMachine
from .processes import binary

PORT = 2376


class DockerService(Engine):
    """dockerd at tcp://docker:2376, which admits clients with a certificate of the machine's authority.

    The machine's /usr/local/bin holds Debian's docker, which is the client that belongs to this dockerd. `environment`
    is what GitLab gives to a job with this service; its folder of certificates is `certs`.
    """

    def __init__(self, machine: PrivateMachine) -> None:
        super().__init__(machine.directory / "dockerd")
        self._machine = machine
        self.certs = self.directory / "certs"
        self.certs.mkdir()
        authority = machine.authority
        for name, file in (
            ("ca.pem", authority.ca_file),
            ("cert.pem", authority.cert_file),
            ("key.pem", authority.key_file),
        ):
            shutil.copy(file, self.certs / name)
        client = machine.bin / "docker"
        client.symlink_to(debian_program("docker", "docker.io"))
        self.environment = {
            "DOCKER_HOST": f"tcp://{SERVICE}:{PORT}",
            "DOCKER_TLS_VERIFY": "1",
            "DOCKER_CERT_PATH": str(self.certs),
            "DOCKER_BUILDKIT": "0",
        }
        self._environment |= self.environment
        own = ["--host", f"tcp://{SERVICE}:{PORT}", "--tlsverify", "--tlscacert", str(self.certs / "ca.pem")]
        own += ["--tlscert", str(self.certs / "cert.pem"), "--tlskey", str(self.certs / "key.pem")]
        own += ["--data-root", str(machine.memory / "root"), "--exec-root", str(machine.memory / "exec")]
        own += ["--pidfile", str(machine.memory / "pid"), "--storage-driver", "vfs"]
        own += ["--iptables=false", "--ip6tables=false", "--ip-masq=false"]
        self._start(machine.argv(binary("dockerd", "docker.io"), *own), machine.argv("docker", "version"))

    def run(
        self, *words: str, directory: Path | None = None, standard_input: str = "", check: bool = True
    ) -> "subprocess.CompletedProcess[str]":
        """Runs any docker command within the machine, with the login of the service's own folder; raises ClientFailed
        unless `check` is False."""
        argv = self._machine.argv("docker", *words, directory=directory)
        return self._run(argv, check=check, standard_input=standard_input)

    def forget_images(self) -> None:
        """Removes every image and container, as a service that starts anew for another job has none."""
        self.run("system", "prune", "--all", "--force")

"""Container engines with separate folders: dockerd and containerd, each with its client."""

import atexit
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from .clients import run_client
from .processes import PartFailed, Process, binary, plain_environment

LONGEST_RUN = 120


class Engine:
    """A daemon below `directory`; `stop` ends it and removes all its mounts. It needs root."""

    def __init__(self, directory: Path) -> None:
        if os.geteuid() != 0:
            raise PartFailed("dockerd and containerd need root: run the tests as root")
        self.directory = directory
        (directory / "config").mkdir(parents=True)
        (directory / "config" / "config.json").write_text("{}")
        self._environment = plain_environment(HOME=str(directory), DOCKER_CONFIG=str(directory / "config"))
        self._process: Process | None = None

    def stop(self) -> None:
        """Ends the daemon and unmounts what it left behind, in any state."""
        try:
            if self._process is not None:
                self._process.stop(patience=15)
        finally:
            self._process = None
            unmount_below(self.directory)
            shutil.rmtree(self.directory, ignore_errors=True)
            atexit.unregister(self.stop)

    def log_text(self) -> str:
        return self._process.log_text() if self._process else ""

    def _start(self, argv: list[str], probe: list[str]) -> None:
        atexit.register(self.stop)
        self._process = Process(argv, log=self.directory / "log", environment=self._environment)
        try:
            self._process.start(lambda: self._run(probe, check=False).returncode == 0, within=60)
        except BaseException:
            self.stop()
            raise

    def _run(
        self, argv: list[str], *, check: bool = True, standard_input: str = "", **more: str
    ) -> "subprocess.CompletedProcess[str]":
        environment = self._environment | more
        return run_client(
            argv, environment, self.directory, standard_input=standard_input, within=LONGEST_RUN, check=check
        )


class Dockerd(Engine):
    """dockerd with the given daemon.json, and without a network of its own."""

    def __init__(self, directory: Path, daemon_json: str) -> None:
        super().__init__(directory)
        file = directory / "daemon.json"
        file.write_text(daemon_json)
        self._docker = [debian_program("docker", "docker.io"), "--host", f"unix://{directory / 's'}"]
        own = ["--config-file", str(file), "--host", f"unix://{directory / 's'}"]
        own += ["--data-root", str(directory / "root"), "--exec-root", str(directory / "exec")]
        own += ["--pidfile", str(directory / "pid"), "--storage-driver", "vfs", "--bridge", "none"]
        own += ["--iptables=false", "--ip6tables=false"]
        self._start([binary("dockerd", "docker.io"), *own], [*self._docker, "version"])

    def run(
        self, *words: str, buildkit: bool = False, standard_input: str = "", check: bool = True
    ) -> "subprocess.CompletedProcess[str]":
        """Runs any docker command; raises ClientFailed unless `check` is False."""
        more = {"DOCKER_BUILDKIT": "1" if buildkit else "0"}
        return self._run([*self._docker, *words], check=check, standard_input=standard_input, **more)

    def digest(self, reference: str) -> str:
        """Digest of the manifest by which an image was pulled."""
        [inspected] = json.loads(self.run("image", "inspect", reference).stdout)
        return str(inspected["RepoDigests"][0]).partition("@")[2]


class Containerd(Engine):
    """containerd; its client reads registries from a folder of hosts.toml files, `hosts`."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.hosts = directory / "certs.d"
        socket = directory / "s"
        file = directory / "config.toml"
        file.write_text(
            f"""\
version = 2
root = "{directory / "root"}"
state = "{directory / "state"}"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "{socket}"
[ttrpc]
address = "{directory / "t"}"
"""
        )
        self._ctr = [debian_program("ctr", "containerd"), "--address", str(socket)]
        self._start([binary("containerd", "containerd"), "--config", str(file)], [*self._ctr, "version"])

    def run(self, *words: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """Runs any ctr command; raises ClientFailed unless `check` is False."""
        return self._run([*self._ctr, *words], check=check)

    def pull(self, *words: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """Runs `ctr images pull` with a snapshotter that needs no kernel support; raises as `run` does."""
        return self.run("images", "pull", "--snapshotter", "native", *words, check=check)

    def digest(self, reference: str) -> str:
        rows: list[Any] = [line.split() for line in self.run("images", "list").stdout.splitlines()]
        return next(str(row[2]) for row in rows if row[0] == reference)

    def forget(self, reference: str) -> None:
        self.run("images", "remove", "--sync", reference)


def unmount_below(directory: Path) -> None:
    """Unmounts everything below a folder lazily, the innermost first."""
    for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
        place = line.split()[1].encode().decode("unicode_escape")
        if Path(place).is_relative_to(directory):
            subprocess.run(["umount", "-l", place], check=False, capture_output=True)


def debian_program(name: str, package: str) -> str:
    """Path of the client that belongs to the daemon, rather than of a newer one earlier in PATH."""
    own = f"/usr/bin/{name}"
    return own if os.access(own, os.X_OK) else binary(name, package)

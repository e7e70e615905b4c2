"""Real clients with separate homes and storage: skopeo, podman and buildah."""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from .images import ImageLayout, digest_of
from .processes import binary, plain_environment

LONGEST_RUN = 300
ACCEPT_ANY = {"default": [{"type": "insecureAcceptAnything"}]}


class ClientFailed(Exception):
    """A client exited with a status other than 0; the message holds its output."""

    def __init__(self, completed: "subprocess.CompletedProcess[str]") -> None:
        super().__init__(f"{' '.join(completed.args)}: status {completed.returncode}\n{completed.stderr.strip()}")
        self.completed = completed

    @property
    def stderr(self) -> str:
        return str(self.completed.stderr)


def run_client(
    argv: Sequence[str],
    environment: Mapping[str, str],
    directory: Path | None = None,
    *,
    standard_input: str = "",
    within: float,
    check: bool = True,
) -> "subprocess.CompletedProcess[str]":
    """Runs a client to its end within some seconds; raises ClientFailed unless `check` is False."""
    completed = subprocess.run(
        argv,
        env=environment,
        cwd=directory,
        input=standard_input,
        capture_output=True,
        text=True,
        timeout=within,
        check=False,
    )
    if check and completed.returncode != 0:
        raise ClientFailed(completed)
    return completed


@dataclass(frozen=True)
class Pulled:
    """Folder that a client wrote (skopeo's `dir:`): the top manifest as received, and every other file."""

    path: Path

    @cached_property
    def manifest_bytes(self) -> bytes:
        return (self.path / "manifest.json").read_bytes()

    @property
    def digest(self) -> str:
        return digest_of(self.manifest_bytes)

    @cached_property
    def files(self) -> dict[str, Path]:
        """Every blob and manifest by the digest of the bytes on disk, whatever the file's name is."""
        return {digest_of_file(file): file for file in sorted(self.path.iterdir()) if file.name != "version"}

    def missing(self, layout: ImageLayout) -> list[str]:
        """Digests of the layout that did not arrive byte for byte: empty after a complete pull."""
        return [digest for digest in layout.blobs if digest not in self.files]


class PrivateHome:
    """Folders and environment for a client, so that it neither reads nor leaves files elsewhere."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        home, runtime, temporary = (directory / name for name in ("home", "runtime", "tmp"))
        settings = home / ".config" / "containers"
        for folder in (settings, runtime, temporary, home / ".docker"):
            folder.mkdir(parents=True, exist_ok=True)
        runtime.chmod(0o700)
        (settings / "policy.json").write_text(json.dumps(ACCEPT_ANY))
        (settings / "registries.conf").write_text("unqualified-search-registries = []\n")
        (home / ".docker" / "config.json").write_text("{}")
        self.environment = plain_environment(
            HOME=str(home),
            XDG_RUNTIME_DIR=str(runtime),
            TMPDIR=str(temporary),
            DOCKER_CONFIG=str(home / ".docker"),
            CONTAINERS_REGISTRIES_CONF=str(settings / "registries.conf"),
        )

    def use_registries(self, text: str) -> None:
        """Sets the registries.conf of podman, buildah and skopeo."""
        Path(self.environment["CONTAINERS_REGISTRIES_CONF"]).write_text(text)

    def run(
        self, argv: list[str], *, check: bool = True, standard_input: str = "", **more: str
    ) -> "subprocess.CompletedProcess[str]":
        """Runs a client to its end, with `more` in its environment; raises ClientFailed unless `check` is False."""
        forget_blob_locations()
        environment = self.environment | more
        return run_client(
            argv, environment, self.directory, standard_input=standard_input, within=LONGEST_RUN, check=check
        )


class Skopeo:
    """skopeo with a home in `directory`. References are skopeo's: `docker://…`, `oci:…`, `dir:…`."""

    def __init__(self, directory: Path) -> None:
        self._program = binary("skopeo", "skopeo")
        self._home = PrivateHome(directory)
        self.use_registries = self._home.use_registries

    def copy(
        self,
        source: str,
        destination: str,
        *,
        every_platform: bool = True,
        credential: str | None = None,
        trusted: Path | None = None,
        platform: tuple[str, str] | None = None,
        check: bool = True,
    ) -> "subprocess.CompletedProcess[str]":
        """Copies an image with all digests preserved.

        `credential` is USER:PASSWORD at the registry; `trusted` is a folder of CA certificates (None: neither TLS nor
        certificates are required); `platform` (os, architecture) selects one of an index when `every_platform` is off.
        """
        picked = [f"--override-os={platform[0]}", f"--override-arch={platform[1]}"] if platform else []
        argv = [self._program, "--insecure-policy", *picked, "copy", "--quiet", "--preserve-digests"]
        if every_platform:
            argv.append("--all")
        for side, reference in (("src", source), ("dest", destination)):
            if reference.startswith("docker://"):
                argv += [f"--{side}-{option}" for option in self._access(credential, trusted)]
        return self._home.run([*argv, source, destination], check=check)

    def pull(
        self,
        reference: str,
        directory: Path,
        *,
        every_platform: bool = True,
        credential: str | None = None,
        trusted: Path | None = None,
        platform: tuple[str, str] | None = None,
    ) -> Pulled:
        """Pulls HOST:PORT/NAME:TAG into a new folder, with manifests as received."""
        directory.mkdir(parents=True)
        self.copy(
            f"docker://{reference}",
            f"dir:{directory}",
            every_platform=every_platform,
            credential=credential,
            trusted=trusted,
            platform=platform,
        )
        return Pulled(directory)

    def inspect_raw(self, reference: str, *, credential: str | None = None, trusted: Path | None = None) -> bytes:
        """Fetches the manifest of HOST:PORT/NAME:TAG, byte for byte."""
        options = [f"--{option}" for option in self._access(credential, trusted)]
        argv = [self._program, "--insecure-policy", "inspect", "--raw", *options, f"docker://{reference}"]
        return self._home.run(argv).stdout.encode()

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Runs any skopeo command with the configured registries and TLS."""
        return self._home.run([self._program, "--insecure-policy", *words])

    def tags(self, reference: str, *, credential: str | None = None, trusted: Path | None = None) -> list[str]:
        options = [f"--{option}" for option in self._access(credential, trusted)]
        listed = self._home.run([self._program, "list-tags", *options, f"docker://{reference}"])
        tags: list[str] = json.loads(listed.stdout)["Tags"]
        return tags

    @staticmethod
    def _access(credential: str | None, trusted: Path | None) -> list[str]:
        verify = [f"cert-dir={trusted}"] if trusted else ["tls-verify=false"]
        return [*verify, f"creds={credential}" if credential else "no-creds"]


class Podman:
    """podman with separate storage below `directory`; `close` removes it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._home = PrivateHome(directory / "private")
        self.use_registries = self._home.use_registries
        self._argv = [
            binary("podman", "podman"),
            f"--root={directory / 'root'}",
            f"--runroot={directory / 'run'}",
            f"--tmpdir={directory / 'libpod'}",
            "--storage-driver=vfs",
            "--events-backend=none",
            "--cgroup-manager=cgroupfs",
        ]

    def run(self, *words: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """Runs any podman command."""
        return self._home.run([*self._argv, *words], check=check)

    def pull(self, reference: str, *, credential: str | None = None, check: bool = True) -> str:
        """Pulls HOST:PORT/NAME:TAG; returns the image's id (the digest of its config, hex only)."""
        access = [f"--creds={credential}"] if credential else []
        return self.run("pull", "--quiet", "--tls-verify=false", *access, reference, check=check).stdout.strip()

    def push(self, image: str, reference: str, *, credential: str | None = None) -> str:
        """Pushes a local image; returns the digest of the manifest that podman made for it."""
        access = [f"--creds={credential}"] if credential else []
        record = self._directory / "pushed-digest"
        self.run("push", "--quiet", "--tls-verify=false", f"--digestfile={record}", *access, image, reference)
        return record.read_text().strip()

    def images(self) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = json.loads(self.run("images", "--format=json").stdout)
        return listed

    def digest(self, reference: str) -> str:
        """Digest of the manifest that podman recorded for a local image."""
        inspected = json.loads(self.run("image", "inspect", reference).stdout)
        return str(inspected[0]["Digest"])

    def login(self, host: str, user: str, password: str, *, check: bool = True) -> "subprocess.CompletedProcess[str]":
        words = ["login", "--tls-verify=false", f"--username={user}", f"--password={password}", host]
        return self.run(*words, check=check)

    def remove_all(self) -> None:
        """Removes every image, so that the next pull transfers everything again."""
        self.run("rmi", "--all", "--force")

    def close(self) -> None:
        self.run("rmi", "--all", "--force", check=False)
        if os.geteuid() != 0:  # rootless storage holds files of other ids; only podman's user namespace may remove them
            self.run("unshare", "rm", "-rf", str(self._directory / "root"), check=False)
        shutil.rmtree(self._directory, ignore_errors=True)


class Buildah:
    """buildah with separate storage below `directory`; `close` removes it. Its logins are those of a file."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._home = PrivateHome(directory / "private")
        places = [f"--root={directory / 'root'}", f"--runroot={directory / 'run'}"]
        self._argv = [binary("buildah", "buildah"), *places, "--storage-driver=vfs"]

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Runs any buildah command. Raises ClientFailed."""
        return self._home.run([*self._argv, *words])

    def login(self, host: str, user: str, password: str) -> None:
        self._home.run(
            [*self._argv, "login", "--tls-verify=false", f"--username={user}", "--password-stdin", host],
            standard_input=password,
        )

    def build(self, folder: Path, image: str) -> None:
        """Builds the Dockerfile of a folder, whose commands run within a chroot of this machine."""
        self.run("bud", "--tls-verify=false", "--isolation=chroot", "--network=host", f"--tag={image}", str(folder))

    def pull(self, reference: str) -> str:
        """Pulls HOST:PORT/NAME:TAG; returns the image's id (the digest of its config, hex only)."""
        return self.run("pull", "--quiet", "--tls-verify=false", reference).stdout.strip()

    def push(self, image: str, reference: str) -> str:
        """Pushes a local image; returns the digest of the manifest that buildah made for it."""
        return self._push(["push"], image, reference)

    def push_list(self, manifest_list: str, reference: str) -> str:
        """Pushes a local manifest list with every image of it; returns the digest of the list."""
        return self._push(["manifest", "push", "--all"], manifest_list, f"docker://{reference}")

    def close(self) -> None:
        self.run("rmi", "--all", "--force")
        shutil.rmtree(self._directory, ignore_errors=True)

    def _push(self, words: list[str], image: str, reference: str) -> str:
        record = self._directory / "pushed-digest"
        self.run(*words, "--quiet", "--tls-verify=false", f"--digestfile={record}", image, reference)
        return record.read_text().strip()


def forget_blob_locations() -> None:
    """Removes the list of known blobs that skopeo, podman and buildah share as root, independent of HOME.

    With that list, a second run would mount or skip blobs of the first run, and a test would observe other requests.
    """
    if os.geteuid() == 0:
        with contextlib.suppress(FileNotFoundError):
            Path("/var/lib/containers/cache/blob-info-cache-v1.boltdb").unlink()


def digest_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()

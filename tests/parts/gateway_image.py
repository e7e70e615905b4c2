"""The image of the server under test, built from helm/image/Containerfile over a base made of Debian packages.

`python -m tests.parts.gateway_image` fetches the Python packages that the build installs, for later runs.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from .processes import PartFailed, binary, plain_environment

ROOT = Path(__file__).resolve().parents[2]
CONTAINERFILE = ROOT / "helm" / "image" / "Containerfile"
LOCK = ROOT / "tests" / "requirements.lock"
DEBIAN_PYTHON = "/usr/bin/python3"
BASE, IMAGE = "localhost/debian-python:base", "localhost/registry-gateway:latest"
PACKAGES = ("python3-venv", "coreutils", "dash", "libc-bin", "libstdc++6", "netbase")
"""Debian packages of the base; those they depend on come along."""

NOT_NEEDED = re.compile(r"/usr/share/(?:doc|man|locale|info|lintian|bash-completion|bug)(?:/|$)")
LONGEST_STEP = 900


def wheels() -> Path:
    """Folder with the Python packages that the image holds, as the lock has them, and what builds ours; fetched unless
    an earlier run has done so. Raises PartFailed."""
    project = (ROOT / "pyproject.toml").read_bytes()
    version = _run([DEBIAN_PYTHON, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]).strip()
    key = hashlib.sha256(project + LOCK.read_bytes() + version.encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "registry-gateway-tests"
    folder, draft = cache / f"wheels-{key}", cache / f"wheels-{key}.{os.getpid()}"
    if not folder.exists():
        wanted = ["hatchling", *tomllib.loads(project.decode())["project"]["dependencies"]]
        argv = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:", "--constraint", str(LOCK)]
        _run([*argv, "--python-version", version, "--dest", str(draft), *wanted])
        for older in cache.glob("wheels-*"):
            if older != draft:
                shutil.rmtree(older)
        draft.rename(folder)
    return folder


def make_base(root: Path) -> None:
    """Fills a folder with the files of the packages, as they are on this machine, and the certificates to trust."""
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / "usr" / name).mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(f"usr/{name}")
    for name in ("tmp", "etc/ssl/certs", "root", "proc", "sys", "dev"):
        (root / name).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    listed = _run(["dpkg-query", "--listfiles", *_with_dependencies(PACKAGES)]).splitlines()
    paths = {line for line in listed if line.startswith("/") and not NOT_NEEDED.match(line)}
    own = sorted(
        path for path in paths if os.path.lexists(path) and path not in ("/.", "/bin", "/sbin", "/lib", "/lib64")
    )
    names = "\n".join(path.lstrip("/") for path in [*own, "/etc/ssl/certs/ca-certificates.crt"])
    packed = subprocess.run(
        ["tar", "-C", "/", "-c", "--no-recursion", "-T", "-"], input=names.encode(), capture_output=True, check=True
    )
    subprocess.run(["tar", "-C", str(root), "-x", "--keep-directory-symlink"], input=packed.stdout, check=True)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")


def _with_dependencies(names: tuple[str, ...]) -> list[str]:
    """Those of the packages, and of all that they depend on, that are installed; of alternatives the first."""
    waiting, found = list(names), set()
    while waiting:
        name = waiting.pop()
        query = ["dpkg-query", "--show", "--showformat=${db:Status-Status},${Pre-Depends},${Depends}", name]
        shown = subprocess.run(query, check=False, capture_output=True, text=True)
        status, *parts = shown.stdout.split(",")
        if name in found or status != "installed":
            continue
        found.add(name)
        waiting += [match[1] for part in parts if (match := re.match(r"\s*([a-z0-9.+-]+)", part))]
    if missing := set(names) - found:
        raise PartFailed(f"tests need Debian packages for the base of the image: apt-get install {' '.join(missing)}")
    return sorted(found)


class ImageBuilder:
    """buildah with storage of its own below `directory`."""

    def __init__(self, directory: Path) -> None:
        own = ["--root", str(directory / "root"), "--runroot", str(directory / "run"), "--storage-driver", "vfs"]
        self._buildah = [binary("buildah", "buildah"), *own]
        self._directory = directory
        self._environment = plain_environment(HOME=str(directory), XDG_RUNTIME_DIR=str(directory))
        directory.mkdir(parents=True, exist_ok=True)

    def build(self, archive: Path) -> None:
        """Builds the image as the Containerfile says, but over Debian's packages and without a network, into an archive
        that `docker load` reads. Raises PartFailed."""
        files = self._directory / "base"
        make_base(files)
        container = self.run("from", "scratch").strip()
        self.run("add", container, str(files), "/")
        self.run("commit", "--rm", container, BASE)
        arguments = {"BASE": BASE, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels"}
        words = [word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")]
        words += ["--volume", f"{wheels()}:/wheels:ro", "--isolation", "chroot", "--network", "host"]
        words += ["--squash"]  # dockerd without an overlay copies every layer
        self.run("bud", *words, "--format", "docker", "--file", str(CONTAINERFILE), "--tag", IMAGE, str(ROOT))
        self.run("push", IMAGE, f"docker-archive:{archive}:{IMAGE}")

    def run(self, *words: str) -> str:
        """Runs any buildah command; returns what it printed. Raises PartFailed."""
        return _run([*self._buildah, *words], self._environment)


def _run(argv: list[str], environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(argv, env=environment, check=False, capture_output=True, text=True, timeout=LONGEST_STEP)
    if done.returncode != 0:
        raise PartFailed(f"{' '.join(argv)}: status {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


if __name__ == "__main__":
    wheels()

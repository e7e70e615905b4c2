"""crane and oras, built from their Go modules where Go is installed."""

import os
import shutil
import subprocess
from pathlib import Path

from .clients import PrivateHome

CRANE = "github.com/google/go-containerregistry/cmd/crane@v0.21.9"
ORAS = "oras.land/oras/cmd/oras@v1.3.3"
LONGEST_BUILD = 300


def find_go_client(module: str) -> Path | None:
    """The program of a module: one that was built before, or one that is built now, with little priority; None where
    that is not possible."""
    folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "registry-gateway-tests"
    program = folder / module.rpartition("@")[0].rpartition("/")[2]
    go = shutil.which("go", path=os.environ.get("PATH", "") + ":/usr/local/go/bin")
    if not program.exists() and go is not None:
        folder.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "GOBIN": str(folder), "GOFLAGS": "-buildvcs=false"}
        argv = ["nice", go, "install", module]
        subprocess.run(argv, env=environment, check=False, capture_output=True, timeout=LONGEST_BUILD)
    return program if program.exists() else None


class GoClient:
    """crane or oras with a home of its own."""

    def __init__(self, program: Path, directory: Path) -> None:
        self._program, self._directory = str(program), directory
        self._home = PrivateHome(directory / program.name)
        self._pulled = 0

    def pull(self, reference: str) -> bool:
        """Pulls HOST:PORT/NAME:TAG whole over plain HTTP; whether that worked."""
        self._pulled += 1
        place = str(self._directory / f"pulled-{self._pulled}")
        if Path(self._program).name == "crane":
            words = ["pull", "--insecure", "--format=oci", reference, place]
        else:
            words = ["copy", "--from-plain-http", "--to-oci-layout", reference, f"{place}:pulled"]
        return self._home.run([self._program, *words], check=False).returncode == 0

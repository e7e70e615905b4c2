"""oras-py, the client that uploads in chunks with Content-Range: a library, which runs in a process of its own."""

import json
import sys
from pathlib import Path

from oras.client import OrasClient

from .clients import PrivateHome

ROOT = Path(__file__).resolve().parents[2]
CHUNK = 1_000_000
"""Bytes of a chunk."""


class OrasPython:
    """oras-py with a home in `directory`. It sends its login with every request.

    With Bearer tokens it can push to no registry that says for each request which right that needs: it asks for a token
    once, for its first request, which reads (oras 0.2.43, `TokenAuth.authenticate_request`).
    """

    def __init__(self, directory: Path, user: str, secret: str) -> None:
        self._home = PrivateHome(directory)
        self._login = {"username": user, "password": secret}

    def push(self, reference: str, file: Path) -> str:
        """Pushes a file as HOST:PORT/NAME:TAG in chunks; returns the digest of its manifest. Raises ClientFailed."""
        return self._run("push", reference, file)

    def pull(self, reference: str, folder: Path) -> Path:
        """Pulls the file of HOST:PORT/NAME:TAG into a folder. Raises ClientFailed."""
        return Path(self._run("pull", reference, folder))

    def _run(self, action: str, reference: str, path: Path) -> str:
        words = [sys.executable, "-m", __name__, action, reference, str(path)]
        ran = self._home.run(words, standard_input=json.dumps(self._login), PYTHONPATH=str(ROOT))
        return ran.stdout.strip().splitlines()[-1]


def main(action: str, reference: str, path: str) -> None:
    """Pushes or pulls as the process whose standard input is the login; prints the digest or the file."""
    login = json.load(sys.stdin)
    client = OrasClient(insecure=True, auth_backend="basic")
    client.auth.set_basic_auth(**login)
    if action == "push":
        options = {"disable_path_validation": True, "do_chunked": True, "chunk_size": CHUNK}
        pushed = client.push(reference, files=[path], **options)
        print(pushed.headers["Docker-Content-Digest"])
    else:
        [file] = client.pull(reference, outdir=path)
        print(file)


if __name__ == "__main__":
    main(*sys.argv[1:])

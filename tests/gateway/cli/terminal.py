"""Terminal: commands as they are typed in a folder of the test's own."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.parts.commands import invoke
from tests.parts.pages import ROOT


class Terminal:
    """A user at a prompt in a folder of the test's own, with one upstream beside the built-in one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.config = folder / "gateway.toml"
        self.config.write_text('[upstreams."quay.io"]\nurl = "https://quay.io"\n')

    def run(self, *words: str, data: Path | None = None, stdin: str = "") -> tuple[int, str, str]:
        """Exit code, stdout and stderr of a command; variables GATEWAY_… of the environment are not passed on."""
        options = ["--config", str(self.config), "--data", str(data or self.data)]
        result = invoke([*words, *options], stdin)
        return result.exit_code, result.stdout, result.stderr

    def done(self, *words: str, stdin: str = "") -> str:
        code, out, err = self.run(*words, stdin=stdin)
        assert (code, err) == (0, "")
        return out

    def json(self, *words: str) -> Any:
        return json.loads(self.done(*words, "--json"))

    def refused(self, *words: str, data: Path | None = None) -> str:
        code, out, err = self.run(*words, data=data)
        assert (code, out, err.count("\n")) == (1, "", 1)
        return err.removeprefix("registry-gateway: ").rstrip("\n")

    def password(self, content: bytes) -> str:
        (self.folder / "password").write_bytes(content)
        return str(self.folder / "password")


def on_terminal(words: list[str], typed: str = "", **environ: str) -> tuple[int, str]:
    """Exit code of a command in a process of its own, and what it shows on its terminal, where somebody types."""
    ours, theirs = pty.openpty()
    without = ("NO_COLOR", "FORCE_COLOR")
    clean = {name: value for name, value in os.environ.items() if name not in without and "GATEWAY" not in name}
    environment = {**clean, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "100", **environ}
    argv = [sys.executable, "-m", "gateway", *words]
    with subprocess.Popen(argv, stdout=theirs, stderr=theirs, stdin=theirs, env=environment) as process:
        os.close(theirs)
        os.write(ours, typed.encode())
        shown = b""
        while True:
            try:
                shown += os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
        code = process.wait()
    os.close(ours)
    return code, shown.decode().replace("\r\n", "\n")

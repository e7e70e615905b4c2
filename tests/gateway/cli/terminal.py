"""Terminal: commands as they are typed in a folder of the test's own."""

import json
from pathlib import Path
from typing import Any

from tests.parts.commands import invoke


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

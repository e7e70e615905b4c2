"""Commands of the server under test, run inside the process of the tests, where each takes no second of its own."""

import json
import os
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from gateway.cli.main import app


class Commands:
    """The command line over the config and data of one server, which may run meanwhile. For one thread at a time."""

    def __init__(self, config: Path, data: Path) -> None:
        self._where = ["--config", str(config), "--data", str(data)]

    def run(self, *words: str) -> str:
        """Standard output of a command; raises AssertionError with its standard error if it fails."""
        without = {name: None for name in os.environ if name.startswith("GATEWAY_")}
        result = CliRunner().invoke(app, [*words, *self._where], env=without)
        assert result.exit_code == 0, f"{' '.join(words)}: status {result.exit_code}\n{result.stderr}"
        return result.stdout

    def json(self, *words: str) -> Any:
        """The document that a command prints with `--json`; raises as `run` does."""
        return json.loads(self.run(*words, "--json"))

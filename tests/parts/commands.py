"""Commands of the server under test, run inside the process of the tests, where each takes no second of its own."""

import json
import os
from pathlib import Path
from typing import Any

import structlog
from typer.main import get_command
from typer.testing import CliRunner, Result

from gateway.cli import catalogue
from gateway.cli.main import app


def invoke(words: list[str], stdin: str = "") -> Result:
    """Run a command; variables GATEWAY_… of the environment are not passed on, and logs are then as they were: the
    command writes them to a standard error that ends with it."""
    without = {name: None for name in os.environ if name.startswith("GATEWAY_")}
    try:
        return CliRunner().invoke(app, words, env=without, input=stdin)
    finally:
        structlog.reset_defaults()


def find_command(words: list[str]) -> tuple[Any, list[str]]:
    """The command that the first words name, imported, and the words after them."""
    command: Any = get_command(app)
    while words and hasattr(command, "commands"):
        _, command, words = command.resolve_command(None, words)
    return command, words


def every_command() -> dict[str, Any]:
    """Executable commands by their full names, such as `cache list`."""
    return {name: find_command(name.split())[0] for name, _ in catalogue.leaves()}


class Commands:
    """The command line over the config and data of one server, which may run meanwhile. For one thread at a time."""

    def __init__(self, config: Path, data: Path) -> None:
        self._where = ["--config", str(config), "--data", str(data)]

    def run(self, *words: str) -> str:
        """Standard output of a command; raises AssertionError with its standard error if it fails."""
        result = invoke([*words, *self._where])
        assert result.exit_code == 0, f"{' '.join(words)}: status {result.exit_code}\n{result.stderr}"
        return result.stdout

    def json(self, *words: str) -> Any:
        """The document that a command prints with `--json`; raises as `run` does."""
        return json.loads(self.run(*words, "--json"))

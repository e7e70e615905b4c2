"""Server under test as its users run it: a process started from the command line, with a config file and a data
folder."""

import json
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .forks import COMMAND, ROOT, run_gateway
from .ports import HOST, free_port
from .processes import LONGEST_START, Process, answers_http, plain_environment

INSIDE = Path(__file__).resolve().parent / "inside"
LONGEST_COMMAND = 120


class Gateway:
    """Runs `python -m gateway serve` over `directory`, which holds config, data and log.

    `config` is TOML text or the equivalent nested dicts; `arguments` are more arguments of `serve`. One worker serves,
    unless the config says otherwise. Upstreams are not checked at a start, unless the environment says otherwise, so
    that they get the requests of tests alone. `start` returns when `/-/ready` responds with 200. Port and data outlive
    `stop`. With TESTS_ZERO_COPY=off in the environment of the tests, every server reads the files that it sends. The
    processes count their tasks when told to (tests/parts/holdings.py).
    """

    def __init__(
        self,
        directory: Path,
        config: str | Mapping[str, Any] = "",
        *,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        port: int = 0,
    ) -> None:
        self.directory = directory
        self.data = directory / "data"
        self.config_file = directory / "gateway.toml"
        self.port = port or free_port()
        self.task_counts = directory / "tasks"
        self.task_counts.mkdir(parents=True, exist_ok=True)
        self.configure(config)
        own = plain_environment(PYTHONPATH=str(ROOT), PYTHONUNBUFFERED="1", NO_COLOR="1", **(environment or {}))
        self._environment = own
        serving = own | ({"GATEWAY_ZERO_COPY": "false"} if os.environ.get("TESTS_ZERO_COPY") == "off" else {})
        serving |= {"PYTHONPATH": f"{INSIDE}:{own['PYTHONPATH']}", "TASK_COUNTS": str(self.task_counts)}
        serving = {"GATEWAY_CHECK_UPSTREAMS": "false"} | serving
        words = ["serve", *self._where, f"--host={HOST}", f"--port={self.port}", *arguments]
        self.process = Process(
            [*COMMAND, *words],
            log=directory / "gateway.log",
            environment=serving,
            directory=directory,
        )

    @property
    def _where(self) -> list[str]:
        return ["--config", str(self.config_file), "--data", str(self.data)]

    @property
    def host(self) -> str:
        """HOST:PORT, with which an image reference begins."""
        return f"{HOST}:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    def proxied(self, image: str, group: str = "hub") -> str:
        """Reference by which a client pulls an image of the upstream through a group."""
        return f"{self.host}/{group}/dependency_proxy/containers/{image}"

    def proxied_url(self, path: str, group: str = "hub") -> str:
        """URL of a proxied image's resource; `path` is, for example, `library/tiny/manifests/latest`."""
        return f"{self.url}/v2/{group}/dependency_proxy/containers/{path}"

    def configure(self, config: str | Mapping[str, Any]) -> None:
        """Writes another config file; it takes effect at the next start."""
        text = config if isinstance(config, str) else toml(config)
        one = "" if re.search(r'^"?workers"?\s*=', text, re.MULTILINE) else "workers = 1\n"
        self.config_file.write_text(one + text)

    def arm(self, failpoints: str) -> None:
        """Arms these failpoints, and no others, from the next start."""
        self.process.environment["FAILPOINTS"] = failpoints

    def start(self, within: float = LONGEST_START) -> None:
        self.process.start(answers_http(f"{self.url}/-/ready"), within)

    @property
    def workers(self) -> list[int]:
        """Process ids of the current workers."""
        return list(json.loads((self.data / "run.json").read_text())["workers"])

    @property
    def worker(self) -> int:
        """Process id of the only worker."""
        [pid] = self.workers
        return pid

    def stop(self) -> int | None:
        """Stops the server by SIGTERM; returns its exit status."""
        return self.process.stop(patience=70)

    def kill(self) -> None:
        """Kills the server and all its workers at once, by SIGKILL."""
        self.process.kill()

    def restart(self) -> None:
        self.stop()
        self.start()

    def log_text(self) -> str:
        return self.process.log_text()

    def cli(self, *words: str, standard_input: str = "") -> "subprocess.CompletedProcess[str]":
        """Runs a command on the same config and data, whether the server runs or not."""
        words = (*words, *self._where)
        return run_gateway(words, self._environment, self.directory, standard_input, LONGEST_COMMAND)

    def json(self, *words: str) -> Any:
        """Parses the output of a command with `--json`; raises AssertionError with the output if the command fails."""
        completed = self.cli(*words, "--json")
        assert completed.returncode == 0, f"{' '.join(words)}: status {completed.returncode}\n{completed.stderr}"
        return json.loads(completed.stdout)


def toml(config: Mapping[str, Any], prefix: str = "") -> str:
    """Nested dicts as TOML: dicts become tables, lists of dicts arrays of tables, all else values."""
    values, tables = [], []
    for key, value in config.items():
        name = prefix + json.dumps(key)
        if isinstance(value, Mapping):
            tables.append(f"\n[{name}]\n{toml(value, name + '.')}")
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            tables += [f"\n[[{name}]]\n{toml(item, name + '.')}" for item in value]
        else:
            values.append(f"{json.dumps(key)} = {json.dumps(value)}\n")
    return "".join(values + tables)

"""Measured servers, ours and the others, each started on a new folder."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Protocol

from tests.parts.gateway import Gateway
from tests.parts.ports import free_port
from tests.parts.processes import Process, answers_http, answers_tcp, binary, plain_environment

IMAGE = "library/bench"
DISTRIBUTION = "github.com/distribution/distribution/v3/cmd/registry@v3.1.1"


class Peer(Protocol):
    name: str

    def start(self, directory: Path, upstream: str) -> None: ...
    def stop(self) -> None: ...

    @property
    def base(self) -> str:
        """URL below which `/manifests/…` and `/blobs/…` of the image are."""

    @property
    def pids(self) -> list[int]: ...


class RegistryGateway:
    name = "registry-gateway"

    def __init__(self, workers: int = 1, environment: dict[str, str] | None = None, **settings: object) -> None:
        self._workers = workers
        self._environment = environment or {}
        self._settings = settings

    def start(self, directory: Path, upstream: str) -> None:
        hub = {"url": upstream, "private_addresses": True}
        config = {"workers": self._workers, "log_format": "json", "upstreams": {"docker.io": hub}, **self._settings}
        self._gateway = Gateway(directory, config, environment=self._environment)
        self._gateway.start()

    def stop(self) -> None:
        self._gateway.stop()

    def restart(self) -> None:
        self._gateway.start()

    def command(self, *words: str) -> Any:
        """Runs a command on the data folder while the server runs; returns its JSON."""
        return self._gateway.json(*words)

    @property
    def base(self) -> str:
        return self._gateway.proxied_url(IMAGE)

    @property
    def url(self) -> str:
        return self._gateway.url

    @property
    def data(self) -> Path:
        return self._gateway.data

    @property
    def pids(self) -> list[int]:
        process = self._gateway.process
        return [process.pid, *process.children()]


class _Program:
    """A peer that is one program with a configuration file, on a separate port."""

    name: str
    _process: Process
    _port: int

    def stop(self) -> None:
        self._process.stop()

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self._port}/v2/{IMAGE}"

    @property
    def pids(self) -> list[int]:
        return [self._process.pid, *self._process.children()]


class Constant(_Program):
    """Hypercorn with an app that does nothing."""

    name = "constant answer"

    def start(self, directory: Path, upstream: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._port = free_port()
        command = [sys.executable, "-m", "tests.bench.constant", str(self._port)]
        self._process = Process(command, log=directory / "log")
        self._process.start(answers_tcp(self._port))


class DockerRegistry(_Program):
    """Debian's docker-registry as pull-through cache, or as a store to which clients push."""

    name = "docker-registry"

    def __init__(self, environment: dict[str, str] | None = None, *, is_store: bool = False) -> None:
        self._environment = environment or {}
        self._is_store = is_store

    def program(self) -> str:
        return binary("docker-registry", "docker-registry")

    def start(self, directory: Path, upstream: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._port = free_port()
        file = directory / "config.yml"
        file.write_text(
            "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"
            f"storage: {{filesystem: {{rootdirectory: {directory / 'data'}}}}}\n"
            f'http: {{addr: "127.0.0.1:{self._port}", secret: x}}\n'
            + ("" if self._is_store else f'proxy: {{remoteurl: "{upstream}"}}\n')
        )
        environment = plain_environment(OTEL_TRACES_EXPORTER="none", **self._environment)
        self._process = Process([self.program(), "serve", str(file)], log=directory / "log", environment=environment)
        self._process.start(answers_http(f"http://127.0.0.1:{self._port}/v2/"))


class Distribution(DockerRegistry):
    """Current release of distribution, built from its Go module."""

    name = "distribution"

    def program(self) -> str:
        return go_program("registry", DISTRIBUTION)


def go_program(name: str, module: str) -> str:
    """Path of a program that is built from its Go module at first."""
    folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "registry-gateway-bench"
    found = folder / name
    if not found.exists():
        folder.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "GOBIN": str(folder), "GOFLAGS": "-buildvcs=false"}
        subprocess.run([binary("go", "golang-go"), "install", module], env=environment, check=True)
    return str(found)


class Nginx(_Program):
    """nginx with proxy_cache and its lock: what a careful administrator would build from existing parts."""

    name = "nginx"

    def start(self, directory: Path, upstream: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._port = free_port()
        temporary = "".join(
            f"{kind}_temp_path {directory}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (directory / "nginx.conf").write_text(f"""
daemon off; user root; worker_processes 1; pid {directory}/pid; error_log {directory}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off; sendfile on; tcp_nopush on; {temporary}
  proxy_cache_path {directory}/cache keys_zone=z:10m max_size=20g inactive=1d use_temp_path=off;
  server {{
    listen 127.0.0.1:{self._port};
    location / {{
      proxy_pass {upstream}; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_cache z; proxy_cache_key $uri; proxy_cache_valid 200 10m; proxy_ignore_headers Vary Cache-Control;
      proxy_cache_lock on; proxy_cache_lock_timeout 1h; proxy_cache_lock_age 1h;
    }}
  }}
}}
""")
        command = [binary("nginx", "nginx-light"), "-c", str(directory / "nginx.conf"), "-p", str(directory)]
        self._process = Process(command, log=directory / "log")
        self._process.start(answers_tcp(self._port))

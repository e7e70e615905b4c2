"""Reverse proxies in front of the server under test, as administrators set them up: nginx and HAProxy on loopback."""

import os
from pathlib import Path

from .ports import HOST, free_port
from .processes import Process, answers_tcp, binary

RECOMMENDED = (
    "proxy_http_version 1.1;",
    'proxy_set_header Connection "";',
    "proxy_request_buffering off;",
    "proxy_buffering off;",
    "client_max_body_size 0;",
)


class FrontProxy:
    """A proxy on a port of its own; its folder holds config and log."""

    def __init__(self, argv: list[str], directory: Path, port: int) -> None:
        self.directory, self.port = directory, port
        self.process = Process(argv, log=directory / "proxy.log", directory=directory)

    @property
    def host(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    def start(self) -> None:
        self.process.start(answers_tcp(self.port))

    def stop(self) -> None:
        self.process.stop()

    def log_text(self) -> str:
        return self.process.log_text()


class Nginx(FrontProxy):
    """nginx that forwards everything to a port; `lines` are added to its location; without lines it has nginx's
    defaults.

    `written` replaces its `http` block; the ports 80 and 8080 in it are replaced by the test's ports.
    """

    def __init__(self, directory: Path, backend: int, lines: tuple[str, ...] = (), written: str = "") -> None:
        directory.mkdir(parents=True, exist_ok=True)
        port = free_port()
        stores = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temporary = "\n".join(f"    {name}_temp_path {directory / name};" for name in stores)
        location = "\n".join(f"        {line}" for line in lines)
        tls = " ssl" if "listen 80 ssl;" in written else ""
        servers = (
            _on_ports(written, f"listen 80{tls};", f"listen {HOST}:{port}{tls};", backend)
            if written
            else f"""\
    server {{
        listen {HOST}:{port};
        location / {{
        proxy_pass http://{HOST}:{backend};
{location}
        }}
    }}
"""
        )
        account = "user root;" if os.geteuid() == 0 else ""
        file = directory / "nginx.conf"
        file.write_text(
            f"""\
daemon off;
{account}
pid {directory / "nginx.pid"};
error_log stderr;
events {{ worker_connections 1024; }}
http {{
    access_log off;
{temporary}
{servers}
}}
"""
        )
        program = binary("nginx", "nginx-light")
        super().__init__([program, "-e", "stderr", "-p", str(directory), "-c", str(file)], directory, port)


class Haproxy(FrontProxy):
    """HAProxy that forwards everything to a port, with its defaults and the timeouts that it requires.

    `written` replaces its configuration; the ports 80 and 8080 in it are replaced by the test's ports.
    """

    def __init__(self, directory: Path, backend: int, written: str = "") -> None:
        directory.mkdir(parents=True, exist_ok=True)
        port = free_port()
        file = directory / "haproxy.cfg"
        file.write_text(
            _on_ports(written, "bind :80", f"bind {HOST}:{port}", backend)
            if written
            else f"""\
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
frontend clients
    bind {HOST}:{port}
    default_backend gateway
backend gateway
    server gateway {HOST}:{backend}
"""
        )
        super().__init__([binary("haproxy", "haproxy"), "-db", "-f", str(file)], directory, port)


def _on_ports(written: str, listen: str, instead: str, backend: int) -> str:
    """Replaces the ports of a configuration by the test's. Raises ValueError if it does not contain them."""
    for text in (listen, f"{HOST}:8080"):
        if written.count(text) != 1:
            raise ValueError(f"{text!r} must occur once")
    return written.replace(listen, instead).replace(f"{HOST}:8080", f"{HOST}:{backend}")

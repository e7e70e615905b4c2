"""Reverse proxies in front of a server: one with its defaults, and those with the configurations of the README."""

import re
from collections.abc import Callable
from pathlib import Path

from tests.parts.gateway import ROOT
from tests.parts.ports import free_port
from tests.parts.proxies import FrontProxy, Haproxy, Nginx

KINDS = ["nginx by default", "nginx of the README", "haproxy of the README"]


def snippets(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)


def make_front(kind: str, workplace: Path) -> tuple[FrontProxy, int]:
    """A proxy of a kind, which has not started, and the port to which it forwards everything."""
    backend, directory = free_port(), workplace / kind.replace(" ", "-")
    makers: dict[str, Callable[[], FrontProxy]] = {
        "nginx by default": lambda: Nginx(directory, backend),
        "nginx of the README": lambda: Nginx(directory, backend, written=snippets("nginx")[0]),
        "haproxy of the README": lambda: Haproxy(directory, backend, written=snippets("haproxy")[0]),
    }
    return makers[kind](), backend

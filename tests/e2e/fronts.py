"""Reverse proxies in front of a server: one with its defaults, and those with the configurations of their page."""

from collections.abc import Callable
from pathlib import Path

from tests.parts.pages import PAGES, blocks
from tests.parts.ports import free_port
from tests.parts.proxies import FrontProxy, Haproxy, Nginx

KINDS = ["nginx by default", "nginx of the page", "haproxy of the page"]


def snippets(language: str) -> list[str]:
    return blocks(PAGES["reverse-proxy"], language)


def make_front(kind: str, workplace: Path) -> tuple[FrontProxy, int]:
    """A proxy of a kind, which has not started, and the port to which it forwards everything."""
    backend, directory = free_port(), workplace / kind.replace(" ", "-")
    makers: dict[str, Callable[[], FrontProxy]] = {
        "nginx by default": lambda: Nginx(directory, backend),
        "nginx of the page": lambda: Nginx(directory, backend, written=snippets("nginx")[0]),
        "haproxy of the page": lambda: Haproxy(directory, backend, written=snippets("haproxy")[0]),
    }
    return makers[kind](), backend

"""All routes of pages, without a server."""

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

from gateway.web.app import page_table
from gateway.web.cookies import Cookies
from gateway.web.options import WebOptions
from gateway.web.pages import Pages
from gateway.web.routes import PageRoute
from gateway.web.static_files import StaticFiles


class _Anything(SimpleNamespace):
    """A part of a server of which nothing is used."""

    def __getattr__(self, name: str) -> Any:
        return _Anything()


def every_route() -> list[PageRoute]:
    """The routes, in the order in which they are looked at."""
    options = WebOptions("http://127.0.0.1:8080", "127.0.0.1:8080", timedelta(1))
    parts: Any = _Anything()
    return list(page_table(parts, Pages(options, StaticFiles()), Cookies(options)).routes)

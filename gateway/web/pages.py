"""Pages: templates, and the responses that are made of them."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from gateway.web.errors import ErrorText
from gateway.web.formats import ago, capitalize_first, day, exact, instant, percent, plural, size, utc
from gateway.web.forms import TOKEN_FIELD
from gateway.web.headers import page_headers
from gateway.web.options import WebOptions
from gateway.web.static_files import StaticFiles
from gateway.web.visit import Visit

FOLDER = Path(__file__).parent / "templates"
SEE_OTHER = 303


class Pages:
    """Renders templates. Everything that stands in one is escaped, but what `help_page` has made of our own pages."""

    def __init__(self, options: WebOptions, static: StaticFiles) -> None:
        self.options = options
        self._environment = Environment(
            loader=FileSystemLoader(FOLDER),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._environment.filters.update(ago=ago, day=day, exact=exact, percent=percent, plural=plural, size=size)
        self._environment.filters.update(segment=quote, capitalize_first=capitalize_first, instant=instant, utc=utc)
        self._environment.globals.update(static=static.url, registry=options.registry, token_field=TOKEN_FIELD)

    def show(
        self,
        visit: Visit,
        template: str,
        title: str,
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        **values: object,
    ) -> Response:
        """The response with a page. `title`: what the browser's window bears, before the name of this server."""
        text = self._render(template, title, visit=visit, user=visit.user, token=visit.token, **values)
        private = visit.session is not None or bool(values.get("private"))
        return HTMLResponse(text, status, {**page_headers(visit.request, private=private), **(headers or {})})

    def lead(self, visit: Visit, path: str) -> Response:
        """The response that leads a browser to another page, also after a form."""
        return RedirectResponse(path, SEE_OTHER, page_headers(visit.request, private=True))

    def refuse(self, request: Request, visit: Visit | None, error: ErrorText, request_id: str | None) -> Response:
        """The response with an error page; `visit`: None where it is not known who visits."""
        user, token = (visit.user, visit.token) if visit is not None else (None, "")
        text = self._render(
            "error.html", error.title, visit=visit, user=user, token=token, error=error, request_id=request_id
        )
        return HTMLResponse(text, error.status, {**page_headers(request, private=True), **error.headers})

    def _render(self, template: str, title: str, **values: object) -> str:
        now = datetime.now(UTC)
        return self._environment.get_template(template).render(title=title, now=now, **values)

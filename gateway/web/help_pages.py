"""Help: the pages of the documentation, with this server's own names in their examples."""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup
from starlette.responses import Response

from gateway.help.pages import TopicUnknown, get_page, list_pages
from gateway.web.errors import PageUnknown
from gateway.web.options import WebOptions
from gateway.web.pages import Pages
from gateway.web.routes import PageRoute
from gateway.web.visit import Visit

_EXAMPLES = re.compile(r"(?<![\w.-])(https?://)?(?:registry\.example\.com|127\.0\.0\.1:8080)(?::8080)?(?![\w-]|\.\w)")
"""Names by which the pages call a server."""

_PAGE = re.compile(r"([a-z-]+)\.md(#.*)?")
_NO_ANCHOR = re.compile(r"[^\w\- ]")


@dataclass(frozen=True, slots=True)
class _Rendered:
    """A page as HTML. `parts`: the anchors and titles of its sections."""

    title: str
    body: Markup
    parts: Sequence[tuple[str, str]]


class HelpPages:
    """Handlers of the documentation."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._rendered: dict[str, _Rendered] = {}

    @property
    def routes(self) -> Sequence[PageRoute]:
        return [PageRoute("GET", "/help", self.index), PageRoute("GET", "/help/{topic}", self.topic)]

    async def index(self, visit: Visit) -> Response:
        """List the pages."""
        listed = [(page.topic, title_of(page.text), _inline(page.summary)) for page in list_pages()]
        return self._pages.show(visit, "help_index.html", "Help", listed=listed)

    async def topic(self, visit: Visit) -> Response:
        """Show a page. Rendering the longest one takes longer than others may wait, so that a thread does it, once."""
        topic = visit.place["topic"]
        try:
            page = get_page(topic)
        except TopicUnknown as error:
            raise PageUnknown(str(error)) from error
        if topic not in self._rendered:
            self._rendered[topic] = await asyncio.to_thread(_render, page.text, self._pages.options)
        shown = self._rendered[topic]
        return self._pages.show(visit, "help.html", f"{shown.title} · Help", page=shown, topic=topic)


def title_of(text: str) -> str:
    """The title of a page, which stands in its first line."""
    return text.partition("\n")[0].removeprefix("# ")


def with_own_names(text: str, options: WebOptions) -> str:
    """A page with this server's names for those of its examples."""
    return _EXAMPLES.sub(lambda found: options.url if found[1] else options.registry, text)


def _inline(text: str) -> Markup:
    markdown = _markdown()
    tokens = markdown.parseInline(text)
    for token in tokens:
        for child in token.children or ():
            _mend(child)
    return Markup(markdown.renderer.render(tokens, markdown.options, {}))


def _markdown() -> MarkdownIt:
    """Markdown with tables; what looks like HTML is text."""
    return MarkdownIt("commonmark", {"html": False}).enable("table")


def _render(text: str, options: WebOptions) -> _Rendered:
    markdown, parts = _markdown(), list[tuple[str, str]]()
    tokens = markdown.parse(with_own_names(text, options))
    for token, following in zip(tokens, [*tokens[1:], None], strict=True):
        token.attrs.pop("style", None)  # alignment, which the policy of pages forbids as a style
        if token.type == "heading_open" and following is not None:
            anchor = _anchor_of(following.content)
            token.attrSet("id", anchor)
            if token.tag == "h2":
                parts.append((anchor, _plain(following)))
        for child in token.children or ():
            _mend(child)
    body = markdown.renderer.render(tokens, markdown.options, {})
    scrollable = '<div class="scroll" tabindex="0" role="region" aria-label="Table"><table>'
    body = body.replace("<table>", scrollable).replace("</table>", "</table></div>")
    body = body.replace("<pre>", '<pre tabindex="0">')
    return _Rendered(title_of(text), Markup(body), parts)


def _mend(token: Token) -> None:
    """Lead a link to a page of this server, and leave out what only the repository has."""
    if token.type == "image":
        token.type, token.tag = "text", ""
        token.content = f"({token.content})"
    if token.type == "link_open":
        address = str(token.attrs.get("href", ""))
        if found := _PAGE.fullmatch(address):
            token.attrs["href"] = f"/help/{found[1]}{found[2] or ''}"
        elif not address.startswith(("http://", "https://", "#", "/")):
            token.attrs = {"href": "/help"}
        elif address.startswith("http"):
            token.attrs["rel"] = "noopener nofollow"


def _anchor_of(title: str) -> str:
    """The anchor of a section, as links name it: in lower case, with hyphens for spaces."""
    return _NO_ANCHOR.sub("", title.replace("`", "").lower()).replace(" ", "-")


def _plain(inline: Token) -> str:
    """The text of a title without its marks."""
    return "".join(child.content for child in inline.children or ())

"""Chromium of the machine, driven by Playwright: pages as people see them, and what axe finds in them."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]
DESKTOP, PHONE = (1280, 900), (390, 844)
LONGEST_WAIT = 20_000
"""Milliseconds that a page may take to show what a test waits for: the machine may be busy."""

Scheme = Literal["light", "dark"]


@dataclass(frozen=True)
class Finding:
    """What axe says of a page: a rule that it breaks, how bad that is, and where."""

    rule: str
    impact: str
    places: tuple[str, ...]


class Chromium:
    """A browser; each `visit` is a profile of its own. `faults` collects what pages write to the console as errors."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self.faults: list[str] = []

    @contextmanager
    def visit(
        self,
        size: tuple[int, int] = DESKTOP,
        *,
        scheme: Scheme = "light",
        scripts: bool = True,
        permissions: tuple[str, ...] = (),
    ) -> Iterator[Page]:
        """Open a page in a new profile. `scripts`: whether pages may run any."""
        context: BrowserContext = self._browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme=scheme,
            java_script_enabled=scripts,
            permissions=list(permissions),
            reduced_motion="reduce",
        )
        context.set_default_timeout(LONGEST_WAIT)
        try:
            page = context.new_page()
            page.on("console", lambda said: self.faults.append(said.text) if said.type == "error" else None)
            page.on("pageerror", lambda error: self.faults.append(str(error)))
            yield page
        finally:
            context.close()


@contextmanager
def chromium() -> Iterator[Chromium]:
    """Start the browser of the machine, without one of Playwright's own."""
    program = shutil.which("chromium")
    assert program, "chromium is missing: tests/run installs it"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        try:
            yield Chromium(browser)
        finally:
            browser.close()


def examine(page: Page) -> list[Finding]:
    """What axe finds in a page, but for what is minor."""
    page.evaluate(_axe())
    found: Mapping[str, Any] = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        Finding(entry["id"], entry["impact"], tuple(str(node["target"]) for node in entry["nodes"]))
        for entry in found["violations"]
        if entry["impact"] in ("serious", "critical", "moderate")
    ]


def _axe() -> str:
    """The script of axe, as its package has it."""
    spec = find_spec("axe_playwright_python")
    assert spec is not None and spec.submodule_search_locations
    [file] = Path(next(iter(spec.submodule_search_locations))).rglob("axe.min.js")
    return file.read_text()

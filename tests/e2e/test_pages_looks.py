"""Every page in both schemes and on narrow screens: what axe finds, and whether anything needs scrolling sideways."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.parts.chromium import DESKTOP, PHONE, Chromium, Scheme, chromium, examine
from tests.parts.clients import Skopeo
from tests.parts.images import Images

from .conftest import LongLived
from .pages_rig import PROJECT, Rig, password_file, sign_in

pytestmark = pytest.mark.long

NARROW = (320, 640)
"""As wide as a page of 1280 pixels at four times its size (WCAG 2.2, 1.4.10)."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def rig(long_lived: LongLived, images: Images, workplace: Path, browser: Chromium) -> Rig:
    folder = workplace / "looks"
    folder.mkdir()
    config = {"workers": 2, "admin_password_file": str(password_file(folder, "root"))}
    return Rig(long_lived(config), Skopeo(folder / "skopeo"), images)


PAGES = {
    "sign-in": "/users/sign_in",
    "home": "/",
    "group": "/team",
    "project": f"/{PROJECT}",
    "registry": f"/{PROJECT}/container_registry",
    "empty-registry": f"/{PROJECT}/container_registry?search=nothing",
    "group-registry": "/groups/team/-/container_registries",
    "search": "/search?q=team",
    "search-tags": "/search?q=1.",
    "search-digest": f"/search?q=sha256:{'0' * 64}",
    "proxy": "/groups/team/-/dependency_proxy",
    "proxy-image": "/groups/team/-/dependency_proxy/image?image=alpine:latest",
    "proxy-savings": "/groups/team/-/dependency_proxy/savings",
    "proxy-clients": "/groups/team/-/dependency_proxy/clients",
    "proxy-gate": "/groups/team/-/dependency_proxy/gate",
    "proxy-purge": "/groups/team/-/dependency_proxy/purge",
    "admin": "/admin",
    "admin-users": "/admin/users",
    "admin-audit": "/admin/audit",
    "admin-doctor": "/admin/doctor",
    "members": f"/{PROJECT}/-/project_members",
    "group-members": "/groups/team/-/group_members",
    "access-tokens": f"/{PROJECT}/-/settings/access_tokens",
    "deploy-tokens": f"/{PROJECT}/-/settings/deploy_tokens",
    "protection": f"/{PROJECT}/-/settings/protection_rules",
    "quota": f"/{PROJECT}/-/settings/quota",
    "new-project": "/-/new/project",
    "settings": f"/{PROJECT}/edit",
    "cleanup": f"/{PROJECT}/-/settings/packages_and_registries",
    "deleted": f"/{PROJECT}/container_registry/deleted",
    "tokens": "/-/profile/personal_access_tokens",
    "account": "/-/profile",
    "password": "/-/profile/password",
    "help": "/help",
    "help-page": "/help/settings",
    "not-found": "/nothing/here",
}


@pytest.mark.parametrize(
    ("size", "scheme"), [(DESKTOP, "light"), (DESKTOP, "dark"), (PHONE, "light"), (NARROW, "dark")]
)
def test_axe_finds_nothing_serious_and_nothing_needs_scrolling_sideways(
    rig: Rig, browser: Chromium, scheme: Scheme, size: tuple[int, int]
) -> None:
    found: dict[str, object] = {}
    with browser.visit(size, scheme=scheme) as page:
        shots = {**PAGES}
        page.goto(rig.address(shots.pop("sign-in")))
        look(page, "sign-in", found)
        sign_in(page, rig, "root")
        for name, path in shots.items():
            page.goto(rig.address(path))
            look(page, name, found)
        rig.repository(page)
        look(page, "repository", found)
        tags = page.url
        for tag in ("1.9.0", "all"):
            page.goto(f"{tags}/tags/{tag}")
            look(page, f"tag-{tag}", found)
        page.goto(f"{tags}/compare?from=1.9.0&to=all")
        look(page, "compare", found)
        page.goto(f"{tags}/delete")
        look(page, "delete", found)
    assert found == {}


def look(page: Page, name: str, found: dict[str, object]) -> None:
    """Examine a page, which must not be wider than its window."""
    if findings := examine(page):
        found[name] = findings
    if page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
        found[f"{name} (width)"] = page.evaluate("document.documentElement.scrollWidth")

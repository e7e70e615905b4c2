"""The web pages in a browser: the steps of the user guide, with and without scripts, on both databases."""

import asyncio
import re
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest
from playwright.sync_api import Page, expect

from tests.parts.canaries import remember
from tests.parts.chromium import Chromium, chromium
from tests.parts.clients import Skopeo
from tests.parts.images import Images
from tests.parts.postgresql import Databases

from .conftest import LongLived
from .pages_rig import EMPTY, IMAGE, PROJECT, Rig, password_file, sign_in

pytestmark = pytest.mark.long

T = TypeVar("T")

ENGINES = ["sqlite", "postgresql"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    with chromium() as started:
        yield started


@pytest.fixture(autouse=True)
def no_faults(browser: Chromium) -> Iterator[None]:
    """Checks that no page has written an error to the console, such as something that its policy forbids."""
    yield
    faults = [fault for fault in browser.faults if "status of 4" not in fault]
    browser.faults.clear()
    assert faults == []


@pytest.fixture(scope="module", params=ENGINES)
def rig(
    request: pytest.FixtureRequest, long_lived: LongLived, images: Images, workplace: Path, browser: Chromium
) -> Iterator[Rig]:
    folder = workplace / f"pages-{request.param}"
    folder.mkdir()
    config: dict[str, object] = {"workers": 2, "admin_password_file": str(password_file(folder, "root"))}
    if request.param == "postgresql":
        databases: Databases = request.getfixturevalue("databases")
        made = run_beside(databases.server.create("of_the_pages", "template0"))
        config["database"] = {"url": str(made), "password_file": str(made.password_file)}
    yield Rig(long_lived(config), Skopeo(folder / "skopeo"), images)


def run_beside(work: Coroutine[Any, Any, T]) -> T:
    """Do asynchronous work in a thread of its own: Playwright has a loop in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


@pytest.fixture(params=[True, False], ids=["with-scripts", "without-scripts"])
def scripts(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def test_a_new_user_finds_how_to_push_and_the_image_appears(rig: Rig, browser: Chromium, scripts: bool) -> None:
    project = f"team/{'empty' if scripts else 'bare'}"
    with browser.visit(scripts=scripts) as page:
        sign_in(page, rig, "maintainer", f"/{project}/container_registry")
        expect(page.get_by_role("heading", name="There are no images in this project yet")).to_be_visible()
        push = page.get_by_label("command to push", exact=True)
        expect(push).to_have_value(f"docker push {rig.server.host}/{project}")
        repository = f"{project}/image"
        rig.push("tiny", repository, "first")
        page.reload()
        page.get_by_role("link", name=repository, exact=True).click()
        page.get_by_role("link", name="first", exact=True).click()
        expect(page.get_by_label("command for docker", exact=True)).to_have_value(
            f"docker pull {rig.server.host}/{repository}:first"
        )


def test_the_path_of_an_image_is_copied_also_without_the_clipboard_of_secure_pages(rig: Rig, browser: Chromium) -> None:
    with browser.visit(permissions=("clipboard-read", "clipboard-write")) as page:
        sign_in(page, rig, "reporter")
        for takes_away in (False, True):
            rig.repository(page)
            if takes_away:
                page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
            page.evaluate("document.getSelection().removeAllRanges()")
            button = page.get_by_role("button", name="Copy image path")
            button.click()
            expect(button).to_have_text("Copied")
        page.goto(rig.address("/help"))
        assert page.evaluate("navigator.clipboard.readText()") == f"{rig.server.host}/{IMAGE}"


def test_one_tag_is_removed_and_restored(rig: Rig, browser: Chromium, scripts: bool) -> None:
    tag = "1.0.0" if scripts else "1.1.0"
    with browser.visit(scripts=scripts) as page:
        sign_in(page, rig, "developer")
        rig.repository(page)
        page.get_by_role("button", name=f"Remove tag {tag}", exact=True).click()
        if scripts:
            dialog = page.get_by_role("dialog", name="Remove 1 tag?")
            expect(dialog.get_by_role("listitem")).to_have_text([tag])
            dialog.get_by_role("button", name="Remove").click()
        else:
            expect(page.get_by_role("listitem").filter(has_text=tag)).to_be_visible()
            page.get_by_role("button", name="Remove 1 tag").click()
        expect(page.get_by_role("heading", name="1 tag removed")).to_be_visible()
        assert tag not in rig.tags()
        page.get_by_role("button", name=f"Restore {tag}").click()
        expect(page.get_by_text("The tag is restored.")).to_be_visible()
        assert tag in rig.tags()


def test_tags_are_removed_in_bulk(rig: Rig, browser: Chromium, scripts: bool) -> None:
    marked = ["1.2.0", "1.3.0"] if scripts else ["1.4.0", "1.5.0"]
    with browser.visit(scripts=scripts) as page:
        sign_in(page, rig, "developer")
        rig.repository(page)
        for tag in marked:
            page.get_by_label(f"Mark {tag}", exact=True).check()
        page.get_by_role("button", name="Remove 2 marked" if scripts else "Remove marked tags").click()
        page.get_by_role("button", name="Remove" if scripts else "Remove 2 tags", exact=True).last.click()
        expect(page.get_by_role("heading", name="2 tags removed")).to_be_visible()
        assert not set(marked) & set(rig.tags())


def test_a_removal_is_cancelled(rig: Rig, browser: Chromium) -> None:
    with browser.visit() as page:
        sign_in(page, rig, "developer")
        rig.repository(page)
        page.get_by_role("button", name="Remove tag 1.6.0", exact=True).click()
        page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
        expect(page.get_by_role("dialog")).to_be_hidden()
        page.get_by_role("button", name="Remove tag 1.6.0", exact=True).click()
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_be_hidden()
        assert "1.6.0" in rig.tags()


def test_a_tag_is_removed_and_restored_by_the_keyboard_alone(rig: Rig, browser: Chromium) -> None:
    with browser.visit() as page:
        sign_in(page, rig, "developer")
        rig.repository(page)
        reach(page, "Mark 1.7.0")
        page.keyboard.press("Space")
        reach(page, "Remove 1 marked", backwards=True)
        page.keyboard.press("Enter")
        expect(page.get_by_role("dialog")).to_be_visible()
        reach(page, "Remove", backwards=True)
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="1 tag removed")).to_be_visible()
        assert "1.7.0" not in rig.tags()
        reach(page, "Restore 1.7.0")
        page.keyboard.press("Enter")
        expect(page.get_by_text("The tag is restored.")).to_be_visible()
        assert "1.7.0" in rig.tags()


def reach(page: Page, name: str, *, backwards: bool = False) -> None:
    """Move the focus by the Tab key to what has a name."""
    named = "e => (e.getAttribute('aria-label') || e.textContent || '').trim().replace(/\\s+/g, ' ')"
    said = f"({named})(document.activeElement)"
    for _ in range(120):
        page.keyboard.press("Shift+Tab" if backwards else "Tab")
        if page.evaluate(said) == name:
            return
    raise AssertionError(f"the keyboard does not reach {name!r}")


def test_a_repository_is_deleted_by_its_typed_path_and_restored(rig: Rig, browser: Chromium, scripts: bool) -> None:
    name = f"{PROJECT}/{'doomed' if scripts else 'gone'}"
    rig.push("tiny", name, "v1")
    with browser.visit(scripts=scripts) as page:
        sign_in(page, rig, "maintainer", f"/{PROJECT}/container_registry")
        page.get_by_role("link", name=name, exact=True).click()
        page.get_by_role("link", name="Delete image repository").click()
        button = page.get_by_role("button", name="Delete image repository")
        field = page.get_by_label(re.compile("to confirm"))
        field.fill(name[:-1])
        if scripts:
            expect(button).to_be_disabled()
        else:
            button.click()
            expect(page.get_by_role("alert")).to_contain_text("not the path")
        field.fill(name)
        button.click()
        expect(page.get_by_text("The repository is deleted.")).to_be_visible()
        page.get_by_role("button", name=f"Restore {name}").click()
        expect(page.get_by_role("heading", level=1)).to_have_text(name)
        expect(page.get_by_role("link", name="v1", exact=True)).to_be_visible()


def test_visibility_and_access_are_set_and_strangers_see_it(rig: Rig, browser: Chromium, scripts: bool) -> None:
    group = f"shown-{'with' if scripts else 'without'}"
    rig.server.json("group", "create", group, "--visibility", "public")
    rig.server.json("project", "create", f"{group}/app")
    with browser.visit(scripts=scripts) as page, browser.visit(scripts=scripts) as stranger:
        stranger.goto(rig.address(f"/{group}/app"))
        expect(stranger).to_have_url(re.compile("/users/sign_in"))
        sign_in(page, rig, "root", f"/{group}/app")
        page.get_by_role("link", name="General").click()
        page.get_by_label("Public").check()
        page.get_by_label("Everyone With Access").check()
        page.get_by_role("button", name="Save changes").click()
        expect(page.get_by_text("The changes are saved.")).to_be_visible()
        stranger.goto(rig.address(f"/{group}/app/container_registry"))
        expect(stranger.get_by_role("heading", name="Container Registry", exact=True)).to_be_visible()
        page.get_by_label("Only Project Members").check()
        page.get_by_role("button", name="Save changes").click()
        stranger.goto(rig.address(f"/{group}/app/container_registry"))
        expect(stranger).to_have_url(re.compile("/users/sign_in"))


def test_a_project_is_made_shared_protected_and_deleted(rig: Rig, browser: Chromium, scripts: bool) -> None:
    name = f"made-{'with' if scripts else 'without'}"
    with browser.visit(scripts=scripts) as page:
        sign_in(page, rig, "root", "/team")
        page.get_by_role("link", name="New project").click()
        page.locator("[name=name]").fill(name)
        page.get_by_role("button", name="Create project").click()
        expect(page.get_by_role("heading", level=1)).to_have_text(name)
        page.get_by_role("link", name="Members", exact=True).click()
        expect(page.get_by_role("row", name="reporter Reporter team")).to_be_visible()
        page.locator("[name=username]").fill("reporter")
        page.get_by_role("button", name="Add member").click()
        page.get_by_label("Role of reporter").select_option("Maintainer")
        page.get_by_role("button", name="Save reporter").click()
        expect(page.get_by_text("The changes are saved.")).to_be_visible()
        page.get_by_role("link", name="Remove reporter").click()
        page.get_by_role("button", name="Remove member").click()
        expect(page.get_by_text("The member is removed.")).to_be_visible()
        page.get_by_role("link", name="Packages & Registries", exact=True).click()
        page.get_by_role("link", name="Protection rules").click()
        page.locator("[name=pattern]").nth(1).fill("v.*")
        page.get_by_role("button", name="Add protection rule").last.click()
        expect(page.get_by_text("The rule is made.")).to_be_visible()
        page.get_by_role("link", name="Deploy tokens").click()
        page.locator("[name=name]").fill("cluster")
        page.get_by_role("button", name="Create deploy token").click()
        secret = remember(page.get_by_label("token", exact=True).input_value())
        page.get_by_role("link", name="General", exact=True).click()
        assert secret not in page.content()
        page.get_by_label("Last part of the path").fill(f"{name}-renamed")
        page.get_by_role("button", name="Change path").click()
        expect(page.get_by_text(f"It is team/{name}-renamed now.")).to_be_visible()
        page.get_by_role("link", name="Delete project").click()
        page.get_by_label(re.compile("to confirm")).fill(f"team/{name}-renamed")
        page.get_by_role("button", name="Delete project").click()
        expect(page.get_by_text("It is deleted.")).to_be_visible()


def test_a_repository_gets_another_path(rig: Rig, browser: Chromium) -> None:
    name = f"{PROJECT}/before"
    rig.push("tiny", name, "v1")
    with browser.visit(scripts=False) as page:
        sign_in(page, rig, "maintainer", f"/{PROJECT}/container_registry")
        page.get_by_role("link", name=name, exact=True).click()
        page.get_by_role("link", name="Rename or move").click()
        page.get_by_label("New path").fill(f"{PROJECT}/after")
        page.get_by_role("button", name="Move image repository").click()
        expect(page.get_by_role("heading", level=1)).to_have_text(f"{PROJECT}/after")
        expect(page.get_by_role("link", name="v1", exact=True)).to_be_visible()


def test_a_token_is_made_copied_once_used_and_revoked(rig: Rig, browser: Chromium, scripts: bool) -> None:
    with browser.visit(scripts=scripts) as page:
        sign_in(page, rig, "maintainer", "/-/profile/personal_access_tokens")
        name = f"laptop {'with' if scripts else 'without'} scripts"
        page.get_by_label("Name").fill(name)
        page.get_by_label("write_registry").check()
        page.get_by_role("button", name="Create token").click()
        secret = remember(page.get_by_label("token", exact=True).input_value())
        assert rig.server.cli("access", "explain", "push", IMAGE, "--token", "-", standard_input=secret).returncode == 0
        page.goto(rig.address("/-/profile/personal_access_tokens"))
        assert secret not in page.content()
        page.get_by_role("link", name=f"Revoke {name}").click()
        page.get_by_role("button", name="Revoke token").click()
        expect(page.get_by_text("The token is revoked")).to_be_visible()
        assert rig.server.cli("access", "explain", "push", IMAGE, "--token", "-", standard_input=secret).returncode == 1


def test_the_search_has_a_key_of_its_own(rig: Rig, browser: Chromium) -> None:
    with browser.visit() as page:
        sign_in(page, rig, "reporter")
        page.keyboard.press("/")
        page.keyboard.type("team/app")
        page.keyboard.press("Enter")
        expect(page.get_by_role("link", name=PROJECT, exact=True)).to_be_visible()
        expect(page.get_by_role("link", name=IMAGE, exact=True)).to_be_visible()
        expect(page.get_by_role("link", name=EMPTY, exact=True)).to_be_hidden()
        page.goto(rig.address("/-/profile/personal_access_tokens"))
        page.get_by_label("Name").press("/")
        expect(page.get_by_label("Name")).to_have_value("/")


def test_signing_out_leaves_nothing_behind_the_back_button(rig: Rig, browser: Chromium) -> None:
    with browser.visit() as page:
        sign_in(page, rig, "reporter")
        rig.repository(page)
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        page.go_back()
        expect(page.get_by_label("User name or e-mail")).to_be_visible()

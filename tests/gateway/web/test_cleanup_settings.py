"""Packages & Registries settings: the cleanup policy of a project, and its preview."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from gateway.namespaces.cleanup_policy import Cadence, CleanupPolicy

from .browsing import Site, elements, open_site, path_of, text_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAGE = "/team/app/-/settings/packages_and_registries"
POLICY = {
    "enabled": "yes",
    "cadence": "7d",
    "keep_n": "1",
    "older_than": "",
    "name_regex_delete": "v.*",
    "name_regex_keep": "v2",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with open_site(tmp_path_factory.mktemp("site") / "data") as site:
        await site.rest.surface.push_image("team/app/web", "v1", "v2", "v3", "v4", "latest", "other")
        yield site


async def stored(site: Site) -> CleanupPolicy | None:
    place = await site.rest.services.directory.find_project_place("team/app")
    assert place is not None
    found = await site.rest.services.native.policies.find(place.project.id)
    return None if found is None else found.policy


async def test_a_preview_says_what_would_go_and_why_the_rest_stays_and_changes_nothing(site: Site) -> None:
    before = await stored(site)
    page = await (await site.browser("maintainer")).post(PAGE, list({**POLICY, "preview": "yes"}.items()), status=200)
    text = text_of(page)
    assert "2 tags would be removed, 4 tags would stay" in text
    for reason in ("it is named latest", "does not match those to remove", "matches those to keep", "most recent"):
        assert reason in text
    assert await stored(site) == before
    typed = {e.attributes.get("name"): e.attributes.get("value") for e in elements(page) if e.tag == "input"}
    assert typed["name_regex_keep"] == "v2"


async def test_a_policy_is_saved(site: Site) -> None:
    browser = await site.browser("maintainer")
    answer = await browser.post(PAGE, list(POLICY.items()))
    assert path_of(answer) == f"{PAGE}?saved=yes"
    assert await stored(site) == CleanupPolicy(True, Cadence.WEEK, 1, None, "v.*", "v2")
    assert "Next cleanup runs in 6 days" in text_of(await browser.get(PAGE))
    assert "Cleanup runs in" in text_of(await browser.get("/team/app/container_registry"))
    off = {name: value for name, value in POLICY.items() if name != "enabled"}
    await browser.post(PAGE, list(off.items()), status=303)
    assert "Cleanup is not scheduled" in text_of(await browser.get(PAGE))


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("name_regex_delete", "(", "Remove tags matching"),
        ("name_regex_keep", "*", "Keep tags matching"),
        ("name_regex_keep", "a" * 300, "Keep tags matching"),
        ("keep_n", "7", "Keep the most recent"),
        ("keep_n", "x", "Keep the most recent"),
        ("older_than", "8d", "Remove tags older than"),
        ("cadence", "hourly", "Run cleanup"),
    ],
)
@pytest.mark.parametrize("preview", [False, True])
async def test_a_wrong_policy_is_refused_with_its_reason(
    site: Site, field: str, value: str, said: str, preview: bool
) -> None:
    before = await stored(site)
    fields = {**POLICY, field: value} | ({"preview": "yes"} if preview else {})
    answer = await (await site.browser("maintainer")).post(PAGE, list(fields.items()))
    assert answer.status == 422 and f"{said}:" in text_of(answer)
    assert await stored(site) == before


@pytest.mark.parametrize(("who", "status"), [("developer", 403), ("stranger", 404)])
async def test_policies_are_for_maintainers(site: Site, who: str, status: int) -> None:
    browser = await site.browser(who)
    await browser.get(PAGE, status)
    assert (await browser.post(PAGE, list(POLICY.items()))).status == status

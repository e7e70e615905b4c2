"""Comparison of two images: the layers that they share, and what of the config has changed."""

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.gateway.v2.pushing import OCI_MANIFEST, image
from tests.parts.images import digest_of

from .browsing import Browser, Site, links_in, open_site, text_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

NAME = "team/app/web"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with open_site(tmp_path_factory.mktemp("site") / "data") as site:
        for tag, layers, config in (
            ("old", ("base", "old app"), {"User": "app", "Env": ["PATH=/bin", "MODE=test"], "Labels": {"rev": "1"}}),
            ("new", ("base", "new app"), {"User": "app", "Env": ["PATH=/bin", "DEBUG=1"], "Labels": {"rev": "2"}}),
        ):
            await push(site, tag, layers, config)
        yield site


async def push(site: Site, tag: str, layers: tuple[str, ...], config: dict[str, object]) -> str:
    surface = site.rest.surface
    document = json.dumps({"os": "linux", "architecture": "amd64", "config": config}).encode()
    digests = [await surface.push_blob(NAME, layer.encode()) for layer in layers]
    raw = image(await surface.push_blob(NAME, document), *digests)
    assert (await surface.put_manifest(NAME, tag, raw)).status == 201
    return digest_of(raw)


async def compared(site: Site, browser: Browser, first: str, second: str, status: int = 200) -> str:
    address = await site.address_of(NAME)
    return text_of(await browser.get(f"{address}/compare?from={first}&to={second}", status))


async def test_shared_layers_and_changes_of_the_config_are_told(site: Site) -> None:
    browser = await site.browser("reporter")
    said = await compared(site, browser, "old", "new")
    assert "They share 1 layer, 10 B. Whoever has the first image downloads 10 B for the second one." in said
    assert said.count("only the first") == said.count("only the second") == 1
    assert "Label rev12" in said and "Variable MODEtestnot stated" in said and "Variable DEBUGnot stated1" in said
    assert "Variable PATH" not in said and "Userapp" not in said


async def test_the_same_image_is_told_so_also_by_its_digest(site: Site) -> None:
    browser = await site.browser("reporter")
    same = await push(site, "same", ("base", "old app"), {"User": "app"})
    assert "Both are the same image, byte for byte." in await compared(site, browser, "same", same)


async def test_of_two_indexes_the_images_for_one_platform_are_compared(site: Site) -> None:
    surface, browser = site.rest.surface, await site.browser("reporter")
    platforms = {name: {"os": "linux", "architecture": name} for name in ("amd64", "arm64")}
    images = {name: await push(site, f"of-{name}", ("base", name), {"User": name}) for name in platforms}
    for tag, order in (("first", ("amd64", "arm64")), ("second", ("arm64", "amd64"))):
        children = [
            {"mediaType": OCI_MANIFEST, "digest": images[name], "size": 1, "platform": platforms[name]}
            for name in order
        ]
        media_type = "application/vnd.oci.image.index.v1+json"
        raw = json.dumps({"schemaVersion": 2, "mediaType": media_type, "manifests": children}).encode()
        made = await surface.put_manifest(NAME, tag, raw, headers=[("Content-Type", media_type)])
        assert made.status == 201, made.body
    said = await compared(site, browser, "first", "second")
    assert "Both are the same image for linux/amd64, byte for byte." in said


async def test_what_is_not_there_is_told_and_what_was_typed_stays(site: Site) -> None:
    browser = await site.browser("reporter")
    for first, second, words in (
        ("old", "absent", "This repository has no absent"),
        ("old", f"sha256:{'0' * 64}", "or not all of it any more"),
        ("a b", "old", "Name two tags, or two digests"),
        ("old", "", "Name two tags, or two digests"),
    ):
        assert words in await compared(site, browser, first.replace(" ", "%20"), second, 422)
    assert "Compare two images" in text_of(await browser.get(f"{await site.address_of(NAME)}/compare"))


async def test_the_page_of_a_tag_leads_to_the_comparison_with_what_it_was(site: Site) -> None:
    browser, address = await site.browser("reporter"), await site.address_of(NAME)
    before = await push(site, "moving", ("base", "one"), {"User": "one"})
    after = await push(site, "moving", ("base", "two"), {"User": "two"})
    [link] = [link for link in links_in(await browser.get(f"{address}/tags/moving")) if "/compare?" in link]
    assert link == f"{address}/compare?from={before}&to={after}"
    assert "Userone" in text_of(await browser.get(link)).replace(" ", "")
    await (await site.browser("stranger")).get(link, 404)

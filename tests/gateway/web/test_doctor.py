"""Admin > Doctor: an examination runs beside the server, once at a time, and its result is kept."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from cache.runtime.tasks import Tasks
from gateway.observability.diagnosis import COMMAND, Diagnoses
from gateway.v2.opener import RegistryOptions
from gateway.wiring.app import create_app
from tests.gateway.v2.pushing import ROOTS

from .browsing import Browser, Site, elements, open_site, path_of, text_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAGE = "/admin/doctor"
FOUND = [
    {"name": "settings", "ok": True, "detail": "valid", "remedy": ""},
    {"name": "clock", "ok": True, "detail": "some seconds off", "remedy": "set it"},
    {"name": "docker.io", "ok": False, "detail": "it does not respond", "remedy": "let this machine reach it"},
    {"name": "pull as docker", "ok": None, "detail": "nothing is cached", "remedy": ""},
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    async with open_site(tmp_path_factory.mktemp("site") / "data") as site:
        yield site


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder with nothing in it."""
    made = tmp_path / "data"
    made.mkdir()
    return made


def command(script: str) -> tuple[str, ...]:
    return (sys.executable, "-c", script)


async def browser_over(site: Site, data: Path, tasks: Tasks, *words: str) -> Browser:
    """An administrator's browser at pages whose examinations run a command."""
    services = replace(site.rest.services, diagnoses=Diagnoses(data, tasks, site.rest.services.clock, words))
    cookies = (await site.browser("root")).cookies
    return Browser(create_app(services, ROOTS, RegistryOptions(open_proxy=True)), cookies)


async def ended(tasks: Tasks) -> None:
    while tasks._running:
        await asyncio.wait(list(tasks._running))


async def test_what_an_examination_finds_is_shown_and_kept(site: Site, folder: Path) -> None:
    tasks = Tasks()
    script = f"import os; assert os.environ['GATEWAY_DATA'] == {str(folder)!r}; print({json.dumps(FOUND)!r})"
    browser = await browser_over(site, folder, tasks, *command(script))
    assert "Nobody has examined this server yet" in text_of(await browser.get(PAGE))
    assert path_of(await browser.post(PAGE)) == PAGE
    await ended(tasks)
    said = text_of(await browser.get(PAGE))
    assert "1 check of 4 failed." in said
    assert said.index("it does not respond") < said.index("Good") < said.index("Warning")
    assert "Not run" in said and "let this machine reach it" in said
    again = await browser_over(site, folder, tasks, *command("print('[]')"))
    assert "1 check of 4 failed." in text_of(await again.get(PAGE)), "another process shows it"


async def test_one_runs_at_a_time_and_is_shown_as_such_until_it_is_interrupted(site: Site, folder: Path) -> None:
    tasks, other, mark = Tasks(), Tasks(), folder / "mark"
    script = f"import time; open({str(mark)!r}, 'a').write('x'); time.sleep(600)"
    browser = await browser_over(site, folder, tasks, *command(script))
    await browser.post(PAGE)
    page = await browser.get(PAGE)
    assert "An examination is under way" in text_of(page)
    assert any(e.attributes.get("data-reload") for e in elements(page))
    assert not [e for e in elements(page) if e.tag == "button" and "Examine" in "".join(e.text)]
    second = await browser_over(site, folder, other, *command(script))
    await second.post(PAGE)
    assert len(other) == 0 and len(tasks) == 1
    await tasks.close()
    assert "was interrupted" in text_of(await browser.get(PAGE))


@pytest.mark.parametrize("script", ["print('no document')", "raise SystemExit(2)", "print('[{}]')", "print('7')"])
async def test_an_examination_without_a_result_says_so(site: Site, folder: Path, script: str) -> None:
    tasks = Tasks()
    browser = await browser_over(site, folder, tasks, *command(script))
    await browser.post(PAGE)
    await ended(tasks)
    assert "The last examination found nothing. It ended without a result" in text_of(await browser.get(PAGE))


async def test_a_damaged_result_is_none(site: Site, tmp_path: Path) -> None:
    browser = await browser_over(site, tmp_path, Tasks(), "none")
    for content in ("", "[]", "{}", '{"began_at": 1}', "null"):
        (tmp_path / "diagnosis.json").write_text(content)
        assert "Nobody has examined this server yet" in text_of(await browser.get(PAGE))


async def test_the_real_command_examines_a_data_folder(site: Site) -> None:
    data, tasks = site.rest.services.folder.data, Tasks()
    browser = await browser_over(site, data, tasks, *COMMAND)
    await browser.post(PAGE)
    await ended(tasks)
    said = text_of(await browser.get(PAGE))
    assert "data folder" in said and "file descriptors" in said

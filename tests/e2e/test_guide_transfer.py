"""The user guide's procedure for the transfer of a project with images, as written and without what is not needed."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.parts.gateway import Gateway
from tests.parts.private_machine import REGISTRY

from .guide import Guide, open_guide

pytestmark = pytest.mark.long

GROUPS = ("org", "org/build", "new_org", "new_org/build")
OLD, NEW, THIRD = "org/build/{}", "new_org/build/new_{}", "new_org/build/copy_of_{}"
TAG = "v2.9.1"


@pytest.fixture(scope="module")
def guide(workplace: Path, processes: None) -> Iterator[Guide]:
    with open_guide(workplace / "transfer") as guide:
        for path in GROUPS:
            command(guide.server, "group", "create", path)
        for path in ("org", "new_org"):
            command(guide.server, "member", "add", path, "alice", "maintainer")
        yield guide


@pytest.fixture(scope="module")
def server(guide: Guide) -> Gateway:
    """Provides the server under its own name, for the check of its log."""
    return guide.server


def command(server: Gateway, *words: str) -> None:
    done = server.cli(*words)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("deletes", [True, False], ids=["as written", "without the deletion"])
def test_a_project_is_transferred_by_the_steps_of_the_guide(guide: Guide, server: Gateway, deletes: bool) -> None:
    name = "sample_project" if deletes else "kept_project"
    old, new = (f"{place.format(name)}/cr" for place in (OLD, NEW))
    command(server, "project", "create", OLD.format(name))
    guide.login()
    guide.publish(name, f"{REGISTRY}/{old}:{TAG}")
    digest = guide.digest(old, TAG)
    guide.service.forget_images()
    docker = guide.service.run
    docker("pull", f"{REGISTRY}/{old}:{TAG}")
    docker("tag", f"{REGISTRY}/{old}:{TAG}", f"{REGISTRY}/{new}:{TAG}")
    if deletes:
        assert guide.request("DELETE", f"{old}/tags/reference/{TAG}").status == 202
        assert guide.digest(old, TAG) == ""
    command(server, "project", "move", OLD.format(name), NEW.format(name))
    if not deletes:
        assert guide.digest(new, TAG) == guide.digest(old, TAG) == digest
    pushed = docker("push", f"{REGISTRY}/{new}:{TAG}").stdout
    assert f"{TAG}: digest: {digest} " in pushed
    assert not re.search(r"(?m)^\w+: Pushed$", pushed), "nothing is uploaded"
    assert guide.digest(new, TAG) == guide.digest(old, TAG) == digest
    refused = docker("push", f"{REGISTRY}/{old}:{TAG}", check=False)
    assert refused.returncode != 0 and f"use {new}," in refused.stderr + refused.stdout
    guide.service.forget_images()
    for place in (old, new):
        assert guide.run_image(f"{REGISTRY}/{place}:{TAG}") == "runs"


def test_docker_mounts_from_the_old_name_of_what_has_moved(guide: Guide, server: Gateway) -> None:
    old, third = f"{OLD.format('mounted')}/cr", f"{THIRD.format('mounted')}/cr"
    command(server, "project", "create", OLD.format("mounted"))
    command(server, "project", "create", THIRD.format("mounted"))
    guide.login()
    guide.publish("mounted", f"{REGISTRY}/{old}:{TAG}")
    command(server, "project", "move", OLD.format("mounted"), NEW.format("mounted"))
    guide.service.run("tag", f"{REGISTRY}/{old}:{TAG}", f"{REGISTRY}/{third}:{TAG}")
    pushed = guide.service.run("push", f"{REGISTRY}/{third}:{TAG}").stdout
    assert f"Mounted from {old}" in pushed
    assert guide.digest(third, TAG) == guide.digest(old, TAG) != ""

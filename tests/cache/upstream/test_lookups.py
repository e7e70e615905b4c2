"""Lookups of names that this process could not make, which show nothing of the host."""

import threading
from socket import gaierror

import pytest

from cache.upstream import resolver
from cache.upstream.egress import Egress
from cache.upstream.errors import Unavailable
from cache.upstream.reach import Reach
from cache.values import Origin

ORIGIN = Origin("https", "registry.example", 443)
IMAGES = ["one", "two", "three", "four", "five"]


def no_name(host: str, port: int) -> list[str]:
    raise gaierror(-2, "Name or service not known")


@pytest.mark.parametrize("shortage", ["threads", "descriptors", "lookups"])
async def test_a_name_that_was_not_looked_up_for_want_of_something_here_shows_nothing_of_its_host(
    shortage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    egress = Egress(Reach(private_addresses=True), no_name)
    start = threading.Thread.start

    def start_no_lookup(thread: threading.Thread) -> None:
        if thread.name == "resolve":
            raise RuntimeError("can't start new thread")
        start(thread)

    if shortage == "threads":
        monkeypatch.setattr(threading.Thread, "start", start_no_lookup)
    elif shortage == "descriptors":
        monkeypatch.setattr(resolver, "no_descriptor_left", lambda: True)
    else:
        monkeypatch.setattr(resolver, "LIMIT", 0)
    for image in IMAGES:
        with pytest.raises(Unavailable, match="cannot be resolved now"):
            await egress.send("GET", f"{ORIGIN}/v2/", {}, image)
    assert not egress.circuits.is_open(ORIGIN)
    await egress.close()


async def test_a_name_that_does_not_exist_opens_the_circuit_of_its_host() -> None:
    egress = Egress(Reach(private_addresses=True), no_name)
    for image in IMAGES:
        with pytest.raises(Unavailable, match="cannot be resolved"):
            await egress.send("GET", f"{ORIGIN}/v2/", {}, image)
    assert egress.circuits.is_open(ORIGIN)
    await egress.close()

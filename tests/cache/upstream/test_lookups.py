"""Lookups of names that this process could not make, which show nothing of the host."""

import asyncio
import threading
from collections.abc import Iterator
from socket import gaierror

import pytest

from cache.runtime.fair_queue import NOBODY, Requester
from cache.runtime.on_behalf import on_behalf_of
from cache.upstream import resolver
from cache.upstream.egress import Egress
from cache.upstream.errors import Unavailable
from cache.upstream.reach import Reach
from cache.values import Origin

ORIGIN = Origin("https", "registry.example", 443)
ONE_CLIENT = resolver.OTHERS_LIMIT * 3 // 4
"""Lookups that one client gets if it is alone."""
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
        monkeypatch.setattr(resolver, "OWNER_LIMIT", 0)
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


class HangingNames:
    """A resolver to which names of `hang.example` hang until `over`; no other name has an address."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.over = threading.Event()

    def __call__(self, host: str, port: int) -> list[str]:
        if host.endswith("hang.example"):
            self.begun.release()
            self.over.wait(60)
        return []


@pytest.fixture
def names() -> Iterator[HangingNames]:
    names = HangingNames()
    yield names
    names.over.set()


async def hang(egress: Egress, names: HangingNames, images: list[str], begun: int) -> list[asyncio.Task[object]]:
    """Send a request for each image to a name of its own that hangs; return once so many lookups have begun."""
    urls = [f"http://{number}.hang.example/" for number in range(len(images))]
    sent = [
        asyncio.ensure_future(egress.send("GET", url, {}, image, redirected=True))
        for url, image in zip(urls, images, strict=True)
    ]
    for _ in range(begun):
        assert await asyncio.to_thread(names.begun.acquire, timeout=30)
    return sent


@pytest.mark.parametrize("blocking", [False, True])
async def test_names_that_hang_take_no_lookup_of_a_host_that_the_settings_name(
    names: HangingNames, blocking: bool
) -> None:
    hosts = frozenset({ORIGIN.host, "*.cdn.example"})
    egress = Egress(Reach(hosts, private_addresses=True), names)
    images = [f"owner{number}/evil" for number in range(resolver.OTHERS_LIMIT)]
    sent = await hang(egress, names, images, ONE_CLIENT)
    for url in (f"{ORIGIN}/v2/", "https://a.cdn.example/"):
        with pytest.raises(Unavailable, match="has no address"):
            await (asyncio.to_thread(egress.send_blocking, "GET", url, {}) if blocking else egress.send("GET", url, {}))
    with pytest.raises(Unavailable, match="cannot be resolved now"):
        await egress.send("GET", "https://other.example/", {}, "other/app", redirected=True)
    names.over.set()
    await asyncio.gather(*sent, return_exceptions=True)
    await egress.close()


@pytest.mark.parametrize("blocking", [False, True])
async def test_names_that_hang_for_one_owner_take_a_small_share_of_the_lookups(
    names: HangingNames, blocking: bool
) -> None:
    egress = Egress(Reach(frozenset({ORIGIN.host}), private_addresses=True), names)
    sent = await hang(egress, names, [f"owner/evil{number}" for number in range(40)], resolver.OWNER_LIMIT)
    send = egress.send_blocking if blocking else None
    for image, reason in (("owner/more", "cannot be resolved now"), ("other/app", "has no address")):
        with pytest.raises(Unavailable, match=reason):
            if send:
                await asyncio.to_thread(send, "GET", "https://other.example/", {}, image, redirected=True)
            else:
                await egress.send("GET", "https://other.example/", {}, image, redirected=True)
    assert not names.begun.acquire(blocking=False)
    names.over.set()
    await asyncio.gather(*sent, return_exceptions=True)
    await egress.close()


@pytest.mark.parametrize("blocking", [False, True])
async def test_names_that_hang_for_one_client_leave_lookups_to_others(names: HangingNames, blocking: bool) -> None:
    """Each image is of another owner."""
    egress = Egress(Reach(frozenset({ORIGIN.host}), private_addresses=True), names)
    images = [f"owner{number}/evil" for number in range(2 * resolver.OTHERS_LIMIT)]
    with on_behalf_of(Requester("192.0.2.1")):
        sent = await hang(egress, names, images, ONE_CLIENT)
    for who in (Requester("192.0.2.2"), Requester(7), NOBODY):
        with on_behalf_of(who), pytest.raises(Unavailable, match="has no address"):
            url = "https://other.example/"
            if blocking:
                await asyncio.to_thread(egress.send_blocking, "GET", url, {}, "other/app", redirected=True)
            else:
                await egress.send("GET", url, {}, "other/app", redirected=True)
    names.over.set()
    await asyncio.gather(*sent, return_exceptions=True)
    await egress.close()

"""Storm of hostile clients and a lying upstream, at the same time: nothing wrong, foreign or left over.

`tests/run` uses SECONDS; STORM_SECONDS in the environment makes it longer.
"""

import os
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count
from pathlib import Path
from threading import Lock

import pytest

from tests.parts import raw
from tests.parts.canaries import CANARY
from tests.parts.gateway import Gateway
from tests.parts.images import digest_of, seeded
from tests.parts.liar import Liar
from tests.parts.lies import (
    Lie,
    chunked,
    encoded,
    flipped,
    foreign_realm,
    html,
    long,
    redirected,
    refused,
    reset,
    short,
    trickled,
    unfinished,
    until_close,
)
from tests.parts.processes import wait_until
from tests.security.test_slow_clients import HOSTILE, Attackers, steady, trouble

SECONDS = float(os.environ.get("STORM_SECONDS", "60"))
SIZE = 300_000
PULLERS = 6


def descriptors(pid: int) -> int:
    """Number of descriptors, except those of the databases, whose connection pool grows to its limit and stays
    there."""
    found = 0
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found += ".db" not in str(link.readlink())
    return found


class Count:
    """Responses that the pullers received."""

    def __init__(self) -> None:
        self._lock = Lock()
        self.right = self.failed = self.hits = 0
        self.wrong: list[str] = []

    def add(self, answer: raw.RawResponse, digest: str) -> None:
        with self._lock:
            if answer.status == 200 and answer.complete and answer.digest == digest:
                self.right += 1
            elif answer.status == 200 and answer.complete:
                self.wrong.append(f"{digest}: {answer.digest}")
            else:
                self.failed += 1


def lies(canary: Liar) -> list[Callable[[], Lie]]:
    return [
        *(lambda at=at: flipped(at) for at in (0, SIZE // 2, -1)),
        lambda: short(SIZE // 3),
        lambda: reset(SIZE // 2),
        lambda: long(b"x"),
        chunked,
        lambda: unfinished(SIZE // 2),
        lambda: until_close(SIZE // 2),
        encoded,
        html,
        lambda: refused(401),
        lambda: refused(429, retry_after=1),
        lambda: refused(503),
        lambda: trickled(20_000, 0.05),
        lambda: redirected(f"{canary.url}/elsewhere"),
        lambda: foreign_realm(f"{canary.url}/token"),
    ]


@pytest.mark.long
def test_a_storm_leaves_nothing_behind(gateway: Callable[..., Gateway], liar: Liar, scratch: Path) -> None:
    with Liar() as stranger:
        stored = seeded("cached before the storm", 3_000_000)
        held = liar.offer_blob(stored)
        (scratch / "password").write_text(CANARY)
        account = liar.settings(username="ada", password_file=str(scratch / "password"), groups=["hub"])
        server = gateway({"upstreams": {"docker.io": account}})
        # These images are separate: a 401 to the account takes its rights to an image away.
        held_url = server.proxied_url(f"library/held/blobs/{held}")
        assert raw.get(held_url).digest == held
        wait_until(lambda: raw.head(held_url).headers["x-cache"] == "HIT" and steady(server))
        before = descriptors(server.worker)
        seen, numbers, ends = Count(), count(), time.monotonic() + SECONDS

        def pull_lies(seed: int) -> None:
            chance = random.Random(seed)
            while time.monotonic() < ends:
                blob = seeded(f"storm-{next(numbers)}", SIZE)
                digest = liar.offer_blob(blob)
                liar.behave(digest, chance.choice(lies(stranger))().only(1))
                url = server.proxied_url(f"library/any/blobs/{digest}")
                with ThreadPoolExecutor(3) as crowd:
                    for answer in crowd.map(lambda _, url=url: raw.get(url), range(3)):
                        seen.add(answer, digest)

        def pull_held() -> Iterator[raw.RawResponse]:
            while time.monotonic() < ends:
                yield raw.get(held_url)

        with Attackers(server.port, held_url.removeprefix(server.url)) as attackers, ThreadPoolExecutor(32) as threads:
            pulling = [threads.submit(pull_lies, seed) for seed in range(PULLERS)]
            leaving = [threads.submit(attackers.leave_early, number) for number in range(HOSTILE)]
            answers = [(answer.status, answer.complete, answer.digest) for answer in pull_held()]
            for done in (*pulling, *leaving):
                done.result()
        assert set(answers) == {(200, True, held)}
        assert seen.wrong == []
        assert seen.right > 0
        assert seen.failed > 0
        for record in stranger.requests.select():
            assert record.header("authorization") is None
        wait_until(lambda: descriptors(server.worker) <= before, within=40)
        assert trouble(server) == []
        server.stop()
        assert [file.name for file in (server.data / "spool").iterdir()] == ["leases"]
        for path in (server.data / "cache").rglob("*"):
            if path.is_file():
                assert digest_of(path.read_bytes()) == f"sha256:{path.name}"

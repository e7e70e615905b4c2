"""Pairs of faults on one digest: the second hits what the first has left, while clients of several workers follow."""

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.e2e.datafolder import blob_file
from tests.parts.lies import Lie, flipped, long, reset, short, trickled, until_close, whole

from .clients import send_request
from .clock import date_in_the_future
from .ledger import Deed, Done, Kind, Ledger
from .library import MIB, Image
from .rig import Rig
from .workers import Filler, all_stopped, fillers

FOLLOWERS = 8
"""Clients of one download; all workers have some of them."""

STEPS, STEP_SECONDS = 40, 0.04
"""Pace of the upstream during a pair: a download takes long enough to be hit in its middle."""

FILLS_WITHIN = 4.0
FOLLOWED_FOR = 90.0
FULL_FOR = 2.0
LIES: tuple[Callable[[random.Random, int], Lie], ...] = (
    lambda chance, size: reset(chance.randrange(size)),
    lambda chance, size: short(chance.randrange(size)),
    lambda chance, size: until_close(chance.randrange(size)),
    lambda chance, size: long(b"!" * 5_000),
    lambda chance, size: whole(),
)


class Pairs:
    """Does pairs that chance draws, of all or of those in `names`. `kill` ends a worker; False if it had ended already.

    The ledger holds the parts of a pair as deeds of their own, and the pair by its name in the table of faults.
    `all_done`: each of them was done.
    """

    def __init__(
        self,
        rig: Rig,
        ledger: Ledger,
        chance: random.Random,
        kill: Callable[[int], bool],
        ending: threading.Event,
        names: Sequence[str] = (),
    ) -> None:
        self._rig, self._ledger, self._chance, self._kill_one, self._ending = rig, ledger, chance, kill, ending
        self._gateway, self._cdn = rig.gateway, rig.upstream.cdn
        possible = [name for name in PAIRS if rig.disk is not None or name != FULL_DISK]
        self._names, self._left = list(names or possible), list[str]()
        self.all_done = False

    def draw(self) -> None:
        """Do a pair to the layer of an image, both as chance chooses; each pair once before one comes again."""
        if not self._left:
            self._left = self._chance.sample(self._names, len(self._names))
        name = self._left.pop()
        image = self._chance.choice([image for image in self._rig.images if image.layer.size >= MIB])
        begun = time.monotonic()
        try:
            PAIRS[name](self, image)
        finally:
            self._cdn.honest()
        self._ledger.did(Done(Deed.PAIR, begun, time.monotonic(), image.layer.digest, name))
        self.all_done = self.all_done or not self._left

    # The pairs.

    def damage_and_kill(self, image: Image) -> None:
        """The file is cut, lengthened or deleted; the worker that fetches it anew is killed."""
        self._slow(image)
        self._damage(image)
        with self._followers(image):
            self._kill_filler(image)

    def foreign_file_and_kill(self, image: Image) -> None:
        """While the content is fetched, other bytes take its final name; then the filler is killed."""
        self._slow(image)
        self._lose(image)
        with self._followers(image):
            if self._filler(image):
                begun = time.monotonic()
                with contextlib.suppress(FileNotFoundError):
                    self._file(image).parent.mkdir(parents=True, exist_ok=True)
                    beside = self._file(image).with_name("foreign")
                    beside.write_bytes(image.layer.data[: self._chance.choice((0, 5_000, image.layer.size - 1))])
                    beside.rename(self._file(image))
                self._did(Deed.DAMAGE, begun, image.layer.digest)
                self._kill_filler(image)

    def damage_and_evict(self, image: Image) -> None:
        """The file is damaged, and the image is evicted while it is fetched anew."""
        self._slow(image)
        self._damage(image)
        with self._followers(image):
            self._filler(image)
            self._evict(image)

    def kill_and_damaged_spool(self, image: Image) -> None:
        """The filler is killed, and the bytes that it leaves are cut or changed before another worker resumes."""
        self._slow(image)
        self._lose(image)
        with self._followers(image):
            filler = self._filler(image)
            if filler is not None:
                begun = time.monotonic()
                with contextlib.suppress(ProcessLookupError):
                    os.kill(filler.pid, signal.SIGSTOP)
                    while not all_stopped(filler.pid):
                        time.sleep(0.005)
                with contextlib.suppress(FileNotFoundError):
                    (cut if self._chance.random() < 0.5 else flip)(filler.spool, self._chance)
                self._did(Deed.DAMAGE, begun, image.layer.digest)
                self._kill(filler, begun)

    def quarantine_and_damage(self, image: Image) -> None:
        """The file is damaged, and the upstream sends wrong bytes, which are quarantined, instead of the content."""
        self._lie(image, flipped(self._chance.choice((0, -1))).only(1))
        self._damage(image)
        with self._followers(image):
            self._filler(image)

    def lie_and_resume(self, image: Image) -> None:
        """The filler is killed in a download that others resume, and the upstream lies about the rest."""
        self._slow(image)
        self._lose(image)
        with self._followers(image):
            if self._filler(image):
                lie = self._chance.choice(LIES)(self._chance, image.layer.size)
                self._lie(image, lie.only(self._chance.choice((1, 2))))
                self._kill_filler(image)

    def clock_and_kill(self, image: Image) -> None:
        """A clock that was wrong for one pull has dated the rows in the future; the worker that starts next reads
        them."""
        begun = time.monotonic()
        date_in_the_future(self._gateway.data / "cache.db", image)
        self._did(Deed.CLOCK, begun, image.layer.digest)
        self._slow(image)
        self._damage(image)
        with self._followers(image):
            self._kill_filler(image)

    def full_disk_and_kill(self, image: Image) -> None:
        """The disk fills up while the content is fetched, and the filler is killed."""
        assert self._rig.disk is not None
        self._slow(image)
        self._lose(image)
        with self._followers(image):
            self._filler(image)
            begun = time.monotonic()
            ballast = self._rig.disk.fill()
            try:
                self._kill_filler(image)
                self._ending.wait(FULL_FOR)
            finally:
                ballast.unlink()
                self._did(Deed.FULL, begun)

    # Their parts.

    def _file(self, image: Image) -> Path:
        return blob_file(self._gateway, image.layer.digest)

    def _slow(self, image: Image) -> None:
        self._lie(image, trickled(max(1, image.layer.size // STEPS), STEP_SECONDS))

    def _lie(self, image: Image, lie: Lie) -> None:
        """Lie about the layer; the blob host's paths hold the digits of its digest."""
        self._cdn.behave(image.layer.digest.partition(":")[2], lie)

    def _damage(self, image: Image) -> None:
        begun = time.monotonic()
        with contextlib.suppress(FileNotFoundError):
            self._chance.choice((cut, cut, lengthen, delete))(self._file(image), self._chance)
        self._did(Deed.DAMAGE, begun, image.layer.digest)

    def _lose(self, image: Image) -> None:
        """Make the server fetch the content: mostly by a deletion of its file, for an eviction takes seconds."""
        if self._chance.random() < 0.25:
            self._evict(image)
        else:
            begun = time.monotonic()
            self._file(image).unlink(missing_ok=True)
            self._did(Deed.DAMAGE, begun, image.layer.digest)

    def _evict(self, image: Image) -> None:
        begun = time.monotonic()
        done = self._gateway.cli("cache", "evict", image.name)
        if done.returncode not in (0, 1):
            raise AssertionError(f"cache evict: {done.stderr}")
        for content in image.contents:
            self._did(Deed.EVICT, begun, content.digest)

    def _filler(self, image: Image) -> Filler | None:
        """Worker that fetches the content; None if none does within seconds, for the upstream may refuse."""
        deadline = time.monotonic() + FILLS_WITHIN
        while time.monotonic() < deadline and not self._ending.is_set():
            for filler in fillers(self._gateway):
                if filler.digest == image.layer.digest and filler.size:
                    return filler
            time.sleep(0.01)
        return None

    def _kill_filler(self, image: Image) -> None:
        filler = self._filler(image)
        if filler is not None:
            self._kill(filler, time.monotonic())

    def _kill(self, filler: Filler, begun: float) -> None:
        if self._kill_one(filler.pid):
            self._did(Deed.KILL, begun)

    @contextlib.contextmanager
    def _followers(self, image: Image) -> Iterator[None]:
        """Clients that pull the content at once, each once, and whose responses are judged like all others."""

        def pull() -> None:
            url = self._gateway.proxied_url(f"{image.name}/blobs/{image.layer.digest}")
            self._ledger.saw(send_request(Kind.BLOB, url, image.name, image.layer))

        threads = [threading.Thread(target=pull, daemon=True) for _ in range(FOLLOWERS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            deadline = time.monotonic() + FOLLOWED_FOR
            for thread in threads:
                thread.join(max(0.0, deadline - time.monotonic()))

    def _did(self, deed: Deed, begun: float, about: str = "") -> None:
        self._ledger.did(Done(deed, begun, time.monotonic(), about))


FULL_DISK = "full disk + kill"
PAIRS: dict[str, Callable[[Pairs, Image], None]] = {
    "damage + kill": Pairs.damage_and_kill,
    "foreign file + kill": Pairs.foreign_file_and_kill,
    "damage + evict": Pairs.damage_and_evict,
    "kill + damaged spool": Pairs.kill_and_damaged_spool,
    "quarantine + damage": Pairs.quarantine_and_damage,
    "lie + resume": Pairs.lie_and_resume,
    "clock + kill": Pairs.clock_and_kill,
    FULL_DISK: Pairs.full_disk_and_kill,
}
"""Pairs by their names in the table of faults and in the report."""


def cut(path: Path, chance: random.Random) -> None:
    size = path.stat().st_size
    os.truncate(path, chance.choice((0, min(5_000, size), chance.randrange(size + 1))))


def lengthen(path: Path, chance: random.Random) -> None:
    os.truncate(path, path.stat().st_size + chance.choice((1, 5_000)))


def delete(path: Path, chance: random.Random) -> None:
    path.unlink()


def flip(path: Path, chance: random.Random) -> None:
    """Invert one byte."""
    size = path.stat().st_size
    if size:
        with path.open("r+b") as file:
            file.seek(at := chance.randrange(size))
            [byte] = file.read(1)
            file.seek(at)
            file.write(bytes([byte ^ 0xFF]))

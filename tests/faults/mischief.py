"""Mischief that is done to the server while clients pull: kills, pauses, restarts, failpoints, faults of disk and
upstream."""

import contextlib
import random
import threading
import time
from collections.abc import Callable, Sequence

from tests.parts.gateway import Gateway

from .ledger import Deed, Done, Ledger
from .pairs import Pairs
from .rig import Rig
from .workers import Filler, end, fillers, pause, workers

FAILPOINTS = (
    "spool.sealed=exit@2",
    "spool.synced=exit@2",
    "spool.adopted=exit@2",
    "spool.write=error:EIO@3",
    "spool.write=error:ENOSPC@2",
    "spool.synced=sleep:0.3*4",
    "upload.received=exit@5",
    "upload.recorded=exit@5",
    "upload.verified=exit@3",
    "upload.synced=exit@3",
    "upload.adopted=exit@3",
    "upload.linked=exit@3",
    "upload.write=error:ENOSPC@9",
    "upload.write=error:EIO@9",
)
RECOVERY_WATCHED = 15.0


class Mischief:
    """Does one deed after another, chosen by the seed, from `start` to `stop`; at the end all is restored.

    `weights` lists the possible deeds and their frequency. `recoveries`: seconds from each kill of a filler until the
    same content grew again or was committed. `ends`: the exit statuses of graceful stops.
    """

    def __init__(
        self,
        rig: Rig,
        ledger: Ledger,
        seed: int,
        weights: dict[Deed, int],
        between: tuple[float, float],
        pairs: Sequence[str] = (),
    ) -> None:
        self._gateway, self._upstream, self._images, self._ledger = rig.gateway, rig.upstream, rig.images, ledger
        self._chance, self._weights, self._between = random.Random(seed), weights, between
        self._ending = threading.Event()
        self._whole = threading.Lock()  # Held by a deed that starts or stops the whole server.
        self._known: set[int] = set()
        self._killed: set[int] = set()
        self._armed_at: float | None = None
        self._armed = ""
        self._failure: BaseException | None = None
        self._threads = [threading.Thread(target=self._guarded, args=(work,)) for work in (self._act, self._watch)]
        self.pairs = Pairs(rig, ledger, self._chance, self.kill_one, self._ending, pairs)
        self.recoveries: list[float] = []
        self.ends: list[int | None] = []

    def start(self) -> None:
        self._known = set(workers(self._gateway))
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stops the mischief; raises any error of the rig itself."""
        self._ending.set()
        for thread in self._threads:
            thread.join()
        if self._failure is not None:
            raise self._failure
        if self._armed_at is not None:
            self._restart()
        self._upstream.heal()

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as failure:
            self._failure = failure
            self._ending.set()

    def _act(self) -> None:
        deeds, weights = list(self._weights), list(self._weights.values())
        acts = {
            Deed.KILL: self._kill,
            Deed.PAUSE: self._pause,
            Deed.RESTART: self._restart,
            Deed.CRASH: self._crash,
            Deed.FAILPOINT: self._arm,
            Deed.REFUSE: self._refuse,
            Deed.EVICT: self._evict,
            Deed.DAMAGE: self._damage,
            Deed.PAIR: self.pairs.draw,
        }
        while deeds and not self._ending.wait(self._chance.uniform(*self._between)):
            acts[self._chance.choices(deeds, weights)[0]]()

    def _watch(self) -> None:
        """Counts the workers that ended by a failpoint, and restarts a server of one process that has died."""
        while not self._ending.wait(0.1):
            with self._whole:
                begun = time.monotonic()
                if not self._gateway.process.running:
                    self._gateway.kill()
                    self._gateway.start()
                now = set(workers(self._gateway))
                for _ in self._known - now - self._killed:
                    self._did(Deed.FAILPOINT, begun - 0.2)
                self._known = now

    def _did(self, deed: Deed, begun: float, about: str = "") -> None:
        self._ledger.did(Done(deed, begun, time.monotonic(), about))

    def _kill(self) -> None:
        """Kills the worker that fills; if none does, any worker."""
        with self._whole:
            running = workers(self._gateway)
            filling = fillers(self._gateway)
            if not running:
                return
            victim = filling[0].pid if filling else self._chance.choice(running)
        begun = time.monotonic()
        if self.kill_one(victim):
            if filling:
                self._await_recovery(filling[0], begun)
            self._did(Deed.KILL, begun)

    def kill_one(self, victim: int) -> bool:
        """Kills a process, and starts a server anew whose only process it was; False if it had ended already."""
        with self._whole:
            self._killed.add(victim)
            killed = end(victim)
            if killed and victim == self._gateway.process.pid:
                self._gateway.kill()
                self._gateway.start()
            return killed

    def _await_recovery(self, filler: Filler, begun: float) -> None:
        while time.monotonic() < begun + RECOVERY_WATCHED and not self._ending.is_set():
            if went_on(self._gateway, filler):
                self.recoveries.append(time.monotonic() - begun)
                return
            self._ending.wait(0.01)

    def _pause(self) -> None:
        running, begun = workers(self._gateway), time.monotonic()
        if running:
            pause(self._chance.choice(running), self._chance.uniform(0.5, 3), self._ending)
            self._did(Deed.PAUSE, begun)

    def _restart(self) -> None:
        """Restarts the server gracefully, as an administrator does."""
        with self._whole:
            begun = time.monotonic()
            self._gateway.arm("")
            self.ends.append(self._gateway.stop())
            self._gateway.start()
            self._known = set(workers(self._gateway))
        self._disarmed()
        self._did(Deed.RESTART, begun)

    def _crash(self, armed: str = "") -> None:
        """Kills all processes at once."""
        with self._whole:
            begun = time.monotonic()
            self._gateway.arm(armed)
            self._gateway.kill()
            self._gateway.start()
            self._known = set(workers(self._gateway))
        self._disarmed()
        self._did(Deed.CRASH, begun)

    def _arm(self) -> None:
        armed = self._chance.choice(FAILPOINTS)
        self._crash(armed)
        self._armed, self._armed_at = armed, time.monotonic()

    def _disarmed(self) -> None:
        if self._armed_at is not None:
            self._did(Deed.FAILPOINT, self._armed_at, self._armed)
            self._armed_at = None

    def _refuse(self) -> None:
        proxy, begun = self._chance.choice((self._upstream.front, self._upstream.cdn)), time.monotonic()
        proxy.stop()
        self._ending.wait(self._chance.uniform(0.5, 3))
        proxy.start()
        self._did(Deed.REFUSE, begun)

    def _evict(self) -> None:
        """Evicts one image, or all of them, while clients read them."""
        everything, begun = self._chance.random() < 0.4, time.monotonic()
        images = self._images if everything else [self._chance.choice(self._images)]
        with self._whole:
            done = self._gateway.cli("cache", "evict", *(("--all", "--yes") if everything else (images[0].name,)))
        if done.returncode not in (0, 1):
            raise AssertionError(f"cache evict: {done.stderr}")
        for digest in {content.digest for image in images for content in image.contents}:
            self._did(Deed.EVICT, begun, digest)

    def _damage(self) -> None:
        """Cuts or deletes a cached file."""
        begun = time.monotonic()
        files = sorted(path for path in (self._gateway.data / "cache").rglob("*") if path.is_file())
        if not files:
            return
        victim = self._chance.choice(files)
        with contextlib.suppress(FileNotFoundError):
            size = victim.stat().st_size
            if size > 1 and self._chance.random() < 0.5:
                with victim.open("r+b") as file:
                    file.truncate(self._chance.randrange(size))
            else:
                victim.unlink()
        self._did(Deed.DAMAGE, begun, f"sha256:{victim.name}")


def went_on(gateway: Gateway, filler: Filler) -> bool:
    """Whether a content that was being filled has grown since, or was committed."""
    digits = filler.digest.partition(":")[2]
    if (gateway.data / "cache" / "sha256" / digits[:2] / digits).exists():
        return True
    return any(
        found.digest == filler.digest and found.pid != filler.pid and found.size > filler.size
        for found in fillers(gateway)
    )

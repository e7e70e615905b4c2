"""Pilot: the work of a flight's thread. It fills a spool, or follows the one that another worker of the host fills."""

import os
import time
from collections.abc import Callable
from contextlib import closing

import structlog

from cache.download.errors import Arrived, understood, unstorable
from cache.download.fill import Fetch, Lanes
from cache.download.leased_spool import Claim, Landing, spool_name
from cache.download.progress import Progress, State
from cache.download.resuming_fill import ResumingFill
from cache.download.spool_watch import Sight, Watch
from cache.lease.base import Lease, held
from cache.store.sidecar import Note, Stage, boot
from cache.store.spool import DigestMismatch, LengthMismatch, Spool
from cache.upstream.errors import Corrupt, Unavailable, UpstreamError
from cache.values import Fault

log = structlog.get_logger()

LOOK_AFTER = (0.004, 0.03)
"""Seconds between two looks at another worker's fill: while it grows, and at most."""

TAKE_AFTER = 0.2
"""Seconds between two tries to take the lease of another worker, which may have died."""

SILENCE = 180.0
"""Seconds without any news of another worker's fill; its own patience with the upstream is shorter."""


class Pilot:
    """`fly` is the body of the thread; `anew` makes it fetch even what is here. The lease is given back when `fly` has
    returned and `land` was called."""

    def __init__(self, progress: Progress, fetch: Fetch, place: Landing, lanes: Lanes, *, anew: bool) -> None:
        self._progress = progress
        self._fetch, self._place, self._lanes = fetch, place, lanes
        self._anew = anew
        self._filling: ResumingFill | None = None
        self._claim: Claim | None = None
        self.aborted = False
        self._flown = self._landed = False

    def abort(self) -> None:
        """From the loop: it ends soon, and writes nothing more."""
        self.aborted = True
        filling, claim = self._filling, self._claim
        if filling is not None:
            filling.abort()
        if claim is not None and not self._progress.verified:
            claim.leave(idle=self._progress.state is State.WAITING)

    @property
    def attended(self) -> bool:
        """Whether another worker follows what this one fills."""
        return self._claim is not None and self._claim.attended

    def land(self, *, flown: bool) -> None:
        """All is recorded. `flown`: no thread was ever begun, or it has ended."""
        self._landed = True
        self._flown = self._flown or flown
        self._give_back()

    def _give_back(self) -> None:
        if self._landed and self._flown and self._claim is not None:
            self._claim.release()

    def fly(self, landed: Callable[[], None]) -> None:
        """`landed` is called in the loop when the outcome is known and the spool is closed."""
        try:
            self._fly()
        except UpstreamError as error:
            self._progress.tell(State.FAILED, error)
        except OSError as error:
            self._progress.tell(State.FAILED, unstorable(error))
        except Exception as error:  # a thread's last resort: whoever waits must hear of it
            log.exception("fill_failed", digest=str(self._progress.digest), source=str(self._progress.source))
            self._progress.tell(State.FAILED, Unavailable(f"the fill failed ({type(error).__name__})"))
        finally:
            self._flown = True
            self._progress.call(landed)
            self._give_back()

    def _fly(self) -> None:
        place = self._place
        name = spool_name(self._progress.source, self._progress.digest)
        leases = place.leases
        lease = leases.take(name)
        if lease is None:
            with held(leases.register_waiter(name)), closing(Watch(place.spools, name)) as watch:
                lease = self._follow_another(watch, lambda: leases.take(name))
        if lease is None:
            return
        claim = self._claim = Claim(place.spools, name, leases, lease)
        if self.aborted:
            raise Unavailable("every client has left")
        if place.store.stat(self._progress.digest) is not None and self._is_here():
            return
        self._fill(claim)

    def _is_here(self) -> bool:
        """Somebody else has brought it before this one's turn came. What that means for a right, the index tells."""
        if self._progress.state is State.WAITING:
            if self._anew:
                return False
            raise Arrived("the blob has arrived in the meantime")
        stored = self._place.store.open(self._progress.digest)
        if stored is None:
            return False
        with closing(stored):
            inode = os.fstat(stored.fileno()).st_ino
            self._progress.use(stored.fileno(), inode, stored.size).written = stored.size or 0
        self._progress.tell(State.VERIFIED)
        self._progress.tell(State.COMMITTED)
        return True

    # In another worker.

    def _follow_another(self, watch: Watch, take: Callable[[], Lease | None]) -> Lease | None:
        """Until that fill is at rest, then None; or until it has ended in another way, then the lease."""
        pause, seen, heard, tried = LOOK_AFTER[0], None, time.monotonic(), 0.0
        while not self.aborted:
            sight, now = watch.look(), time.monotonic()
            gone = sight is not None and sight.gone and not sight.marked
            if sight is not None:
                self._see(sight)
            if self._progress.verified and self._place.store.stat(self._progress.digest) is not None:
                self._progress.tell(State.COMMITTED)
                return None
            if self._progress.verified and sight is not None and sight.gone:
                return None  # it could not be stored
            if gone or now - tried > TAKE_AFTER:
                tried = now
                if (lease := take()) is not None:
                    # It may have ended well between the look and now.
                    if (sight := watch.look()) is not None:
                        self._see(sight)
                    return lease
            if gone:
                watch.close()
            news = None if sight is None else (sight.inode, sight.count, sight.note)
            if news != seen:
                pause, seen, heard = LOOK_AFTER[0], news, now
            elif now - heard > SILENCE:
                raise Unavailable("another worker's download does not go on")
            time.sleep(pause)
            pause = min(pause * 1.5, LOOK_AFTER[1])
        raise Unavailable("every client has left")

    def _see(self, sight: Sight) -> None:
        """Raises how that fill has failed, where it concerns this one too."""
        note = sight.note
        if not sight.marked and note.stage is Stage.FAILED:
            raise understood(note.failure or {})
        known = self._progress.body is not None and self._progress.body.inode == sight.inode
        if not known and not sight.marked and (note.stage is not Stage.STREAMING or sight.gone):
            return
        body = self._progress.use(sight.descriptor, sight.inode, note.size)
        self._progress.proved = self._progress.proved or note.image == self._progress.image.text
        if self._progress.state is State.WAITING:
            self._progress.borrowed = True
            self._progress.tell(State.STREAMING)
        if sight.count > body.written:
            body.written = sight.count
            self._progress.signal()
        if sight.marked and not self._progress.verified:
            body.size = body.written
            self._progress.tell(State.VERIFIED)

    # In this one.

    def _fill(self, claim: Claim) -> None:
        fresh = Note(str(self._progress.source), self._progress.image.text, 0, boot())
        keep = anew = False
        try:
            while True:
                spool, note = claim.open(fresh, self._progress.digest, self._place.make_room, anew=anew)
                with spool:
                    if self._progress.verified and not spool.resumed:
                        return  # what was verified is gone, and nobody needs it here
                    try:
                        self._bring(spool, note, claim)
                        self._settle(spool)
                        return
                    except DigestMismatch as error:
                        if not spool.resumed or anew:
                            raise self._refuse(error, spool, claim) from error
                        log.warning("fill_begun_anew", digest=str(self._progress.digest), reason=str(error))
                        anew = True
                    except UpstreamError as error:
                        keep = self.aborted and spool.size > 0 and claim.attended
                        if not self.aborted:
                            claim.fail(error)
                        raise
                    except OSError as error:
                        claim.fail(unstorable(error))
                        raise
                    finally:
                        if keep or claim.left:
                            spool.keep()
        finally:
            claim.end(keep=keep)

    def _bring(self, spool: Spool, note: Note, claim: Claim) -> None:
        """All bytes into the spool, hashed; they may still be wrong."""
        body = self._progress.use(spool.fileno(), spool.inode, note.size)
        size = note.size if spool.resumed else None

        def started(size: int | None) -> None:
            claim.stream(self._progress.image.text, size)
            self._progress.proved = True
            body.size, body.written = size, spool.size
            self._progress.tell(State.STREAMING)

        def grew(written: int) -> None:
            body.written = written
            claim.count(written)
            self._progress.signal()

        if size is not None and size == spool.size:
            self._progress.proved = self._progress.proved or note.image == self._progress.image.text
            body.size = body.written = size
            if self._progress.state is State.WAITING:
                self._progress.tell(State.STREAMING)
            spool.seal(size)
            return
        filling = self._filling = ResumingFill(
            spool, size, self._progress.source.origin, self._fetch, self._lanes, started, grew
        )
        if self.aborted:
            filling.abort()
        filling.run()
        spool.seal(filling.size)

    def _settle(self, spool: Spool) -> None:
        assert self._progress.body is not None
        self._progress.body.written = self._progress.body.size = spool.size
        self._progress.tell(State.VERIFIED)
        spool.mark()
        spool.commit(self._place.store)
        self._progress.tell(State.COMMITTED)

    def _refuse(self, error: DigestMismatch, spool: Spool, claim: Claim) -> Corrupt:
        fault = Fault.LENGTH if isinstance(error, LengthMismatch) else Fault.DIGEST
        corrupt = Corrupt(f"{self._progress.source.origin.host}: {error}", fault)
        claim.fail(corrupt)
        if not claim.left:
            self._place.quarantine.take_file(spool.path, str(self._progress.digest))
        return corrupt

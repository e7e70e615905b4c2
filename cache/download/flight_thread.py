"""FlightThread: the thread of a flight. It fills a spool, or follows the one that another worker of the host fills."""

import os
import time
from collections.abc import Callable
from contextlib import closing, suppress

import structlog

from cache.download.errors import AlreadyStored, abandoned, corrupt, failure_from, unstorable
from cache.download.fill import FillResources
from cache.download.incoming import Fetch
from cache.download.leased_spool import DownloadStorage, LeasedSpool, spool_name
from cache.download.limits import DownloadLimits
from cache.download.progress import FlightState, Progress
from cache.download.spool_sink import SpoolSink
from cache.download.spool_watch import SpoolStatus, SpoolWatch
from cache.lease.base import Lease, held
from cache.store.base import LocalBlob
from cache.store.hashing import digest_of
from cache.store.sidecar import FillState, Note
from cache.store.spool import DigestMismatch, Spool
from cache.upstream.errors import Corrupt, Unavailable, UpstreamError
from cache.values import Damage

log = structlog.get_logger()


class FlightThread:
    """Work of one flight's thread, whose body is `run`. `even_if_stored`: fetch even what is stored.

    The lease is released once `run` has returned and `finish` was called.
    """

    def __init__(
        self,
        progress: Progress,
        fetch: Fetch,
        storage: DownloadStorage,
        shared: FillResources,
        *,
        limits: DownloadLimits,
        even_if_stored: bool,
    ) -> None:
        self._progress = progress
        self._fetch, self._storage, self._shared = fetch, storage, shared
        self._limits = limits
        self._refetch = even_if_stored
        self._sink: SpoolSink | None = None
        self._leased: LeasedSpool | None = None
        self.aborted = False
        self._ended = self._finished = False

    def abort(self) -> None:
        """End the thread soon; it writes nothing more. Called from the loop."""
        self.aborted = True
        sink, leased = self._sink, self._leased
        if sink is not None:
            sink.abort()
        if leased is not None and not self._progress.verified:
            leased.leave(idle=self._progress.state is FlightState.WAITING)

    @property
    def has_waiters(self) -> bool:
        """Whether another worker waits for the spool that this one fills."""
        return self._leased is not None and self._leased.has_waiters

    def finish(self, *, never_ran: bool) -> None:
        """Release the lease, now or when `run` returns: all is recorded. `never_ran`: the thread was never started."""
        self._finished = True
        self._ended = self._ended or never_ran
        self._release()

    def _release(self) -> None:
        if self._finished and self._ended and self._leased is not None:
            self._leased.release()

    def run(self, ended: Callable[[], None]) -> None:
        """Call `ended` in the loop when the outcome is known and the spool is closed."""
        try:
            self._run()
        except UpstreamError as error:
            self._progress.report(FlightState.FAILED, error)
        except OSError as error:
            self._progress.report(FlightState.FAILED, unstorable(error))
        except Exception as error:  # a thread's last resort: its waiters must learn of it
            log.exception("fill_failed", digest=str(self._progress.digest), source=str(self._progress.source))
            self._progress.report(FlightState.FAILED, Unavailable(f"the fill failed ({type(error).__name__})"))
        finally:
            self._ended = True
            self._progress.call(ended)
            self._release()

    def _run(self) -> None:
        storage = self._storage
        name = spool_name(self._progress.source, self._progress.digest)
        leases = storage.leases
        lease = leases.take(name)
        if lease is None:
            watch = SpoolWatch(storage.spools, name, storage.boot)
            with held(leases.register_waiter(name)), closing(watch):
                lease = self._follow_another(watch, lambda: leases.take(name))
        if lease is None:
            return
        leased = self._leased = LeasedSpool(storage, name, lease)
        if self.aborted:
            raise abandoned()
        if storage.store.stat(self._progress.digest) is not None and self._use_stored():
            return
        self._fill(leased)

    def _use_stored(self) -> bool:
        """Use what another worker stored before this one had its lease; False where it must be fetched all the same.

        A name proves nothing: the file is the marked spool that this flight follows, or it is hashed now, and set aside
        where it does not match. Raises AlreadyStored while no byte was promised to a reader: whether the image has a
        right to it, and whether it has its size, is then to be looked up in the index.
        """
        if self._progress.state is FlightState.WAITING:
            if self._refetch:
                return False
            raise AlreadyStored("the blob has been stored in the meantime")
        digest, store = self._progress.digest, self._storage.store
        stored = store.open(digest)
        if stored is None:
            return False
        with closing(stored):
            if not isinstance(stored, LocalBlob):
                return False
            descriptor = stored.fileno()
            if not (self._progress.is_followed(descriptor) or self._is_right(descriptor)):
                log.error("blob_damaged", digest=str(digest), damage=Damage.DIGEST.value)
                store.set_aside(digest, lambda: not self._has_name(os.fstat(descriptor)))
                return False
            self._progress.use(descriptor, os.fstat(descriptor).st_ino, stored.size).written = stored.size or 0
        self._progress.report(FlightState.VERIFIED)
        self._progress.report(FlightState.COMMITTED)
        return True

    def _is_right(self, descriptor: int) -> bool:
        """Whether the bytes of an open file have the digest. Raises Unavailable after `abort`."""
        found = digest_of(descriptor, self._progress.digest.algorithm, lambda: self.aborted)
        if found is None:
            raise abandoned()
        return found == self._progress.digest

    # Following another worker.

    def _follow_another(self, watch: SpoolWatch, take: Callable[[], Lease | None]) -> Lease | None:
        """Follow another worker's fill until it is committed, then None; or until it ends otherwise, then the lease."""
        limits = self._limits
        pause, seen, changed_at, tried_at = limits.poll_first, None, time.monotonic(), 0.0
        while not self.aborted:
            status, now = watch.look(), time.monotonic()
            gone = status is not None and status.gone and not status.marked
            if status is not None:
                self._apply(status)
            if self._progress.verified and self._is_committed():
                self._progress.report(FlightState.COMMITTED)
                return None
            if self._progress.verified and status is not None and status.gone:
                return None  # it could not be stored
            if gone or now - tried_at > limits.take_over_every:
                tried_at = now
                if (lease := take()) is not None:
                    try:
                        # It may have been verified, or have failed, between the look and now.
                        if (status := watch.look()) is not None:
                            self._apply(status)
                    except BaseException:
                        lease.release()
                        raise
                    return lease
            if gone:
                watch.close()
            current = None if status is None else (status.inode, status.count, status.note)
            if current != seen:
                pause, seen, changed_at = limits.poll_first, current, now
            elif now - changed_at > limits.silence:
                raise Unavailable("another worker's download has stalled")
            time.sleep(pause)
            pause = min(pause * 1.5, limits.poll_longest)
        raise abandoned()

    def _is_committed(self) -> bool:
        """Whether the verified spool that this flight follows has the blob's name."""
        return self._names(self._progress.is_followed)

    def _has_name(self, file: os.stat_result) -> bool:
        """Whether a file has the blob's name."""
        return self._names(lambda descriptor: os.path.samestat(os.fstat(descriptor), file))

    def _names(self, wanted: Callable[[int], bool]) -> bool:
        """Whether the file that has the blob's name is the wanted one."""
        with suppress(OSError):
            stored = self._storage.store.open(self._progress.digest)
            if stored is not None:
                with closing(stored):
                    return isinstance(stored, LocalBlob) and wanted(stored.fileno())
        return False

    def _apply(self, status: SpoolStatus) -> None:
        """Report the other worker's progress as this flight's. Raises its failure, where that concerns this flight."""
        note = status.note
        if not status.marked and note.state is FillState.FAILED:
            raise failure_from(note.failure or {})
        known = self._progress.file is not None and self._progress.file.inode == status.inode
        if not known and not status.marked and (note.state is not FillState.STREAMING or status.gone):
            return
        file = self._progress.use(status.descriptor, status.inode, note.size)
        self._progress.proved = self._progress.proved or note.image == self._progress.image.text
        if self._progress.state is FlightState.WAITING:
            self._progress.begun_elsewhere = True
            self._progress.report(FlightState.STREAMING)
        if status.count > file.written:
            file.written = status.count
            self._progress.signal()
        if status.marked and not self._progress.verified:
            file.size = file.written
            self._progress.report(FlightState.VERIFIED)

    # Filling.

    def _fill(self, leased: LeasedSpool) -> None:
        """Fetch, verify and commit; after a mismatch that resumed bytes may have caused, once more from the start."""
        progress, keep, from_start = self._progress, False, False
        source, image, algorithm = str(progress.source), progress.image.text, progress.digest.algorithm
        try:
            while True:
                spool, note = leased.open(source, image, algorithm, from_start=from_start)
                with spool:
                    if progress.verified and not spool.resumed:
                        return  # the verified file is gone, and no reader of this worker needs another one
                    try:
                        self._receive(spool, note, leased)
                        self._commit(spool, leased)
                        return
                    except DigestMismatch as error:
                        if not spool.resumed or from_start:
                            raise self._refuse(error, spool, leased) from error
                        log.warning("fill_begun_anew", digest=str(progress.digest), reason=str(error))
                        from_start = True
                    except UpstreamError as error:
                        keep = self.aborted and spool.size > 0 and leased.has_waiters
                        if not self.aborted:
                            leased.fail(error)
                        raise
                    except OSError as error:
                        leased.fail(unstorable(error))
                        raise
                    finally:
                        if keep or leased.released_early:
                            spool.keep()
        finally:
            leased.end(keep=keep)

    def _receive(self, spool: Spool, note: Note, leased: LeasedSpool) -> None:
        """Receive and seal all bytes. Raises DigestMismatch, UpstreamError or OSError."""
        progress = self._progress
        spool.can_keep = self._storage.can_keep
        file = progress.use(spool.fileno(), spool.inode, note.size)
        size = note.size if spool.resumed else None

        def started(size: int | None) -> None:
            leased.report_streaming(progress.image.text, size)
            progress.proved = True
            file.size, file.written = size, spool.size
            progress.report(FlightState.STREAMING)

        def grew(written: int) -> None:
            file.written = written
            leased.count(written)
            progress.signal()

        if size is not None and size == spool.size:
            progress.proved = progress.proved or note.image == progress.image.text
            file.size = file.written = size
            if progress.state is FlightState.WAITING:
                progress.report(FlightState.STREAMING)
            spool.seal(progress.digest, size)
            return
        sink = self._sink = SpoolSink(
            *(spool, size, progress.source.origin, self._fetch, self._shared, started, grew), limits=self._limits
        )
        if self.aborted:
            sink.abort()
        sink.run()
        spool.seal(progress.digest, sink.size)

    def _commit(self, spool: Spool, leased: LeasedSpool) -> None:
        assert self._progress.file is not None
        self._progress.file.written = self._progress.file.size = spool.size
        self._progress.report(FlightState.VERIFIED)
        leased.count(spool.size)  # the mark holds for a file of this size alone
        spool.mark()
        spool.commit(self._storage.store)
        self._progress.report(FlightState.COMMITTED)

    def _refuse(self, error: DigestMismatch, spool: Spool, leased: LeasedSpool) -> Corrupt:
        failure = corrupt(error, self._progress.source.origin.netloc)
        leased.fail(failure)
        if not leased.released_early:
            self._storage.quarantine.take_file(spool.path, str(self._progress.digest))
        return failure

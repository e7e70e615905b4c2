"""UploadFile: the file in which a blob grows while it is pushed, hashed as it grows.

Bytes are written in order and never rewritten, so at every moment the file holds a beginning of what was sent, however
its writer ended; its size is what has arrived. What survives:

kill -9 of the process  all that was written: the kernel holds it. The hash is continued from its saved state over the
                        bytes that were written since, which alone are read again.
end of the machine      what the disk has by then, which nobody knows. The saved state names the run of the machine that
                        it belongs to; in another run the whole file is hashed again, so the digest decides.
"""

import errno
import os
import threading
from pathlib import Path

from cache.oci.digest import Digest
from cache.runtime.disk import is_disk_full
from cache.runtime.failpoints import failpoint
from cache.store.hashing import whole_digest
from cache.store.spool import READ_BACK, ROOM_TRIES, MakeRoom, no_room, with_room
from gateway.registry.hashing import SavableHash, load_sha256, new_sha256

_BOOT_END = b"\n"
_OPEN = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
_CREATE = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_CREAT


class UploadFile:
    """File of one upload, which one holder of the upload's lease opens. Its methods block; one thread at a time.

    `boot`: this run of the machine.
    """

    def __init__(self, path: Path, boot: str, make_room: MakeRoom = no_room) -> None:
        self.path = path
        self.size = 0
        """Bytes that have arrived, from the start without a gap."""
        self.unsynced = 0
        """Bytes that were written since the last call of `sync` began."""
        self._boot = boot
        self._make_room = make_room
        self._descriptor: int | None = None
        self._hash: SavableHash | None = None
        # Held while the descriptor is in use: a number that is closed meanwhile may soon be that of another file.
        self._using = threading.Lock()

    def open(self, covered: int = 0, saved: bytes | None = None) -> None:
        """Open the file, or create it. `saved`: what `save` returned when `covered` bytes had arrived. Raises OSError.

        What has arrived since is read again. Without a state that can be continued, nothing is: `digest` does it.
        """
        with self._using:
            self._descriptor = with_room(self._create, self._make_room)
            self.size = os.fstat(self._descriptor).st_size
            self._hash, hashed = self._load(covered, saved)
            buffer = memoryview(bytearray(min(READ_BACK, self.size - hashed if self._hash else 0)))
            while self._hash is not None and hashed < self.size:
                count = os.preadv(self._descriptor, [buffer[: self.size - hashed]], hashed)
                if not count:
                    raise OSError(errno.EIO, "bytes that were written are missing")
                self._hash.update(buffer[:count])
                hashed += count

    def open_unread(self, covered: int = 0, saved: bytes | None = None) -> bool:
        """Open the file as `open` does, unless it is missing or bytes must be read, which takes longer than waking a
        thread; whether it is open."""
        with self._using:
            try:
                failpoint("upload.create")
                descriptor = os.open(self.path, _OPEN)
            except OSError:
                return False
            self._descriptor, self.size = descriptor, os.fstat(descriptor).st_size
            self._hash, hashed = self._load(covered, saved)
            if self._hash is None or hashed == self.size:
                return True
            self._descriptor = None
            os.close(descriptor)
            return False

    def _create(self) -> int:
        failpoint("upload.create")
        return os.open(self.path, _CREATE, 0o600)

    def _load(self, covered: int, saved: bytes | None) -> tuple[SavableHash | None, int]:
        """The hash of a beginning of the file, and how many bytes it holds for; None where all must be read."""
        boot, _, state = (saved or b"").partition(_BOOT_END)
        if state and boot == self._boot.encode() and covered <= self.size and (loaded := load_sha256(state)):
            return loaded, covered
        fresh = new_sha256()
        return (fresh, 0) if not self.size or fresh.save() is not None else (None, 0)

    def is_named(self) -> bool:
        """Whether the file still has a name: whoever ends the upload takes it away. Raises OSError."""
        with self._using:
            return os.fstat(self._require_open()).st_nlink > 0

    def frees(self) -> bool:
        """Whether closing the file frees it, which takes a second for each GiB: it is open and has no name."""
        with self._using:
            return self._descriptor is not None and not os.fstat(self._descriptor).st_nlink

    def append(self, data: bytes | memoryview) -> None:
        """Write and hash the next bytes. Raises OSError; what was not hashed is then cut off again."""
        self._append(data, self._make_room)

    def append_at_once(self, data: bytes | memoryview) -> bool:
        """Append a few bytes unless room must be made for them, which may take seconds; whether they were appended.

        Raises OSError as `append` does.
        """
        try:
            self._append(data, no_room)
        except OSError as error:
            if is_disk_full(error):
                return False
            raise
        return True

    def _append(self, data: bytes | memoryview, make_room: MakeRoom) -> None:
        with self._using:
            descriptor, end = self._require_open(), self.size + len(data)
            status = os.fstat(descriptor)
            # A second name is that of a blob, which a commit gave it that was killed.
            if status.st_size != self.size or status.st_nlink > 1:
                raise OSError(errno.ESTALE, "the file of an upload was changed, or is that of a blob already")
            try:
                self._write_all(descriptor, memoryview(data), make_room)
            except OSError:
                os.ftruncate(descriptor, self.size)
                raise
            if self._hash is not None:
                self._hash.update(data)
            self.unsynced += len(data)
            self.size = end

    def _write_all(self, descriptor: int, view: memoryview, make_room: MakeRoom) -> None:
        tries, offset = 0, self.size
        while view:
            try:
                failpoint("upload.write")
                count = os.pwrite(descriptor, view, offset)
            except OSError as error:
                tries += 1
                if not is_disk_full(error) or tries > ROOM_TRIES or not make_room(len(view)):
                    raise
            else:
                view, offset = view[count:], offset + count

    def cut(self, size: int) -> None:
        """Forget the bytes from `size` on; the hash, too, which cannot go back. Raises OSError."""
        with self._using:
            os.ftruncate(self._require_open(), size)
            self.size, self._hash = size, None

    def save(self) -> bytes | None:
        """State of the hash of all that has arrived; None where there is none to be continued."""
        state = self._hash.save() if self._hash is not None else None
        return None if state is None else self._boot.encode() + _BOOT_END + state

    def duplicate(self) -> int:
        """Return another descriptor of the file, which the caller closes and which outlives this one."""
        with self._using:
            return os.dup(self._require_open())

    def sync(self) -> None:
        """Make all that has arrived durable. Raises OSError: then nobody knows what is on the disk."""
        with self._using:
            self.unsynced, descriptor = 0, os.dup(self._require_open())
        try:
            failpoint("upload.sync")
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)

    def hashed(self, algorithm: str) -> Digest | None:
        """The digest of all that has arrived, if its hash was taken."""
        if self._hash is None or algorithm != "sha256":
            return None
        return Digest(algorithm, self._hash.hexdigest())

    def digest(self, algorithm: str) -> Digest:
        """The digest of all that has arrived, for which the file is read. Raises OSError."""
        descriptor = self.duplicate()
        try:
            return whole_digest(descriptor, algorithm)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Close the file, which keeps its name, once no thread uses it."""
        with self._using:
            descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _require_open(self) -> int:
        if self._descriptor is None:
            raise OSError(errno.EBADF, "the file of an upload is not open")
        return self._descriptor

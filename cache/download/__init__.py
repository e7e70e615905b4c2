"""Downloads: one fetch from an upstream, many readers, in all workers of a host.

A *flight* is the download of one digest from one source in one worker process. It has a thread that reports its
`Progress` to the event loop, and any number of *readers* (`Follower`), each at an offset of its own. Of all workers of
a host one *fills*: it holds the lease, fetches, hashes, and writes the spool. The others that want the digest are
*waiting workers*: their flights follow that spool for readers of their own, and one of them takes over when the filler
dies. The filler never waits for a reader, nor one reader for another.

Admission
---------
A flight begins without a thread, a file or a buffer: it requests a place at its upstream (`admission`), on behalf of
its readers, and is WAITING. It starts its thread when one of them has their turn. A flight that is refused a place is
FAILED, and one that all its readers leave before is aborted at once. The place is given back when the thread has ended
and the result is recorded. A stream for a single reader (`UncachedBlob`) takes a place as well.

Files
-----
All stand in one folder, <data>/spool; NAME is <algorithm>-<hex>.<16 hex digits of the SHA-256 of the source>.

    leases             empty; two bytes of it, found by hash, stand for NAME. The filler holds an exclusive lock on the
                       first (the lease); processes that wait for its result share a lock on the second.
    NAME.part          the spool: appended to, never rewritten below its count. Starting over makes a new inode.
    NAME.part.note     the sidecar: the count of hashed bytes, and a note (source, image, inode, boot id, state, size,
                       failure).

Only the holder of the lease of NAME creates, writes, renames or deletes NAME.part and its note; the sweep takes the
lease before it deletes either, and spares a name that has waiters. Any process may open both for reading, and keeps
what it opened when the names are gone. The first process that needs `leases` creates it; none deletes it.

States and events
-----------------
    state      upstream     digest holds   mismatch   upstream or   committed   aborted
               responds                               disk fails
    WAITING    STREAMING    -              (1)        FAILED        -           FAILED
    STREAMING  STREAMING    VERIFIED       (1)        FAILED        -           FAILED
    VERIFIED   -            -              -          VERIFIED (2)  COMMITTED   VERIFIED
    COMMITTED  -            -              -          -             -           -
    FAILED     -            -              -          -             -           -

(1) If some bytes of the spool are from an earlier stream or process, the fill starts over once: a new inode, the same
    state. A reader that has been given bytes of the old inode, or has seen another size, fails; the others continue
    with the new one. Any other mismatch, the one after starting over included, is FAILED with Corrupt; the file, unless
    it is too large, moves to the quarantine.
(2) The bytes are right and could only not be stored. Readers continue from their descriptors; nothing is recorded.

A stream that breaks off is no event: `retry.download_into` requests the rest, within a budget of retries, and readers
see a pause. In a waiting worker the filler's files take the upstream's place: the note's STREAMING is the event
"responds", the mark of the inode "digest holds", the blob in the store "committed", and the note's FAILED is "fails",
or "mismatch" if the failure that it carries is Corrupt. A flight that has the lease looks into the store before it
fetches. A name in the store proves nothing: a file that is not the verified spool itself is hashed, and set aside where
it does not match. If the blob is there while the flight is WAITING, it becomes FAILED with the error AlreadyStored,
since only the index knows which images have a right to the blob; while STREAMING, it becomes VERIFIED, then COMMITTED.
A flight that begins with `even_if_stored` fetches instead while WAITING.

The verdict
-----------
Every reader withholds the last TAIL bytes of its response until the flight is VERIFIED (`cache.store.base.sendable`).
In the filler's process the thread reports that once `Spool.seal` has found length and digest to hold, before fsync. For
other processes it then sets mode 0400, the *mark*, on the inode. Waiting workers poll the descriptor that they hold, so
the mark reaches them whether NAME.part still stands, was renamed into the store or was deleted. It holds for a file of
the size that the filler counted last: a spool that was cut since is not verified. Their readers complete on the mark,
or on the blob found in the store under the lease, never on a count. A failure that concerns waiting workers is in the
note, which the filler writes before it deletes a name, and which they hold open too. An inode that has lost its name,
without a mark and without such a note, belongs to a fill that ended for reasons of its own (a refusal of its image, or
no readers) or started over: they try the lease and, if it is held, open the next inode.

A crash, step by step
---------------------
The kernel releases the lease with its process. What the next holder, which may be a worker that waited, finds:

    the filler has …                    the next holder …
    taken the lease                     begins: it deletes the note first, so no note stands beside a later spool
    created NAME.part                   begins; the spool has no note
    created the note (WAITING)          begins; nothing had arrived
    written "STREAMING", counted bytes  resumes: it hashes the counted bytes again and requests the rest
    written "LEAVING"                   the same where bytes were counted; else begins
    written "FAILED"                    begins, with a new inode
    sealed the spool                    resumes: sends no request if the length was promised, and seals
    marked the inode                    resumes likewise, with the whole file; it is already read-only
    synced the file                     the same: the name in the store decides, and it has none
    renamed it into the store           hashes what it finds there; the next fill or the sweep deletes the stale note
    synced the folders                  the same; the blob now survives a power failure
    recorded the images in the index    finds blob and link, and needs no flight

A file that was renamed and not recorded belongs to no image. Where the index refuses the record, the process deletes
the file. After a crash the sweep of the cache deletes it within two hours, unless a download from the same or another
source stores and records it first.

Takeover and resume
-------------------
A waiting worker tries to take the lease every 0.2 s, and at once when the spool it follows is gone without a mark. A
spool is resumed if its note has the same source, the same inode and the same boot id (bytes that only memory held do
not survive a stop of the machine), its state is STREAMING or LEAVING, and a byte is counted or the inode is marked.
Bytes beyond the count are written again. An upstream that serves the whole instead of the rest costs the bytes that are
present, which are skipped; they are not compared.

A filler whose last reader left some seconds ago continues if the blob is small or well under way (`worth_finishing`),
or while another worker waits. Otherwise it is aborted, as it is when its server stops: its note says LEAVING, which no
further worker follows; while WAITING it releases the lease at once; while STREAMING it leaves the spool to the waiting
workers, or deletes it if there are none. The lease is held until what was committed is recorded, so a worker that
waited finds bytes and links together.

A full disk
-----------
A write that finds the disk full requests space (`MakeRoom`), at most three times. After that, where a blob is too large
to be kept (`CanKeep`), which a promised length shows before its first byte, and after any other error of the disk, the
flight fails as Unstorable: between STREAMING and the mark in every waiting worker too, while an error in opening the
spool concerns one worker alone, and one after the mark no reader (2). Each reader then continues on an upstream stream
of its own (`UncachedBlob`), which hashes the bytes that the reader has been sent together with those to come, so a body
that completes is right as a whole. Nothing is stored.
"""

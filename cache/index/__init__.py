"""Index: records about cached bytes: which images have a right to them, what tags point to, when they were last used.

Files. `cache.db` holds facts: images (source and name), tag pointers, links (an image's right to a digest), manifests
byte for byte, sizes of blobs, sightings of tags, pins, digests whose tag is gone upstream, running totals, when the
sightings began (`history`), which manifests refer to a digest (`parents`), lists of tags and referrers, and the log
`changes`. `usage.db` holds what may vanish: last use and last check of each digest, counts of pulls, happenings. It is
a file of its own so that counting never changes the version of `cache.db`, by which processes notice changes.

Memory. `SqlIndex`, one per process, keeps recently used pointers, links, manifests and sizes in bounded memory, and
never an absence: a lookup that finds nothing in memory reads the file, unless the right or the tag was revoked and that
is not written yet. A row read while the process itself wrote is not kept, since it may be older than the write
(`_generation`); a size is kept in any case, since the size of a digest never changes.

    what happens                            what the process that did it drops      what the other processes drop
    record: a pointer                       replaces its own entry                  that pointer
    record: a link, manifest or size        nothing; adds its entry                 nothing: none holds an absence
    forget a tag                            that pointer                            that pointer
    forget an image (a right was lost)      its pointers and links, all manifests   the same
    CacheAdmin.remove (evict, by command)   has no memory                           as for forgetting an image
    eviction, scrub (CacheMaintenance)      has no memory                           nothing (*)
    SqlIndex.drop (its file is not intact)  the size                                nothing (*)

(*) A link to a blob that is still in memory finds no file, which is a miss. A manifest has no file: a process that
holds it with its link and pointer serves it, still with the right bytes, until one of them leaves its memory. When the
upstream confirms the tag, that process records all three again, so that the others and a new one have them, too.

Each line above that makes others drop something inserts a row into `changes` in the same transaction. Another process
sees in `PRAGMA data_version`, at most every `look_every` seconds, that something was committed; it then reads the rows
after the last one that it has seen, ignores its own, and drops what the others name. The log keeps its newest rows: if
rows are missing or too many, everything is dropped. `mark()` combines that version with the generation; code that keeps
a result derived from the index takes the mark before the lookup and discards the result when the mark has changed.

Writers. All that write to `cache.db` — `migrate` at a start, the `SqlIndex` (one writer thread) of a worker and of the
commands that fetch, the `CacheMaintenance` of sweep, scrub and `cache verify`, the `CacheAdmin` of commands — first
take the lock file `cache.db.lock`, then BEGIN IMMEDIATE. Writers of `usage.db` take `usage.db.lock`. Readers take no
lock, but `CacheMaintenance` takes `usage.db.lock` for a moment before it reads both files, to create the one that may
vanish. No transaction writes to both files; the one that adds missing digests to `usage.db` only reads `cache.db`.

Sizes. A digest keeps the size that was recorded first, as long as it has a row: recording another one fails, with all
that was to be recorded beside it. So the size of a damaged file never takes the place of the right one.

Failures. A right that was revoked while the file could not be written stays revoked in that process, and each later
write tries to write it first. Statements that have begun are completed, in the file and then in memory, even if the
caller is cancelled. A crash loses nothing that was committed to `cache.db`; a power cut may lose the last transactions
(`synchronous=NORMAL`), never its consistency. A file of the store is created before its row and deleted after it, so a
crash between the two leaves a file without a row. On a full disk files are deleted first, and at a start without any
change of rows: a row without a file is a miss, and tidying or `drop` deletes it. Without `cache.db` everything is
fetched again; pins, and the age of tags that a group's cooldown counts, are lost. Without `usage.db` eviction knows no
earlier use.
"""

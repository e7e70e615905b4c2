"""Steward of the fault tests: a pusher that also restores tags, deletes and restores its repository, and moves it away
and back, by transactions of its own beside the running server, as commands do."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from cache.oci.digest import Digest
from cache.oci.names import RepositoryName, Tag
from cache.sqlite import DatabaseUnusable
from gateway.db import manifests, moves, repositories
from gateway.db.connection import Connection
from gateway.db.engine import Database
from gateway.namespaces.errors import RestoreRefused
from gateway.registry.restoring import restore_repository, restore_tag
from tests.parts.images import MANIFEST

from .push_client import ACCEPT
from .push_content import content_of
from .push_ledger import Change, Key, Thing
from .pushers import Pusher

T = TypeVar("T")
Work = Callable[[Connection], Coroutine[Any, Any, T]]

WHO = "steward"
OLD_PATHS = timedelta(days=90)
RETRY = 0.5
LOOKS = 6
"""Things that are looked at while a repository is deleted, or has moved."""
MOVED_BLOB = 30_000


class Steward(Pusher):
    """One steward."""

    def acts(self) -> list[tuple[Callable[[], None], int]]:
        return [
            (self._push_image, 6),
            (self._move_tag, 4),
            (self._delete_tag, 5),
            (self._delete_manifest, 1),
            (self._restore_tag, 6),
            (self._delete_and_restore, 2),
            (self._move_away_and_back, 2),
        ]

    def _restore_tag(self) -> None:
        """Manifests that were deleted by their digests come back with the tag."""
        ledger = self._client.ledger
        tags, known = (ledger.keys(self._name, thing) for thing in (Thing.TAG, Thing.MANIFEST))
        if not tags:
            return
        key, begun = self._chance.choice(tags), time.monotonic()

        async def restore(connection: Connection) -> tuple[str, set[Digest]] | None:
            found = await repositories.find(connection, RepositoryName(self._name))
            if found is None:
                return None
            missing = partial(manifests.missing, connection, found.id, [Digest.parse(one.name) for one in known])
            before = await missing()
            digest = await restore_tag(connection, found, Tag(key.name), datetime.now(UTC), WHO)
            return str(digest), before - await missing()

        try:
            restored = self._transact(restore)
        except RestoreRefused:
            return
        if restored is None:
            return
        (digest, back), ended = restored, time.monotonic()
        ledger.changed(Change(key, digest, begun, ended, True))
        for each in map(str, back):
            ledger.changed(Change(Key(self._name, Thing.MANIFEST, each), each, begun, ended, True))
        self._client.look(key)
        self._client.look(Key(self._name, Thing.MANIFEST, digest))

    def _delete_and_restore(self) -> None:
        ledger, name = self._client.ledger, RepositoryName(self._name)
        begun = time.monotonic()
        keys = [key for thing in Thing for key in ledger.keys(self._name, thing)]
        held = {key: ledger.now(key, begun) for key in keys}
        sure = {key for key in keys if key.thing is Thing.TAG or ledger.keeps(key, begun)}
        if not self._transact(lambda connection: repositories.delete(connection, name, datetime.now(UTC), WHO)):
            return
        gone = time.monotonic()
        for key in keys:
            ledger.changed(Change(key, None, begun, gone, True))
        for key in self._some(keys):
            self._client.look(key)
        again = time.monotonic()
        try:
            self._transact(lambda connection: restore_repository(connection, name, datetime.now(UTC)))
        except RestoreRefused:
            return  # it took longer than the delay of garbage collection
        back = time.monotonic()
        for key, values in held.items():
            for value in values:
                ledger.changed(Change(key, value, again, back, len(values) == 1 and key in sure))
        for key in self._some(keys):
            self._client.look(key)

    def _move_away_and_back(self) -> None:
        """An upload that began before the move ends after it; the old name is pulled from, and takes no push."""
        away, kind = f"{self._name}-away", {"Content-Type": MANIFEST}
        manifest, upload = self._chosen(self._name), self._uploader.begin(self._name)
        if manifest is None or upload is None:
            return

        def moving(old: str, new: str) -> Work[object]:
            return lambda connection: moves.move_repository(connection, old, new, datetime.now(UTC), OLD_PATHS)

        self._transact(moving(self._name, away))
        blob = content_of(f"{self._name} {self._pushed} {time.monotonic()}", MOVED_BLOB)
        self._uploader.finish(self._name, blob, upload.location, blob.data, upload.begun)
        old = f"{self._name}/manifests/{manifest.digest}"
        if self._holds(Key(self._name, Thing.MANIFEST, manifest.digest)) and self._client.ledger.delay is None:
            for path in (old, f"{away}/manifests/{manifest.digest}"):
                self._client.send("GET of what has moved", "GET", path, (200,), ACCEPT)
        self._client.send("PUT to an old name", "PUT", old, (403,), kind, manifest.data)
        tags = self._some(self._client.ledger.keys(self._name, Thing.TAG))
        for key in tags:
            self._client.look(key)
            self._client.look(key, by=away)
        self._transact(moving(away, self._name))
        for key in tags:
            self._client.look(key, by=away)
            self._client.look(key)

    def _some(self, keys: list[Key]) -> list[Key]:
        return self._chance.sample(keys, min(LOOKS, len(keys)))

    def _transact(self, work: Work[T]) -> T:
        """Do work in a transaction; while the database cannot be written to, again and again. What failed was not
        done."""

        async def run() -> T:
            async with Database.open(self._data / "gateway.db", turn_seconds=60) as database:
                return await database.transact(work)

        while True:
            try:
                return asyncio.run(run())
            except DatabaseUnusable:
                time.sleep(RETRY)

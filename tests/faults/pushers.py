"""Pushers of the fault tests: each runs in a thread, pushes, moves tags, deletes and reads in a repository of its own,
and pushes the same content as others to a repository of all."""

import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.parts.commands import Commands
from tests.parts.gateway import Gateway
from tests.parts.images import INDEX, MANIFEST

from .library import Content
from .push_client import Answer, PushClient
from .push_content import Shelf, index_of, manifest_of
from .push_ledger import Change, Key, PushLedger, Thing
from .push_uploads import OCTETS, Uploader

USER, PROJECT = "pusher", "pusher/mix"
TAGS = ("latest", "main", "v1", "v2", "feature-my-feature")
BETWEEN = (0.02, 0.3)
STOPS_WITHIN = 180.0
KEPT_MANIFESTS = 40
SOON = 5.0
"""Seconds in which a request is done that relies on what is there."""


@dataclass(frozen=True)
class Access:
    """Login of a user who may push to the project, and delete there."""

    url: str
    user: str
    secret: str
    data: Path

    def client(self, ledger: PushLedger) -> PushClient:
        return PushClient(self.url, self.user, self.secret, ledger)


def create_pusher(gateway: Gateway) -> Access:
    """Creates a user with a project in a namespace of the user's own, and a token of that user."""
    commands = Commands(gateway.config_file, gateway.data)
    commands.run("user", "create", USER)
    commands.run("project", "create", PROJECT)
    token = commands.json("token", "create", "--user", USER, "--name", "mix", "--scope", "write_registry")
    return Access(gateway.url, USER, token["token"], Path(gateway.data))


class Pushers:
    """Threads of `count` pushers that work until `stop`, chosen by `seed`; their repositories are named after it.

    `steward`: the class of one more, which is given the data folder.
    """

    def __init__(
        self, access: Access, ledger: PushLedger, seed: str, count: int, steward: "type[Pusher] | None" = None
    ) -> None:
        self._ending = threading.Event()
        self._failure: BaseException | None = None
        kinds = [Pusher] * count + ([steward] if steward is not None else [])
        shelf, names = Shelf(seed), [f"{PROJECT}/{seed}/p{number}" for number in range(len(kinds))]
        self._pushers = [
            kind(access.client(ledger), shelf, name, names, random.Random(f"{seed}-{name}"), self._ending, access.data)
            for kind, name in zip(kinds, names, strict=True)
        ]
        self._threads = [
            threading.Thread(target=self._guarded, args=(pusher.live,), daemon=True) for pusher in self._pushers
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Waits until every pusher has ended what it does; raises TimeoutError for one that does not, and any error of
        the rig itself."""
        self._ending.set()
        deadline = time.monotonic() + STOPS_WITHIN
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                raise TimeoutError(f"a pusher still waits {STOPS_WITHIN} s after the end of the run")
        if self._failure is not None:
            raise self._failure

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as failure:
            self._failure = failure
            self._ending.set()


class Pusher:
    """One pusher. `name`: its own repository, in which nobody else writes; `names`: those of all. `data`: the data
    folder of the server."""

    def __init__(
        self,
        client: PushClient,
        shelf: Shelf,
        name: str,
        names: Sequence[str],
        chance: random.Random,
        ending: threading.Event,
        data: Path,
    ) -> None:
        self._client, self._shelf, self._name, self._chance, self._ending = client, shelf, name, chance, ending
        self._names, self._data = names, data
        self._shared = f"{name.rpartition('/')[0]}/all"
        self._uploader = Uploader(client, chance, ending)
        self._manifests: dict[str, list[Content]] = {}
        self._pushed = 0

    def acts(self) -> list[tuple[Callable[[], None], int]]:
        """What it does, with the weights of a draw."""
        return [
            (self._push_image, 10),
            (self._push_shared, 3),
            (self._push_index, 2),
            (self._move_tag, 4),
            (self._delete_tag, 3),
            (self._delete_manifest, 2),
            (self._delete_blob, 2),
            (self._mistake, 3),
            (self._leave_unfinished, 1),
            (self._cancel, 1),
            (self._read, 8),
        ]

    def live(self) -> None:
        acts = self.acts()
        while not self._ending.wait(self._chance.uniform(*BETWEEN)):
            self._chance.choices([act for act, _ in acts], [weight for _, weight in acts])[0]()

    # What it does.

    def _push_image(self) -> None:
        self._push(self._name)

    def _push_shared(self) -> None:
        """Pushes to the repository in which all push, and move the same tags."""
        self._push(self._shared)

    def _push(self, repository: str) -> None:
        blobs = [self._shelf.draw(self._chance) for _ in range(self._chance.choice((1, 2, 2, 3)))]
        sources = [name for name in (*self._names, self._shared) if name != repository]
        for blob in blobs:
            having = [name for name in sources if self._holds(Key(name, Thing.BLOB, blob.digest))]
            if not self._uploader.upload(repository, blob, having):
                return
        self._pushed += 1
        subject = self._chosen(repository) if self._chance.random() < 0.2 else None
        manifest = manifest_of(blobs[0], blobs[1:], f"{self._name} {self._pushed}", subject)
        own = Key(repository, Thing.MANIFEST, manifest.digest)
        self._client.ledger.needed(own, [Key(repository, Thing.BLOB, blob.digest) for blob in blobs])
        if self._put(repository, manifest, self._chance.choice(TAGS), MANIFEST, blobs, Thing.BLOB):
            self._client.look(Key(repository, Thing.BLOB, self._chance.choice(blobs).digest))

    def _push_index(self) -> None:
        children = [child for child in {self._chosen(self._name), self._chosen(self._name)} if child is not None]
        if children:
            self._pushed += 1
            index = index_of(children, f"{self._name} {self._pushed}")
            own = Key(self._name, Thing.MANIFEST, index.digest)
            self._client.ledger.needed(own, [Key(self._name, Thing.MANIFEST, child.digest) for child in children])
            self._put(self._name, index, f"index-{self._chance.choice(TAGS)}", INDEX, children, Thing.MANIFEST)

    def _move_tag(self) -> None:
        manifest = self._chosen(self._name)
        if manifest is not None:
            self._put(self._name, manifest, self._chance.choice(TAGS), MANIFEST, None, Thing.BLOB)

    def _delete_tag(self) -> None:
        repository = self._chance.choice((self._name, self._name, self._shared))
        key = Key(repository, Thing.TAG, self._chance.choice(TAGS))
        path = self._chance.choice((key.path, f"{repository}/tags/reference/{key.name}"))
        self._delete(key, path, others_write=repository == self._shared)

    def _delete_manifest(self) -> None:
        """Deletes by digest, and with the manifest the tags that point to it."""
        manifest = self._chosen(self._name)
        if manifest is None:
            return
        key = Key(self._name, Thing.MANIFEST, manifest.digest)
        now = time.monotonic()
        tags = [(tag, self._client.ledger.now(tag, now)) for tag in self._client.ledger.keys(self._name, Thing.TAG)]
        answer = self._delete(key, key.path, (403,))
        for tag, held in tags:
            if manifest.digest in held and answer.status in (0, 202, 500, 502, 503, 507):
                surely = answer.status == 202 and held == {manifest.digest}
                self._client.ledger.changed(Change(tag, None, answer.begun, answer.until, surely))
        if answer.status == 202:
            self._manifests[self._name] = [each for each in self._manifests[self._name] if each != manifest]
            self._client.look(key)

    def _delete_blob(self) -> None:
        """Deletes a blob, which is refused while a manifest needs it."""
        blobs = self._client.ledger.keys(self._name, Thing.BLOB)
        if blobs:
            key = self._chance.choice(blobs)
            self._delete(key, key.path, (403,))

    def _mistake(self) -> None:
        """A wrong digest, a wrong offset, or an upload that is ended twice."""
        begun = self._uploader.begin(self._name)
        if begun is None:
            return
        wrong = Key(self._name, Thing.BLOB, f"sha256:{self._chance.getrandbits(256):064x}")
        what, data = self._chance.choice(("digest", "offset", "twice")), self._chance.randbytes(5_000)
        if what == "offset":
            headers = {"Content-Range": "70-79"} | OCTETS
            self._client.send("PATCH elsewhere", "PATCH", begun.location, (416,), headers, data[:10], since=begun.begun)
        url = f"{begun.location}?digest={wrong.name}"
        answer = self._client.send("PUT of another digest", "PUT", url, (400,), OCTETS, data, since=begun.begun)
        if what == "twice" and answer.status == 400:
            self._client.send("PUT of what has ended", "PUT", url, (404,), OCTETS, data, since=begun.begun)
        self._client.look(wrong, "HEAD")

    def _leave_unfinished(self) -> None:
        begun = self._uploader.begin(self._name)
        if begun is not None:
            data = self._chance.randbytes(self._chance.choice((10, 50_000)))
            self._client.send("PATCH and no more", "PATCH", begun.location, (202,), OCTETS, data, since=begun.begun)

    def _cancel(self) -> None:
        begun = self._uploader.begin(self._name)
        if begun is None:
            return
        self._client.send("PATCH", "PATCH", begun.location, (202,), OCTETS, bytes(70_000), since=begun.begun)
        answer = self._client.send("cancel", "DELETE", begun.location, (204,), since=begun.begun)
        if answer.status == 204:
            self._client.send("status of what was cancelled", "GET", begun.location, (404,))

    def _read(self) -> None:
        """Reads something that it or another pusher has pushed or deleted."""
        thing = self._chance.choice(list(Thing))
        keys = self._client.ledger.keys(self._chance.choice((*self._names, self._shared)), thing)
        if keys:
            self._client.look(self._chance.choice(keys), self._chance.choice(("GET", "HEAD")))

    # Parts of it.

    def _holds(self, key: Key) -> bool:
        return self._client.ledger.now(key, time.monotonic()) == {key.name}

    def _keeps(self, key: Key) -> bool:
        return self._client.ledger.keeps(key, time.monotonic() + SOON)

    def _chosen(self, repository: str) -> Content | None:
        """One of the manifests that this pusher has pushed and not deleted."""
        manifests = self._manifests.get(repository)
        return self._chance.choice(manifests) if manifests else None

    def _put(
        self,
        repository: str,
        manifest: Content,
        tag: str,
        media_type: str,
        needed: Sequence[Content] | None,
        kind: Thing,
    ) -> bool:
        """Pushes a manifest to a tag, and reads both back; whether it was acknowledged.

        `needed`: what it refers to; None where that may have been deleted meanwhile.
        """
        key, tag_key = Key(repository, Thing.MANIFEST, manifest.digest), Key(repository, Thing.TAG, tag)
        complete = needed is not None and all(self._keeps(Key(repository, kind, each.digest)) for each in needed)
        expected = (201,) if complete else (201, 404)
        tries = 4
        for attempt in range(tries):
            answer = self._client.send(
                "PUT of a manifest", "PUT", tag_key.path, expected, {"Content-Type": media_type}, manifest.data
            )
            done = answer.status == 201
            if done or answer.status == 0 or answer.status >= 500:
                changes = [Change(each, manifest.digest, answer.begun, answer.until, done) for each in (key, tag_key)]
                self._client.ledger.changed(*changes)
            if done or answer.status == 404 or self._uploader.pause(attempt):
                break
        if done:
            if media_type == MANIFEST and manifest not in self._manifests.setdefault(repository, []):
                self._manifests[repository] = [*self._manifests[repository], manifest][-KEPT_MANIFESTS:]
            self._client.look(tag_key)
            self._client.look(key)
        return done

    def _delete(self, key: Key, path: str, more: tuple[int, ...] = (), others_write: bool = False) -> Answer:
        """Deletes, and looks whether it is gone. `more`: statuses of a refusal, beside those that the ledger says."""
        certain = self._client.ledger.now(key, time.monotonic())
        is_kept = self._client.ledger.delay is None or key.thing is Thing.TAG or self._keeps(key)
        expected = statuses_of_deletion(certain, is_kept=is_kept, others_write=others_write)
        answer = self._client.send(f"DELETE of a {key.thing.value}", "DELETE", path, expected | set(more))
        if answer.status in (0, 202) or answer.status >= 500:
            self._client.ledger.changed(Change(key, None, answer.begun, answer.until, answer.status == 202))
        if answer.status == 202:
            self._client.look(key)
        return answer


def statuses_of_deletion(certain: set[str | None], *, is_kept: bool, others_write: bool) -> set[int]:
    """Statuses of a deletion that may be right. `certain`: what a look may show by the changes that have been noted;
    `is_kept`: whether nothing else takes it away; `others_write`: whether others change it, whose push may be under way
    and stands in no note yet."""
    if others_write or len(certain) > 1:
        return {202, 404}
    if certain == {None}:
        return {404}
    return {202} if is_kept else {202, 404}

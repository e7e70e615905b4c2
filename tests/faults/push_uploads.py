"""Ways in which a client uploads one blob, and how it goes on after a request that broke off."""

import random
import threading
from collections.abc import Callable
from urllib.parse import quote

from .library import Content
from .push_client import Answer, PushClient
from .push_ledger import Change, Key, Thing

TRIES = 6
LONGEST_PAUSE = 2.0
CHUNKS = (20_000, 200_000, 3_000_000)
STREAM = {"Transfer-Encoding": "chunked"}
OCTETS = {"Content-Type": "application/octet-stream"}
LEAVING = 0.06
"""Share of the requests with a body whose client leaves by a reset before it has a response."""


class Uploader:
    """Uploads blobs in one thread; `pause` waits between two tries, and returns whether the run has ended."""

    def __init__(self, client: PushClient, chance: random.Random, ending: threading.Event) -> None:
        self._client, self._chance, self._ending = client, chance, ending

    def upload(self, repository: str, content: Content, sources: list[str]) -> bool:
        """Uploads a blob, or mounts it from one of `sources`; whether that was acknowledged, or was seen to be done."""
        ways: list[Callable[[str, Content], bool]] = [self._at_once, self._whole, self._streamed, self._chunked]
        ways.append(self._chunked)
        for attempt in range(TRIES):
            if sources and self._chance.random() < 0.5:
                done = self._mounted(repository, content, self._chance.choice(sources))
            else:
                done = self._chance.choice(ways)(repository, content)
            if done or (attempt and self._client.look(Key(repository, Thing.BLOB, content.digest), "HEAD")):
                return True
            if self.pause(attempt):
                return False
        return False

    def pause(self, attempt: int) -> bool:
        return self._ending.wait(min(LONGEST_PAUSE, 0.1 * 2**attempt) * self._chance.uniform(0.5, 1))

    # The ways.

    def _at_once(self, repository: str, content: Content) -> bool:
        """One POST with the digest and the whole blob."""
        path = f"{repository}/blobs/uploads/?digest={quote(content.digest)}"
        answer = self._send("POST with a blob", "POST", path, (201,), OCTETS, content.data)
        return self._noted(repository, content, answer)

    def _whole(self, repository: str, content: Content) -> bool:
        """POST, and a PUT of the whole blob."""
        begun = self.begin(repository)
        return begun is not None and self.finish(repository, content, begun.location, content.data, begun.begun)

    def _streamed(self, repository: str, content: Content) -> bool:
        """POST, one PATCH without a length, and PUT, as docker does it."""
        begun = self.begin(repository)
        if begun is None:
            return False
        body = b"%x\r\n%b\r\n" % (content.size, content.data) if content.size else b""
        answer = self._client.send(
            *("PATCH of a stream", "PATCH", begun.location, (202,), STREAM | OCTETS, body + b"0\r\n\r\n"),
            since=begun.begun,
        )
        if answer.status != 202:
            return False
        return self.finish(repository, content, answer.location, b"", begun.begun)

    def _chunked(self, repository: str, content: Content) -> bool:
        """POST, and PATCHes of chunks that go on where a broken one has ended; the last chunk may be in the PUT."""
        begun = self.begin(repository)
        if begun is None:
            return False
        location, at, size = begun.location, 0, self._chance.choice(CHUNKS)
        last_in_put, troubles = self._chance.random() < 0.3, 0
        while at < content.size and not (last_in_put and content.size - at <= size):
            stop = min(content.size, at + size)
            headers = {"Content-Range": f"{at}-{stop - 1}"} | OCTETS
            # After a broken request, the server may still be busy with it, and the next one is too early.
            expected = (202, 416) if troubles else (202,)
            answer = self._send(
                "PATCH of a chunk", "PATCH", location, expected, headers, content.data[at:stop], begun.begun
            )
            if answer.status == 202:
                at, location = stop, answer.location
            else:
                troubles += 1
                found = self._resume(location, at, begun.begun)
                if found is None or troubles > 3 * TRIES:
                    return False
                # `0-0` is said of nothing and of one byte: after a refusal it was one.
                at = 1 if found == at == 0 and answer.status == 416 else found
                self.pause(0)
        return self.finish(repository, content, location, content.data[at:], begun.begun)

    def _mounted(self, repository: str, content: Content, source: str) -> bool:
        """POST with `mount`, from a repository that has the blob."""
        path = f"{repository}/blobs/uploads/?mount={quote(content.digest)}&from={quote(source)}"
        answer = self._client.send("mount", "POST", path, (201, 202))
        if answer.status == 202:
            return self.finish(repository, content, answer.location, content.data, answer.begun)
        return self._noted(repository, content, answer)

    # Their steps.

    def begin(self, repository: str) -> Answer | None:
        answer = self._client.send("begin an upload", "POST", f"{repository}/blobs/uploads/", (202,))
        return answer if answer.status == 202 else None

    def _send(
        self,
        what: str,
        method: str,
        path: str,
        expected: tuple[int, ...],
        headers: dict[str, str],
        body: bytes,
        since: float | None = None,
    ) -> Answer:
        """Sends a request, or a part of it, after which the client leaves."""
        leaves = self._chance.random() < LEAVING
        leave_after = self._chance.choice((0, len(body) // 2, len(body))) if leaves else None
        return self._client.send(what, method, path, expected, headers, body, since=since, leave_after=leave_after)

    def _resume(self, location: str, acknowledged: int, since: float) -> int | None:
        """Offset at which an upload goes on; None if it has ended, or nobody answers."""
        for attempt in range(TRIES):
            answer = self._client.send(
                *("status of an upload", "GET", location, (204,)),
                since=since,
                lost=lambda answer: max(0, acknowledged - answer.received) if acknowledged > 1 else 0,
            )
            if answer.status == 204:
                return answer.received
            if answer.status == 404 or self.pause(attempt):
                return None
        return None

    def finish(self, repository: str, content: Content, location: str, body: bytes, since: float) -> bool:
        """Ends an upload by a PUT with the last bytes; after a broken one, repeats it as far as it may be needed."""
        url = f"{location}{'&' if '?' in location else '?'}digest={quote(content.digest)}"
        answer = self._send("PUT of an upload", "PUT", url, (201,), OCTETS, body, since)
        if self._noted(repository, content, answer):
            return True
        for attempt in range(TRIES):
            # It may have been done already, and then the upload is unknown.
            status = self._client.send("status after a PUT", "GET", location, (204, 404), since=since)
            if status.status == 404:
                return False
            if status.status == 204:
                rest = content.data[status.received :]
                headers = OCTETS | ({"Content-Range": f"{status.received}-{content.size - 1}"} if rest else {})
                answer = self._client.send("PUT again", "PUT", url, (201, 404, 416), headers, rest, since=since)
                if self._noted(repository, content, answer):
                    return True
            if self.pause(attempt):
                return False
        return False

    def _noted(self, repository: str, content: Content, answer: Answer) -> bool:
        """Notes the change that a last request makes to a blob; whether it was acknowledged."""
        key = Key(repository, Thing.BLOB, content.digest)
        done = answer.status == 201
        if done or answer.status == 0 or answer.status >= 500:
            self._client.ledger.changed(Change(key, content.digest, answer.begun, answer.until, done))
        return done

"""Storing: a scripted registry whose blobs lie with a storage service to which it redirects."""

from dataclasses import replace
from urllib.parse import unquote

from .liar import Answer, Liar
from .records import Record

_STORE = "/artifacts-downloads/"
"""Beginning of the paths of blobs at a storage service."""


class Storing(Liar):
    """A registry with redirects for blobs.

    Google's Artifact Registry names its own host, by a path alone
    (https://github.com/rpardini/docker-registry-proxy/issues/115); most name another, whose URL is signed for GET alone
    and which refuses a second kind of credential (https://github.com/distribution/distribution/issues/2055,
    https://github.com/renovatebot/renovate/issues/3877).
    """

    def __init__(self, store: Liar | None = None, status: int = 307) -> None:
        """`store`: where the blobs lie; None for this host itself."""
        super().__init__()
        self.store = store
        self.status = status

    def _honest_answer(self, record: Record, *, ranged: bool) -> Answer:
        path = unquote(record.path)
        if self.store is None and path.startswith(_STORE):
            return self._stored(record, path, ranged=ranged)
        if "/blobs/" not in path:
            return super()._honest_answer(record, ranged=ranged)
        digest = path.rpartition("/")[2]
        location = f"{self.store.url if self.store else ''}{_STORE}v2/any/blobs/{digest}?signature=x"
        return Answer(self.status, {"Location": location, "Content-Type": "text/html"}, b"<a>Found</a>")

    def _stored(self, record: Record, path: str, *, ranged: bool) -> Answer:
        return super()._honest_answer(replace(record, path=f"/{path.removeprefix(_STORE)}"), ranged=ranged)


class Store(Storing):
    """The storage service to which a Storing redirects; it is no registry."""

    def _honest_answer(self, record: Record, *, ranged: bool) -> Answer:
        if record.header("authorization") is not None:
            return _refused(400, "InvalidArgument")
        if record.method == "HEAD":
            return _refused(403, "SignatureDoesNotMatch")
        return self._stored(record, unquote(record.path), ranged=ranged)


def _refused(status: int, code: str) -> Answer:
    return Answer(status, {"Content-Type": "application/xml"}, f"<Error><Code>{code}</Code></Error>".encode())

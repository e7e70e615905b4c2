"""RegistryClient: requests to another registry over HTTP (distribution-spec, "Endpoints")."""

import asyncio
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlencode

from cache.oci.descriptor import Descriptor
from cache.oci.digest import Digest
from cache.oci.document import parse_document
from cache.oci.errors import DigestInvalid, ManifestInvalid
from cache.oci.manifest import SIZE_LIMIT, Manifest
from cache.oci.media_types import ACCEPTED, OCI_INDEX, OCTET_STREAM, SCHEMA_1, essence, is_manifest, single_value
from cache.oci.names import RepositoryName, Tag
from cache.runtime.fair_queue import NOBODY, Requester
from cache.upstream.allowance import RequestKind
from cache.upstream.blob_stream import ResponseBlobStream, content_length
from cache.upstream.egress import Egress, Response
from cache.upstream.errors import Corrupt, FormatUnsupported, NoRoom, NotFound, Unavailable
from cache.upstream.exchange import Exchange, RegistryRequest
from cache.upstream.flow import Compute, Drop, Flow, Grow, ReadDocument, carry_out, carry_out_blocking
from cache.upstream.ledger import Ledger
from cache.upstream.lists import next_page, next_query
from cache.upstream.probe import RegistryProbe
from cache.upstream.quota import Quota
from cache.upstream.statements import Meaning, lacks_referrers
from cache.upstream.tag_lists import TAG_LIST_LIMIT, read_tags
from cache.upstream.tokens import Tokens
from cache.upstream.urls import origin_of, root_of
from cache.upstream.useless_heads import HeadKind, UselessHeads
from cache.values import Fault, Part, ReferrersPage, Rest, Source, TagPage

T = TypeVar("T")

_ACCEPT = ", ".join(ACCEPTED)
_NAMED_TYPES = ("text/html", "text/plain", "application/json", "application/octet-stream")
"""Media types that a reason names; any other may be any text."""

PARSED = 10
"""Bytes that a parsed document takes in memory for each byte of its text, about."""

REFERRERS_PAGES = 100
"""Pages of one list of referrers that are requested for a client."""

_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})")


class RegistryClient:
    """Client of one upstream with one credential. Raises only UpstreamError."""

    def __init__(
        self,
        source: Source,
        url: str,
        egress: Egress,
        tokens: Tokens,
        quota: Quota | None = None,
        *,
        truthful_heads: bool = False,
        heads: UselessHeads | None = None,
    ) -> None:
        """`truthful_heads`: whether the registry refuses a HEAD of a manifest only where it refuses a GET. `heads`:
        what is known of the registry's responses to HEAD, by default nothing yet."""
        self.source = source
        self.quota = quota or Quota(Ledger(), source)
        self._url = root_of(url)
        self._egress = egress.with_credential(source.credential)
        self._tokens = tokens
        self._heads = heads or UselessHeads()
        self._needs_checks = truthful_heads or self.quota.free_checks  # there a GET may cost what a HEAD does not
        self._exchange = Exchange(source, self._url, self._egress, tokens, self.quota, truthful_heads=truthful_heads)

    @property
    def host(self) -> str:
        return self.source.origin.netloc

    @property
    def has_credential(self) -> bool:
        return self._tokens.has_credential

    def probe(self) -> RegistryProbe:
        """A probe of the same upstream, for diagnosis."""
        return RegistryProbe(self._url, self.source.registry, self._egress, self._tokens)

    @property
    def primary(self) -> "RegistryClient":
        """The client that is authoritative for tags: this one."""
        return self

    def fails(self, image: RepositoryName) -> bool:
        """Whether the upstream failed recently, so that the next response may take long or never arrive."""
        return self._egress.circuits.is_open(self.source.origin, self._full_name(image))

    def pause(self, kind: RequestKind, image: RepositoryName | None = None) -> float:
        """Seconds until a request of this kind may be sent, for an image if one is named."""
        return self.quota.pause(kind, self._full_name(image) if image else "")

    async def head_manifest(
        self, image: RepositoryName, reference: Tag | Digest, *, as_proof: bool = False
    ) -> Descriptor | None:
        """Fetch the reference's target by HEAD; None if the response does not state it, or proves nothing: then only a
        GET tells whether it exists. None at once where HEADs of this registry have proved nothing lately."""
        if not self._needs_checks and self._heads.are_useless(HeadKind.MANIFEST, image):
            return None
        request = self._request(RequestKind.CHECK, image, "HEAD", f"manifests/{reference}", {"Accept": _ACCEPT})
        response, heard = await carry_out(self._exchange.head(request), self._egress)
        target = self._target_of(response) if response is not None else None
        if target is None:
            self._heads.doubt(image, reference, own=heard.own)
        else:
            self._heads.note_useful(HeadKind.MANIFEST, image, own=heard.own)
        return None if as_proof and not heard.vouched else target

    def _target_of(self, response: Response) -> Descriptor | None:
        """The descriptor that a response to HEAD states; None if it does not state all of it."""
        media_type, size = essence(response.headers.get("content-type", "")), content_length(response)
        if not is_manifest(media_type) or not size:
            return None
        digest = _stated_digest(response)
        return Descriptor(media_type, digest, size) if digest else None

    async def get_manifest(
        self,
        image: RepositoryName,
        reference: Tag | Digest,
        held: Manifest | None = None,
        requester: Requester = NOBODY,
    ) -> Manifest:
        """Fetch a manifest, verified against the requested digest, else against the one that the upstream names.

        `held`: returned if the upstream confirms that it is still what the reference means.
        """
        if held is None:  # once this request waits itself: starting the threads takes a few milliseconds
            asyncio.get_running_loop().call_soon(self._egress.open_ahead, self._url)
        found = False
        try:
            manifest = await carry_out(self._get_manifest(image, reference, held), self._egress, requester)
            found = True
        finally:
            self._heads.settle(image, reference, found=found)
        return manifest

    async def head_blob(self, image: RepositoryName, digest: Digest, *, as_proof: bool = False) -> int | None:
        """Fetch the blob's size in bytes by HEAD or, where that proves nothing, by a GET of its first byte; None if the
        upstream does not state it. Raises Corrupt for an HTML page, which proves no right."""
        return await carry_out(self._head_blob(image, digest, as_proof), self._egress)

    def _head_blob(self, image: RepositoryName, digest: Digest, as_proof: bool) -> Flow[int | None]:
        path, useless = f"blobs/{digest}", self._heads.are_useless(HeadKind.BLOB, image)
        own = True
        if not useless:
            request = self._request(RequestKind.CONTENT, image, "HEAD", path, {})
            response, heard = yield from self._exchange.head(request)
            own = heard.own
            size = content_length(response) if response is not None and not _is_page(response) else None
            if size or (size == 0 and digest.holds_for(b"")):
                self._heads.note_useful(HeadKind.BLOB, image, own=own)
                return None if as_proof and not heard.vouched else size
        request = self._request(RequestKind.CONTENT, image, "GET", path, {"Range": "bytes=0-0"})
        heard = yield from self._exchange.hear(request)
        if heard.meaning is not Meaning.CONTENT:
            yield from self._exchange.refuse(heard, request)
        response = heard.response
        yield Drop(response)
        self._refuse_page(response, digest)
        if not useless and response.status_code in (200, 206):
            self._heads.note_useless(HeadKind.BLOB, image, own=own)
        if as_proof and not heard.vouched:
            return None
        if response.status_code == 200:
            return content_length(response)
        if response.status_code != 206:
            raise Unavailable(f"{self.host} responded with {response.status_code} to a request for a blob")
        given = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", "").strip().lower())
        return int(given[3]) if given else None

    @contextmanager
    def open_blob(
        self, image: RepositoryName, digest: Digest, part: Part | Rest | None = None
    ) -> Iterator[ResponseBlobStream]:
        """Open a blob, or a part of it, for a thread; blocks. A Part is provided exactly, or Unavailable is raised.

        For a Rest, the upstream may send the whole blob; `start` of the stream shows which. Each request is sent
        to the upstream's own address, because the target of an earlier redirect may have expired.
        """
        headers = {"Range": part.range} if part else {}
        kind = RequestKind.PART if part else RequestKind.CONTENT
        request = self._request(kind, image, "GET", f"blobs/{digest}", headers)
        response = carry_out_blocking(self._exchange.content(request), self._egress)
        stream: ResponseBlobStream | None = None
        try:
            self._refuse_page(response, digest)
            start = _start_of(response, part)
            if start is None:
                raise Unavailable(f"{self.host} responded to a request for a part of a blob with something else")
            stream = ResponseBlobStream(response, start, self._egress.traffic.received, self._egress.timings.progress)
            yield stream
        finally:
            if stream is not None:
                stream.close()
            response.close()

    def _refuse_page(self, response: Response, digest: Digest) -> None:
        """Raise Corrupt for an HTML page instead of a blob."""
        if _is_page(response):
            raise Corrupt(f"{self.host} responded with an HTML page for blob {digest}", Fault.HTML)

    async def tags(self, image: RepositoryName, query: str = "", requester: Requester = NOBODY) -> TagPage:
        """Fetch the page of tags that a query requests, as long as it comes."""
        return await carry_out(self._tags(image, query), self._egress, requester)

    def _tags(self, image: RepositoryName, query: str) -> Flow[TagPage]:
        path = "tags/list" + (f"?{query}" if query else "")
        request = self._request(RequestKind.LIST, image, "GET", path, {"Accept": "application/json"})
        response = yield from self._exchange.content(request)
        names, size = yield ReadDocument(response, TAG_LIST_LIMIT, self._tag_names, PARSED)
        link = ", ".join(response.headers.get_list("link"))
        origins = (self.source.origin, origin_of(str(response.url)))
        return TagPage(names, next_page(link, f"{self._url}/?{query}", origins, names), size)

    async def referrers(
        self, image: RepositoryName, digest: Digest, artifact_type: str | None, requester: Requester = NOBODY
    ) -> ReferrersPage:
        """List referrers by the referrers API or, if the upstream lacks it, by the fallback tag (distribution-spec
        1.1)."""
        query = urlencode({"artifactType": artifact_type}) if artifact_type is not None else ""
        return await carry_out(self._referrers(image, digest, query), self._egress, requester)

    def _referrers(self, image: RepositoryName, digest: Digest, query: str) -> Flow[ReferrersPage]:
        """All pages of the list in one; a list that is too long is refused, as one that is cut short would be wrong."""
        manifests: list[dict[str, Any]] = []
        size, filtered, requested = 0, True, {query}
        while True:
            path = f"referrers/{digest}{f'?{query}' if query else ''}"
            request = self._request(RequestKind.LIST, image, "GET", path, {"Accept": OCI_INDEX})
            heard = yield from self._exchange.hear(request)
            response = heard.response
            if lacks_referrers(response.status_code, response.headers, heard.meaning, own=heard.own):
                yield Drop(response)
                if manifests:
                    raise Unavailable(f"{self.host} did not send all pages of a list of referrers")
                return (yield from self._referrers_by_tag(image, digest))
            if heard.meaning is not Meaning.CONTENT:
                yield from self._exchange.refuse(heard, request)
            page, page_size = yield from self._read_json(response, self._descriptors)
            manifests, size = manifests + page, size + page_size
            filtered = filtered and "artifactType" in response.headers.get("oci-filters-applied", "")
            query = self._next_referrers(response, query)
            if not query or query in requested:
                return ReferrersPage(manifests, filtered, size)
            requested.add(query)
            if size > SIZE_LIMIT or len(requested) > REFERRERS_PAGES:
                limits = f"{SIZE_LIMIT} bytes or {REFERRERS_PAGES} pages"
                raise Corrupt(f"{self.host} has a list of referrers of more than {limits}", Fault.SIZE)

    def _next_referrers(self, response: Response, query: str) -> str:
        """The query of the next page of referrers; empty at the end. Raises Corrupt."""
        origins = (self.source.origin, origin_of(str(response.url)))
        link = ", ".join(response.headers.get_list("link"))
        try:
            return next_query(link, f"{self._url}/?{query}", origins)
        except ValueError as error:
            raise Corrupt(f"{self.host} sent a list of referrers that is not complete: {error}") from error

    def _referrers_by_tag(self, image: RepositoryName, digest: Digest) -> Flow[ReferrersPage]:
        tag = Tag.parse(f"{digest.algorithm}-{digest.hex}"[:128])
        try:
            raw = (yield from self._get_manifest(image, tag)).raw
        except NotFound:
            return ReferrersPage([], filtered=False)
        yield Grow(len(raw) * PARSED)
        manifests = yield Compute(lambda: self._descriptors(parse_document(raw)), len(raw))
        return ReferrersPage(manifests, filtered=False, size=len(raw))

    def _full_name(self, image: RepositoryName) -> str:
        """The name of an image at the upstream's host, which may have other registries below other paths."""
        return self.source.registry.full_name(image)

    def _request(
        self, kind: RequestKind, image: RepositoryName, method: str, path: str, headers: Mapping[str, str]
    ) -> RegistryRequest:
        return RegistryRequest(kind, self._full_name(image), method, path, headers)

    def _tag_names(self, raw: bytes | None) -> tuple[list[str], int]:
        """The tags in a document, and its size. Raises Corrupt."""
        if raw is None:
            raise Corrupt(f"{self.host} sent a list of tags of more than {TAG_LIST_LIMIT} bytes", Fault.SIZE)
        try:
            return read_tags(raw), len(raw)
        except ValueError as error:
            raise Corrupt(f"{self.host} returned an invalid tag list: {error}", Fault.JSON) from error

    def _descriptors(self, document: dict[str, Any]) -> list[dict[str, Any]]:
        """The entries of a list of referrers that name a manifest; nobody could pull any others."""
        return [entry for entry in self._list(document, "manifests") if Descriptor.find(entry, OCTET_STREAM)]

    def _get_manifest(
        self, image: RepositoryName, reference: Tag | Digest, held: Manifest | None = None
    ) -> Flow[Manifest]:
        condition = {"If-None-Match": f'"{held.descriptor.digest}"'} if held else {}
        headers = {"Accept": _ACCEPT} | condition
        request = self._request(RequestKind.PULL, image, "GET", f"manifests/{reference}", headers)
        response = yield from self._exchange.content(request)
        if response.status_code == 304 and held:
            return held
        media_type = essence(response.headers.get("content-type", ""))
        if not is_manifest(media_type):
            yield from self._refuse_schema_1(response, media_type, f"{image}:{reference}")
            fault = Fault.HTML if media_type == "text/html" else Fault.MEDIA_TYPE
            sent = media_type if media_type in _NAMED_TYPES else "another media type" if media_type else "no media type"
            raise Corrupt(f"{self.host} responded with {sent} for a manifest", fault)
        promised = reference if isinstance(reference, Digest) else _stated_digest(response)
        verify = partial(self._verified, image, media_type, promised)
        try:
            manifest: Manifest = yield ReadDocument(response, SIZE_LIMIT, verify)
        except NoRoom:
            raise
        except Unavailable as error:
            raise Corrupt(f"the manifest ended early: {error.reason}", Fault.BROKEN) from error
        return manifest

    def _refuse_schema_1(self, response: Response, media_type: str, name: str) -> Flow[None]:
        """Close a response that is no manifest. Raises FormatUnsupported for Docker's schema 1, by its media type or,
        as `application/json`, by its document."""
        version = None
        if media_type == "application/json":
            version = yield ReadDocument(response, SIZE_LIMIT, _schema_version)
        else:
            yield Drop(response)
        if media_type in SCHEMA_1 or version == 1:
            raise FormatUnsupported(
                f"{self.host} has {name} only in Docker's old schema 1 format, which is not served: push it there "
                "again with a current client"
            )

    def _verified(self, image: RepositoryName, media_type: str, promised: Digest | None, raw: bytes | None) -> Manifest:
        """Parse a manifest that has the promised digest. Raises Corrupt, also for None, which is too large."""
        if raw is None:
            raise Corrupt(f"{self.host} sent a manifest of more than {SIZE_LIMIT} bytes", Fault.SIZE)
        if promised and not promised.holds_for(raw):
            raise Corrupt(f"{self.host} sent a manifest that does not match the digest {promised}", Fault.DIGEST, raw)
        if promised:
            self._egress.circuits.note_valid_content(self.source.origin, self._full_name(image))
        try:
            return Manifest.parse(media_type, raw, promised.algorithm if promised else "sha256")
        except ManifestInvalid as error:
            raise Corrupt(f"{self.host} sent an invalid manifest: {error.detail}", Fault.MANIFEST, raw) from error

    def _read_json(self, response: Response, read: Callable[[dict[str, Any]], T]) -> Flow[tuple[T, int]]:
        """Read a document; return what `read` makes of it, and its size."""

        def parse(raw: bytes | None) -> tuple[T, int]:
            if raw is None:
                raise Corrupt(f"{self.host} sent a list of more than {SIZE_LIMIT} bytes", Fault.SIZE)
            return read(self._document(raw)), len(raw)

        found: tuple[T, int] = yield ReadDocument(response, SIZE_LIMIT, parse, PARSED)
        return found

    def _document(self, raw: bytes) -> dict[str, Any]:
        try:
            document = parse_document(raw)
        except ValueError as error:
            raise Corrupt(f"{self.host} returned invalid JSON: {error}", Fault.JSON) from error
        if not isinstance(document, dict):
            raise Corrupt(f"{self.host} returned JSON that is no object", Fault.JSON)
        return document

    def _list(self, document: dict[str, Any], key: str) -> list[Any]:
        """The list in a document; some registries send null for an empty one. Raises Corrupt."""
        found = document.get(key)
        if found is not None and not isinstance(found, list):
            raise Corrupt(f"{self.host} returned JSON whose {key} are no list", Fault.JSON)
        return found or []


def _is_page(response: Response) -> bool:
    return essence(response.headers.get("content-type", "")) == "text/html"


def _stated_digest(response: Response) -> Digest | None:
    """The digest that a response states; None if it states none, or one that is none."""
    try:
        return Digest.parse(single_value(response.headers.get("docker-content-digest", "")).lower())
    except DigestInvalid:
        return None


def _schema_version(raw: bytes | None) -> object:
    try:
        document = parse_document(raw or b"")
    except ValueError:
        return None
    return document.get("schemaVersion") if isinstance(document, dict) else None


def _start_of(response: Response, part: Part | Rest | None) -> int | None:
    """Offset in the blob at which the body begins; None if the body is not what was requested."""
    given = response.headers.get("content-range", "").strip().lower()
    length = content_length(response)
    match part:
        case None:
            return 0
        case Part(start, stop, _):
            whole_part = response.status_code == 206 and given == part.content_range
            return start if whole_part and length == stop - start else None
        case Rest(start, size) if response.status_code == 206:
            match = _CONTENT_RANGE.fullmatch(given)
            total = int(match[3]) if match else -1
            fits = match and (int(match[1]), int(match[2])) == (start, total - 1) and size in (None, total)
            return start if fits and length in (None, total - start) else None
        case Rest():
            return 0 if response.status_code == 200 else None

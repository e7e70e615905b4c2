"""RegistryClient: requests to another registry over HTTP (distribution-spec, "Endpoints")."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, TypeVar
from urllib.parse import quote, urlencode, urlsplit

from cache.oci.descriptor import Descriptor
from cache.oci.digest import Digest
from cache.oci.document import parse_document
from cache.oci.errors import DigestInvalid, ManifestInvalid
from cache.oci.manifest import SIZE_LIMIT, Manifest
from cache.oci.media_types import ACCEPTED, OCI_INDEX, SCHEMA_1, essence, is_manifest, single_value
from cache.oci.names import RepositoryName, Tag
from cache.upstream.allowance import RequestKind, parse_stated_limit, retry_after
from cache.upstream.blob_stream import ResponseBlobStream, content_length
from cache.upstream.egress import Egress, Response, drop
from cache.upstream.errors import AccessDenied, Corrupt, FormatUnsupported, NotFound, RateLimited, Unavailable
from cache.upstream.flow import Compute, Drop, Flow, Open, Read, carry_out, carry_out_blocking
from cache.upstream.ledger import Ledger
from cache.upstream.lists import next_page, tag_names
from cache.upstream.probe import RegistryProbe
from cache.upstream.quota import Quota
from cache.upstream.refusals import ERROR_LIMIT, may_speak_for_registry, speaks_for_registry
from cache.upstream.tokens import Tokens
from cache.upstream.urls import origin_of, redirect_target, root_of
from cache.values import Fault, Part, ReferrersPage, Rest, Source, TagPage

T = TypeVar("T")

REDIRECT_LIMIT = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_ACCEPT = ", ".join(ACCEPTED)
_NAMED_TYPES = ("text/html", "text/plain", "application/json", "application/octet-stream")
"""Media types that a reason names; any other may be any text."""

_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})")


class RegistryClient:
    """Client of one upstream with one credential. Raises only UpstreamError."""

    def __init__(self, source: Source, url: str, egress: Egress, tokens: Tokens, quota: Quota | None = None) -> None:
        self.source = source
        self.quota = quota or Quota(Ledger(), source)
        self._url = root_of(url)
        self._egress = egress.with_credential(source.credential)
        self._tokens = tokens

    @property
    def host(self) -> str:
        return self.source.origin.host

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

    def pause(self, kind: RequestKind) -> float:
        """Seconds until a request of this kind may be sent."""
        return self.quota.pause(kind)

    async def head_manifest(self, image: RepositoryName, reference: Tag | Digest) -> Descriptor | None:
        """Fetch the reference's target; None if the response does not state it (not all registries send a digest)."""
        flow = self._request(RequestKind.CHECK, image, "HEAD", f"manifests/{reference}", {"Accept": _ACCEPT})
        response = await carry_out(flow, self._egress)
        await drop(response)
        media_type, size = essence(response.headers.get("content-type", "")), content_length(response)
        if not is_manifest(media_type) or size is None:
            return None
        digest = _stated_digest(response)
        return Descriptor(media_type, digest, size) if digest else None

    async def get_manifest(self, image: RepositoryName, reference: Tag | Digest) -> Manifest:
        """Fetch a manifest, verified against the requested digest, else against the one that the upstream names."""
        return await carry_out(self._get_manifest(image, reference), self._egress)

    async def head_blob(self, image: RepositoryName, digest: Digest) -> int | None:
        """Fetch the blob's size in bytes; None if the upstream does not state it. Raises Corrupt for an HTML page,
        which proves no right."""
        response = await carry_out(self._request(RequestKind.CONTENT, image, "HEAD", f"blobs/{digest}"), self._egress)
        await drop(response)
        self._refuse_page(response, digest)
        return content_length(response)

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
        flow = self._request(kind, image, "GET", f"blobs/{digest}", headers)
        response = carry_out_blocking(flow, self._egress)
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
        if essence(response.headers.get("content-type", "")) == "text/html":
            raise Corrupt(f"{self.host} responded with an HTML page for blob {digest}", Fault.HTML)

    async def tags(self, image: RepositoryName, query: str = "") -> TagPage:
        """Fetch the page of tags that a query requests, as long as it comes."""
        path = "tags/list" + (f"?{query}" if query else "")
        names, size, response = await carry_out(self._get_json(image, path, self._tag_names), self._egress)
        link = ", ".join(response.headers.get_list("link"))
        origins = (self.source.origin, origin_of(str(response.url)))
        return TagPage(names, next_page(link, f"{self._url}/?{query}", origins, names), size)

    async def referrers(self, image: RepositoryName, digest: Digest, artifact_type: str | None) -> ReferrersPage:
        """List referrers by the referrers API or, if the upstream lacks it, by the fallback tag (distribution-spec
        1.1)."""
        query = f"?{urlencode({'artifactType': artifact_type})}" if artifact_type is not None else ""
        return await carry_out(self._referrers(image, digest, query), self._egress)

    def _referrers(self, image: RepositoryName, digest: Digest, query: str) -> Flow[ReferrersPage]:
        try:
            path = f"referrers/{digest}{query}"
            manifests, size, response = yield from self._get_json(image, path, self._descriptors, OCI_INDEX)
            return ReferrersPage(manifests, "artifactType" in response.headers.get("oci-filters-applied", ""), size)
        except NotFound:
            tag = Tag.parse(f"{digest.algorithm}-{digest.hex}"[:128])
            try:
                raw = (yield from self._get_manifest(image, tag)).raw
            except NotFound:
                return ReferrersPage([], filtered=False)
        manifests = yield Compute(lambda: self._descriptors(parse_document(raw)), len(raw))
        return ReferrersPage(manifests, filtered=False, size=len(raw))

    def _tag_names(self, document: dict[str, Any]) -> list[str]:
        try:
            return tag_names(document)
        except ValueError as error:
            raise Corrupt(f"{self.host} returned an invalid tag list: {error}", Fault.JSON) from error

    def _descriptors(self, document: dict[str, Any]) -> list[dict[str, Any]]:
        manifests = self._list(document, "manifests")
        try:
            for place, entry in enumerate(manifests):
                Descriptor.parse(entry, f"manifests[{place}]")
        except ManifestInvalid as error:
            reason = f"{self.host} returned an invalid list of referrers: {error.detail}"
            raise Corrupt(reason, Fault.MANIFEST) from error
        return manifests

    def _get_manifest(self, image: RepositoryName, reference: Tag | Digest) -> Flow[Manifest]:
        path = f"manifests/{reference}"
        response = yield from self._request(RequestKind.PULL, image, "GET", path, {"Accept": _ACCEPT})
        media_type = essence(response.headers.get("content-type", ""))
        if not is_manifest(media_type):
            yield from self._refuse_schema_1(response, media_type, f"{image}:{reference}")
            fault = Fault.HTML if media_type == "text/html" else Fault.MEDIA_TYPE
            sent = media_type if media_type in _NAMED_TYPES else "another media type" if media_type else "no media type"
            raise Corrupt(f"{self.host} responded with {sent} for a manifest", fault)
        try:
            raw = yield Read(response, SIZE_LIMIT)
        except Unavailable as error:
            raise Corrupt(f"the manifest ended early: {error.reason}", Fault.BROKEN) from error
        if raw is None:
            raise Corrupt(f"{self.host} sent a manifest of more than {SIZE_LIMIT} bytes", Fault.SIZE)
        promised = reference if isinstance(reference, Digest) else _stated_digest(response)
        manifest: Manifest = yield Compute(lambda: self._verified(image, media_type, raw, promised), len(raw))
        return manifest

    def _refuse_schema_1(self, response: Response, media_type: str, name: str) -> Flow[None]:
        """Close a response that is no manifest. Raises FormatUnsupported for Docker's schema 1, by its media type or,
        as `application/json`, by its document."""
        raw = (yield Read(response, SIZE_LIMIT)) if media_type == "application/json" else (yield Drop(response))
        if media_type in SCHEMA_1 or (yield Compute(lambda: _schema_version(raw or b"") == 1, len(raw or b""))):
            raise FormatUnsupported(
                f"{self.host} has {name} only in Docker's old schema 1 format, which is not served: push it there "
                "again with a current client"
            )

    def _verified(self, image: RepositoryName, media_type: str, raw: bytes, promised: Digest | None) -> Manifest:
        """Parse a manifest that has the promised digest. Raises Corrupt."""
        if promised and not promised.holds_for(raw):
            raise Corrupt(f"{self.host} sent a manifest that does not match the digest {promised}", Fault.DIGEST, raw)
        if promised:
            self._egress.circuits.note_valid_content(self.source.origin, self._full_name(image))
        try:
            return Manifest.parse(media_type, raw, promised.algorithm if promised else "sha256")
        except ManifestInvalid as error:
            raise Corrupt(f"{self.host} sent an invalid manifest: {error.detail}", Fault.MANIFEST, raw) from error

    def _get_json(
        self,
        image: RepositoryName,
        path: str,
        read: Callable[[dict[str, Any]], T],
        accept: str = "application/json",
    ) -> Flow[tuple[T, int, Response]]:
        """Fetch a document; return what `read` makes of it, and its size."""
        response = yield from self._request(RequestKind.CONTENT, image, "GET", path, {"Accept": accept})
        raw = (yield Read(response, SIZE_LIMIT)) or b""
        found: T = yield Compute(lambda: read(self._document(raw)), len(raw))
        return found, len(raw), response

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

    def _request(
        self, kind: RequestKind, image: RepositoryName, method: str, path: str, headers: Mapping[str, str] | None = None
    ) -> Flow[Response]:
        """Send a request with tokens and redirects; return a 2xx response. Other responses raise errors; while the
        quota allows no request, RateLimited is raised without one."""
        with self.quota.request(kind) as counted:
            try:
                response = yield from self._authorized(kind, image, method, path, headers)
            except RateLimited as error:
                counted.refused(None, error.retry_after)
                raise
            own = origin_of(str(response.url)) == self.source.origin
            stated = parse_stated_limit(response.headers) if own else None
            if own and response.status_code == 429:
                counted.refused(stated, retry_after(response.headers))
            else:
                counted.responded(stated)
        if 200 <= response.status_code < 300:
            return response
        yield from self._hear(response, self._blamed(kind, image))
        raise self._refusal(response, image)

    def _hear(self, response: Response, image: str) -> Flow[None]:
        """Close a refusal. Where its body alone can show that the registry itself refuses, read it, and record that
        the registry works."""
        status, origin = response.status_code, origin_of(str(response.url))
        own, media_type = origin == self.source.origin, essence(response.headers.get("content-type", ""))
        if not may_speak_for_registry(status, own=own) or not media_type.endswith("json"):
            yield Drop(response)
            return
        with suppress(Unavailable):
            body = yield Read(response, ERROR_LIMIT)
            if speaks_for_registry(status, response.headers, body or b"", own=own):
                self._egress.circuits.note_alive(origin, image, redirected=not own)

    def _authorized(
        self, kind: RequestKind, image: RepositoryName, method: str, path: str, headers: Mapping[str, str] | None
    ) -> Flow[Response]:
        """Send a request, and again with a new token after a 401."""
        name = self._full_name(image)
        scope = f"repository:{name}:pull"
        blamed = self._blamed(kind, image)
        url = f"{self._url}/v2/{quote(name)}/{path}"
        plain = {"Accept-Encoding": "identity", "User-Agent": "registry-gateway", **(headers or {})}
        authorization = yield from self._tokens.authorization(scope)
        response = yield from self._walk(method, url, plain, authorization, blamed)
        if response.status_code == 401 and origin_of(str(response.url)) == self.source.origin:
            yield Drop(response)
            wanted = ", ".join(response.headers.get_list("www-authenticate"))
            renewed = yield from self._tokens.renewed(scope, authorization, wanted)
            if renewed is None:
                raise AccessDenied(f"{self.host} refuses access to {image}")
            response = yield from self._walk(method, url, plain, renewed, blamed)
        return response

    def _walk(
        self, method: str, url: str, plain: Mapping[str, str], authorization: str | None, blamed: str
    ) -> Flow[Response]:
        """Send a request and follow redirects. The credential is sent only to the upstream's own origin, and no longer
        once a redirect has left it."""
        own = True
        for _ in range(REDIRECT_LIMIT + 1):
            if not self._egress.allows(url):
                raise Unavailable(f"{self.host} redirects to {urlsplit(url).hostname}, which is not an allowed host")
            own = own and origin_of(url) == self.source.origin
            headers = {"Host": urlsplit(url).netloc, **plain}
            credential = {"Authorization": authorization} if own and authorization else {}
            response: Response = yield Open(method, url, headers | credential, blamed, redirected=not own)
            if response.status_code not in _REDIRECTS or "location" not in response.headers:
                return response
            yield Drop(response)
            try:
                url = redirect_target(url, response.headers["location"])
                _refuse_echo(url, authorization)
            except ValueError as error:
                raise Unavailable(f"{urlsplit(url).hostname} redirects to a forbidden location: {error}") from error
        raise Unavailable(f"{self.host} redirects more than {REDIRECT_LIMIT} times")

    def _full_name(self, image: RepositoryName) -> str:
        """The name of an image at the upstream's host, which may have other registries below other paths."""
        return self.source.registry.full_name(image)

    def _blamed(self, kind: RequestKind, image: RepositoryName) -> str:
        """The image that a failure counts for; none for a part, since an upstream that fails at ranges may still serve
        the whole blob."""
        return "" if kind is RequestKind.PART else self._full_name(image)

    def _refusal(self, response: Response, image: RepositoryName) -> Exception:
        status, origin = response.status_code, origin_of(str(response.url))
        if origin != self.source.origin:
            return Unavailable(f"{origin.host}, to which {self.host} redirects, responded with {status}")
        if status in (404, 410):
            return NotFound(f"{self.host} does not have this content in {image}")
        if status in (401, 403):
            return AccessDenied(f"{self.host} refuses access to {image}")
        if status == 429:
            return RateLimited(self.quota.reason(), retry_after(response.headers))
        return Unavailable(f"{self.host} responded with {status}")


def _refuse_echo(url: str, authorization: str | None) -> None:
    """Raise ValueError for a redirect whose host repeats our credential: hosts are named in reasons."""
    secret = (authorization or "").rpartition(" ")[2].lower()
    if secret and secret in urlsplit(url).netloc.lower():
        raise ValueError("the location repeats the credential")


def _stated_digest(response: Response) -> Digest | None:
    """The digest that a response states; None if it states none, or one that is none."""
    try:
        return Digest.parse(single_value(response.headers.get("docker-content-digest", "")).lower())
    except DigestInvalid:
        return None


def _schema_version(raw: bytes) -> object:
    try:
        document = parse_document(raw)
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

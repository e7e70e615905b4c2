"""Registries that list tags as public ones do: a Liar with one way of paging, named after where it was seen."""

import base64
import json
import re
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode

from .images import INDEX, digest_of
from .liar import Answer, Liar
from .records import Record

_PATH = re.compile(r"(.*/v2/(.+))/tags/list")
_REFERRERS = re.compile(r".*/v2/.+/referrers/sha256:[0-9a-f]{64}")

Listing = Callable[["ListingRegistry", str, dict[str, str]], Answer]
"""A way of paging: the response to a request for a path, with its query."""


class ListingRegistry(Liar):
    """A registry of one way of paging, with these tags under any name.

    As Artifactory does, it refuses a request for tags that accepts media types of manifests
    (https://github.com/renovatebot/renovate/issues/3078).
    """

    def __init__(self, listing: Listing, tags: Sequence[str]) -> None:
        super().__init__()
        self.tags = list(tags)
        self.referrers: list[dict[str, Any]] = []
        self._listing = listing

    def _honest_answer(self, record: Record, *, ranged: bool) -> Answer:
        path = unquote(record.path)
        if match := _PATH.fullmatch(path):
            if "manifest" in (record.header("accept") or "") or "image" in (record.header("accept") or ""):
                return _refused(406, "UNSUPPORTED", "Not Acceptable")
            return self._listing(self, match[0], dict(parse_qsl(record.query, keep_blank_values=True)))
        if _REFERRERS.fullmatch(path):
            return self._referrers(path, dict(parse_qsl(record.query, keep_blank_values=True)))
        return super()._honest_answer(record, ranged=ranged)

    def _referrers(self, path: str, query: dict[str, str]) -> Answer:
        """Harbor: pages of referrers with a relative Link that repeats the filter
        (https://github.com/goharbor/harbor/blob/main/src/server/registry/referrers.go); some clients overlooked it
        (https://github.com/google/go-containerregistry/issues/2446)."""
        wanted, place = query.get("artifactType"), int(query.get("page", 1))
        found = [entry for entry in self.referrers if wanted in (None, entry["artifactType"])]
        body = {"schemaVersion": 2, "mediaType": INDEX, "manifests": found[place * 10 - 10 : place * 10]}
        headers = {"Content-Type": INDEX} | ({"OCI-Filters-Applied": "artifactType"} if wanted else {})
        if place * 10 < len(found):
            more = urlencode({"page": place + 1, "page_size": 10} | ({"artifactType": wanted} if wanted else {}))
            headers["Link"] = f'<{path}?{more}>; rel="next"'
        return Answer(200, headers, json.dumps(body).encode())


def by_name(registry: ListingRegistry, path: str, query: dict[str, str]) -> Answer:
    """Pages as the specification has them (distribution-spec, "Listing Tags"), of 100 tags at most, as Quay's today
    (https://github.com/quay/quay/blob/master/endpoints/v2/tag.py)."""
    begin = registry.tags.index(query["last"]) + 1 if query.get("last") in registry.tags else 0
    size = min(int(query.get("n", 100)), 100)
    page, end = registry.tags[begin : begin + size], begin + size
    return _listed(page, f'<{path}?last={page[-1]}&n={size}>; rel="next"' if end < len(registry.tags) else None)


def ecr(registry: ListingRegistry, path: str, query: dict[str, str]) -> Answer:
    """Amazon ECR: 100 tags, `text/plain`, an absolute Link whose `last` is a token of its own
    (https://github.com/deitch/docker_registry2/issues/34); 405 for another `last`
    (https://github.com/CodesWhat/drydock/pull/927) and for `n` above 1000
    (https://github.com/google/go-containerregistry/issues/681)."""
    begin, size = _opened(query.get("last")), int(query.get("n", 100))
    if begin is None or size > 1000:
        return _refused(405, "UNSUPPORTED", "Invalid parameter at 'NextToken' failed to satisfy constraint")
    end = begin + min(size, 100)
    more = f'<{registry.url}{path}?last={quote(_token(end), safe="")}>; rel="next"'
    page = _listed(registry.tags[begin:end], more if end < len(registry.tags) else None)
    return Answer(page.status, page.headers | {"Content-Type": "text/plain; charset=utf-8"}, page.body)


def older_quay(registry: ListingRegistry, path: str, query: dict[str, str]) -> Answer:
    """Quay before 2022: pages of 50, a relative Link with `next_page=`, and `last` ignored
    (https://github.com/deitch/docker_registry2/issues/56)."""
    begin = _opened(query.get("next_page")) or 0
    end = begin + 50
    more = f'<{path}?next_page={quote(_token(end), safe="")}&n=50>; rel="next"'
    return _listed(registry.tags[begin:end], more if end < len(registry.tags) else None)


def google(registry: ListingRegistry, path: str, query: dict[str, str]) -> Answer:
    """Google's: all tags in one piece whatever `n` and `last` say, with members of its own
    (https://github.com/google/go-containerregistry/issues/897)."""
    manifests = {
        digest_of(tag.encode()): {
            "imageSizeBytes": "1234567",
            "layerId": "",
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "tag": [tag],
            "timeCreatedMs": "1700000000000",
            "timeUploadedMs": "1700000000000",
        }
        for tag in registry.tags
    }
    document = {"child": [], "manifest": manifests, "name": "any", "tags": registry.tags}
    return Answer(200, {"Content-Type": "application/json"}, json.dumps(document).encode())


def artifactory(registry: ListingRegistry, path: str, query: dict[str, str]) -> Answer:
    """Artifactory: a Link without the prefix of the repository and with a number for `last`
    (https://github.com/renovatebot/renovate/issues/15080), digests among the tags
    (https://github.com/containers/image/blob/main/docker/docker_image.go, GetRepositoryTags)."""
    begin = int(query["last"]) if query.get("last", "").isdigit() else 0
    end = begin + int(query.get("n", 100))
    more = f'</v2/lost/tags/list?n={query.get("n", 100)}&last={end}>; rel="next"' if end < len(registry.tags) else None
    return _listed([*registry.tags[begin:end], digest_of(b"a tag?")], more)


def nexus(registry: ListingRegistry, path: str, query: dict[str, str]) -> Answer:
    """Nexus: null among the tags (https://github.com/containers/skopeo/issues/2346), and an absolute Link with a path
    inside the server (https://github.com/sonatype/nexus-public/issues/1011)."""
    begin = registry.tags.index(query["last"]) + 1 if query.get("last") in registry.tags else 0
    end = begin + int(query.get("n", 100))
    page: list[str | None] = [*registry.tags[begin:end]]
    more = f'<{registry.url}/repository/docker{path}?n={end - begin}&last={page[-1]}>; rel="next"' if page else None
    return _listed([None, *page, ""], more if end < len(registry.tags) else None)


def older_distribution(registry: ListingRegistry, path: str, query: dict[str, str]) -> Answer:
    """The distribution project's registry 2.8: `n` and `last` are ignored
    (https://github.com/distribution/distribution/blob/v2.8.3/registry/handlers/tags.go)."""
    return _listed(registry.tags, None)


def repeating(registry: ListingRegistry, path: str, query: dict[str, str]) -> Answer:
    """A Link that repeats the request, with which clients end the list
    (https://github.com/renovatebot/renovate/blob/main/lib/modules/datasource/docker/index.ts)."""
    return _listed(
        registry.tags, f'<{path}?{"&".join(f"{name}={value}" for name, value in query.items())}>; rel="next"'
    )


def elsewhere(registry: ListingRegistry, path: str, query: dict[str, str]) -> Answer:
    """Pages as the specification has them, whose Link names an inner host, as a registry behind a reverse proxy sends
    it (https://github.com/distribution/distribution/issues/2862)."""
    page = by_name(registry, path, query)
    if more := page.headers.pop("Link", ""):
        page.headers["Link"] = more.replace("<", "<http://inner.example:5000").replace("last=", "at=")
    return page


NOT_STRAIGHT: list[Listing] = [repeating, elsewhere]
"""Ways of paging whose Link leads skopeo in a circle, since it looks only at the path and the query."""

LISTINGS: list[Listing] = [
    by_name,
    ecr,
    older_quay,
    google,
    artifactory,
    nexus,
    older_distribution,
    repeating,
    elsewhere,
]


def _listed(tags: Sequence[str | None], more: str | None) -> Answer:
    headers = {"Content-Type": "application/json"} | ({"Link": more} if more else {})
    return Answer(200, headers, json.dumps({"name": "any", "tags": tags}).encode())


def _refused(status: int, code: str, message: str) -> Answer:
    body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
    return Answer(status, {"Content-Type": "application/json"}, body)


def _token(place: int) -> str:
    """A token that stands for a place in the list and looks like none: no tag, with characters of a query."""
    return base64.b64encode(f"place&in=the list {place}".encode()).decode()


def _opened(token: str | None) -> int | None:
    """The place of a token; 0 without one, None for what is none."""
    try:
        return 0 if token is None else int(base64.b64decode(token, validate=True).rpartition(b" ")[2])
    except ValueError:
        return None

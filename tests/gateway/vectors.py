"""Table of requests that must be refused before anything is done for them, and how each is refused."""

from collections.abc import Iterator
from dataclasses import dataclass

PROXIED = "/v2/hub/dependency_proxy/containers"
DIGEST = "sha256:" + 64 * "a"
IMAGE = "library/tiny"
DENIED = "library/secret"


@dataclass(frozen=True)
class Vector:
    """One request and its refusal. `says`: words that the detail of the error must contain."""

    method: str
    target: str
    status: int
    code: str
    says: str = ""
    headers: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return f"{self.method} {self.target[:100]}"


RESOURCES = ("manifests/latest", f"manifests/{DIGEST}", f"blobs/{DIGEST}", "tags/list", f"referrers/{DIGEST}")

# Names between dependency_proxy/containers/ and /manifests, /blobs and so on.
NAMES = (
    *("A", "Library/tiny", "library/Tiny", "tinY"),
    *("..", "../a", "a/..", "a/../b", "../../../../etc/passwd", "./a", "a/.", "a/./b", "...", "a/..../b"),
    *("/", "a/", "/a", "a//b", "a/b//c", "///"),
    *(".a", "a.", "-a", "a-", "_a", "a_", "a..b", "a___b", "a._b", "a.-b", "a_.b", "a/.b", "a/b.", ".git/config"),
    *("a~b", "~", "~root", "a+b", "a*b", "*", "a!b", "a@b", "a;b", "a,b", "a=b", "a&b", "a$b", "$HOME", "a'b", "a(b)"),
    *("a[b]", "a|b", "a\\b", "..\\..\\a", "a^b", "a`b", "a{b}", 'a"b', "a<b>", "a:b", "localhost:5000/a"),
    *("a" * 300, "a/" * 150 + "a", "a" * 255),
)
ESCAPED = (
    *("%2e%2e", "%2e%2e%2f", "%2e%2e/%2e%2e/etc/passwd", "..%2f..%2fetc%2fpasswd", "%2E%2E%2Fa", "a%2fb", "a%2Fb"),
    *("%5c", "a%5cb", "..%5c..%5ca", "%00", "a%00", "a%00.json", "%0a", "a%0a", "a%0d%0aX-Evil:%201", "a%20b", "%09"),
    *("%c3%a9", "%d0%b0", "%ff", "%c0%ae%c0%ae%c0%af", "%e2%80%ae", "%f0%9f%90%b3", "%", "%z", "%zz", "%2", "%u002e"),
    *("%25", "%252e%252e%252f", "%41", "%61", "tin%79", "%7e", "%23", "%3f"),
)
TAGS = (
    *("..", ".", "-a", ".a", "a" * 129, "a+b", "a@b", "a,b", "~", "a*", "$(id)", "`id`", "a;b", "a|b", "a\\b", "a=b"),
)
DIGESTS = (
    *("sha256:", "sha256:abc", "sha256:" + 63 * "a", "sha256:" + 65 * "a", "sha256:" + 64 * "A", "sha256:" + 64 * "g"),
    *("SHA256:" + 64 * "a", "sha512:" + 64 * "a", "sha1:" + 40 * "a", "md5:" + 32 * "a", ":" + 64 * "a", ":", "::"),
    *(
        "sha256:" + 64 * "a" + ":",
        "sha256::" + 64 * "a",
        "sha256:..",
        "sha256:" + 62 * "a" + "..",
        "sha256:" + 64 * ".",
    ),
    *("sha256:" + 300 * "a", "tarsum+sha256:" + 64 * "a"),
)
NOT_EVEN_A_DIGEST = ("latest", "..", "sha256-" + 64 * "a", 64 * "a", "sha256", "uploads")

UNKNOWN_ENDPOINTS = (
    *("/v2/_catalog/", "/v2/_catalogs", "/v2/x", "/v2/hub", "/v2/hub/", "/v2//", "/v2/_oci/ext/x"),
    *("/v2/library/tiny/tags", "/v2/library/tiny/tags/", "/v2/library/tiny/tags/lists", "/v2/library/tiny/manifests"),
    *("/v2/library/tiny/manifests/", "/v2/library/tiny/blobs/", f"/v2/library/tiny/manifests/{DIGEST}/x"),
    *(f"/v2/library/tiny/blobs/{DIGEST}/", "/v2/library/tiny/manifests/latest/", "/v2/library/tiny/tags/list/"),
    *("/v2//manifests/latest", "/v2/../manifests", "/v2/manifests/latest", "/v2/.", "/v2/..", "/v2/../../etc/passwd"),
    *(f"{PROXIED}/x/blobs/sha256:../../../etc/passwd", f"{PROXIED}/x/manifests/../../../../etc/passwd"),
    *(f"{PROXIED}/x/tags/list/../../../../../etc/passwd", f"{PROXIED}/x/referrers/", f"{PROXIED}/"),
    *("/v1/", "/v1/_ping", "/V2/", "/v3/", "/etc/passwd", "/../../etc/passwd", "/..", "/.git/config", "/.env"),
    *(
        "/%2e%2e/%2e%2e/etc/passwd",
        "/%00",
        "/favicon.ico",
        "/index.php",
        "/-/",
        "/-/metrics/",
        "/-/../v2/",
        "/run.json",
    ),
    *("/gateway.db", "/keys/sealing.keys", "/hub/dependency_proxy/containers/x/manifests/latest"),
)

WRITES = (
    *(("POST", "blobs/uploads/"), ("POST", "blobs/uploads"), ("POST", f"blobs/uploads/?digest={DIGEST}")),
    *(("POST", f"blobs/uploads/?mount={DIGEST}&from=library/other"), ("POST", f"blobs/uploads/?mount={DIGEST}")),
    *(("PATCH", "blobs/uploads/0b5b1e"), ("PUT", f"blobs/uploads/0b5b1e?digest={DIGEST}"), ("GET", "blobs/uploads/0")),
    *(("DELETE", "blobs/uploads/0b5b1e"), ("PUT", "blobs/uploads/.."), ("PUT", "manifests/latest")),
    *(("PUT", f"manifests/{DIGEST}"), ("DELETE", "manifests/latest"), ("DELETE", f"manifests/{DIGEST}")),
    *(("DELETE", f"blobs/{DIGEST}"), ("DELETE", "tags/reference/latest")),
)
WRONG_METHODS = (
    *(("PUT", f"blobs/{DIGEST}"), ("POST", f"blobs/{DIGEST}"), ("PATCH", f"blobs/{DIGEST}")),
    *(("POST", "manifests/latest"), ("PATCH", f"manifests/{DIGEST}"), ("PATCH", "blobs/uploads/")),
    *(("GET", "blobs/uploads/"), ("POST", "blobs/uploads/0b5b1e"), ("GET", "tags/reference/latest")),
)
OTHER_METHODS = ("OPTIONS", "TRACE", "CONNECT", "PROPFIND", "LOCK", "BREW", "QUERY")
PAGE_SIZES = (
    "-1",
    "a",
    "",
    "1e3",
    "1.5",
    "0x10",
    "+1",
    "%2b1",
    "1%00",
    "9999999999",
    "%d9%a3",
    "1,2",
    "null",
    "-0",
    "1;2",
)


def names() -> Iterator[Vector]:
    for name in NAMES:
        for resource in RESOURCES:
            yield Vector("GET", f"{PROXIED}/{name}/{resource}", 400, "NAME_INVALID")
    for name in ESCAPED:
        for resource in ("manifests/latest", f"blobs/{DIGEST}"):
            yield Vector("GET", f"{PROXIED}/{name}/{resource}", 400, "NAME_INVALID", "percent escape")
    for group in ("..", "Hub", "hub/..", "hub//x", ".", "h%75b", "..%2f", "~", "%2e%2e"):
        target = f"/v2/{group}/dependency_proxy/containers/tiny/manifests/latest"
        yield Vector("GET", target, 400, "NAME_INVALID")
    yield Vector("GET", f"/%76%32/hub/dependency_proxy/containers/{IMAGE}/tags/list", 400, "NAME_INVALID", "escape")
    yield Vector("GET", f"{PROXIED}/{'a' * 300}/tags/list", 400, "NAME_INVALID", "at most 255 characters")
    yield Vector("GET", f"{PROXIED}/Tiny/tags/list", 400, "NAME_INVALID", "lower-case")
    yield Vector("HEAD", f"{PROXIED}/Tiny/manifests/latest", 400, "NAME_INVALID")
    yield Vector("PUT", f"{PROXIED}/Tiny/manifests/latest", 400, "NAME_INVALID")
    yield Vector("OPTIONS", f"{PROXIED}/Tiny/manifests/latest", 400, "NAME_INVALID")


def references() -> Iterator[Vector]:
    for tag in TAGS:
        yield Vector("GET", f"{PROXIED}/{IMAGE}/manifests/{tag}", 400, "TAG_INVALID", "letters, digits")
        yield Vector("HEAD", f"{PROXIED}/{IMAGE}/manifests/{tag}", 400, "TAG_INVALID")
    for digest in DIGESTS:
        for kind in ("manifests", "blobs", "referrers"):
            yield Vector("GET", f"{PROXIED}/{IMAGE}/{kind}/{digest}", 400, "DIGEST_INVALID")
    for text in NOT_EVEN_A_DIGEST:
        for kind in ("blobs", "referrers"):
            if (kind, text) != ("blobs", "uploads"):  # the path of a new upload
                yield Vector("GET", f"{PROXIED}/{IMAGE}/{kind}/{text}", 400, "DIGEST_INVALID", "sha256: or sha512:")
    for escape in ("%2e%2e", "..%2f..%2fetc%2fpasswd", "%00", "latest%0a", "l%61test", f"sha256%3a{'a' * 62}%2e%2e"):
        for kind in ("manifests", "blobs"):
            yield Vector("GET", f"{PROXIED}/{IMAGE}/{kind}/{escape}", 400, "NAME_INVALID", "percent escape")
    yield Vector("GET", f"{PROXIED}/{IMAGE}/blobs/sha256%3Aabc", 400, "DIGEST_INVALID", "64 lower-case hexadecimal")


def places() -> Iterator[Vector]:
    """Valid names of images that do not exist, or are not for this client."""
    for resource in RESOURCES:
        yield Vector(
            "GET", f"/v2/nogroup/dependency_proxy/containers/tiny/{resource}", 401, "UNAUTHORIZED", "'nogroup'"
        )
        yield Vector(
            "GET", f"/v2/hub/sub/dependency_proxy/containers/tiny/{resource}", 401, "UNAUTHORIZED", "'hub/sub'"
        )
        yield Vector("GET", f"/v2/off/dependency_proxy/containers/tiny/{resource}", 401, "UNAUTHORIZED", "'off'")
        yield Vector("GET", f"/v2/closed/dependency_proxy/containers/tiny/{resource}", 401, "UNAUTHORIZED", "log in")
        yield Vector("GET", f"{PROXIED}/quay.io/org/app/{resource}", 404, "NAME_UNKNOWN", "configured are docker.io")
        yield Vector("GET", f"{PROXIED}/localhost/app/{resource}", 404, "NAME_UNKNOWN", "'localhost'")
        yield Vector("GET", f"{PROXIED}/127.0.0.1/app/{resource}", 404, "NAME_UNKNOWN", "'127.0.0.1'")
        yield Vector("GET", f"{PROXIED}/{DENIED}/{resource}", 403, "DENIED", DENIED)
        yield Vector("GET", f"{PROXIED}/secret/{resource}", 403, "DENIED", DENIED)
        yield Vector("GET", f"{PROXIED}/docker.io/secret/{resource}", 403, "DENIED", DENIED)
        yield Vector("GET", f"{PROXIED}/index.docker.io/{DENIED}/{resource}", 403, "DENIED", DENIED)
        yield Vector("HEAD", f"{PROXIED}/{DENIED}/{resource}", 403, "DENIED")
        for native in ("library/tiny", "a", "hub/dependency_proxy", "dependency_proxy/containers/a", PROXIED[4:]):
            yield Vector("GET", f"/v2/{native}/{resource}", 401, "UNAUTHORIZED", "GROUP/dependency_proxy/containers")


def writes() -> Iterator[Vector]:
    for method, resource in WRITES:
        yield Vector(method, f"{PROXIED}/{IMAGE}/{resource}", 405, "UNSUPPORTED", "only be pulled")
        yield Vector(method, f"{PROXIED}/{DENIED}/{resource}", 405, "UNSUPPORTED", "only be pulled")
        yield Vector(method, f"/v2/library/tiny/{resource}", 401, "UNAUTHORIZED", "not a repository of this server")
    for method, resource in WRONG_METHODS:
        for name in (f"{PROXIED}/{IMAGE}", "/v2/library/tiny"):
            yield Vector(method, f"{name}/{resource}", 405, "UNSUPPORTED", f"{method} is not a method of this path")
    yield Vector("PUT", f"{PROXIED}/{IMAGE}/blobs/uploads/a/b/c", 404, "UNSUPPORTED", "there is nothing at")
    yield Vector("DELETE", f"{PROXIED}/{IMAGE}/tags/reference/.a", 400, "TAG_INVALID", "letters, digits")
    for place, status, code in (
        ("closed/dependency_proxy/containers/tiny", 401, "UNAUTHORIZED"),
        ("off/dependency_proxy/containers/tiny", 401, "UNAUTHORIZED"),
        ("hub/dependency_proxy/containers/quay.io/a/b", 404, "NAME_UNKNOWN"),
    ):
        yield Vector("PUT", f"/v2/{place}/manifests/latest", status, code)
        yield Vector("POST", f"/v2/{place}/blobs/uploads/", status, code)
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        yield Vector(method, f"{PROXIED}/{IMAGE}/tags/list", 405, "UNSUPPORTED", method)
        yield Vector(method, f"{PROXIED}/{IMAGE}/referrers/{DIGEST}", 405, "UNSUPPORTED", method)
        yield Vector(method, "/v2/", 405, "UNSUPPORTED", method)
        yield Vector(method, "/v2", 405, "UNSUPPORTED", method)
        yield Vector(method, "/-/health", 405, "UNSUPPORTED", method)
        yield Vector(method, "/v2/_catalog", 405, "UNSUPPORTED", method)


def endpoints() -> Iterator[Vector]:
    for target in UNKNOWN_ENDPOINTS:
        yield Vector("GET", target, 404, "UNSUPPORTED", "there is nothing at")
    for method in OTHER_METHODS:
        for resource in RESOURCES:
            yield Vector(method, f"{PROXIED}/{IMAGE}/{resource}", 405, "UNSUPPORTED", method)
        yield Vector(method, "/v2/", 405, "UNSUPPORTED", method)
        yield Vector(method, "/v2/_catalog", 405, "UNSUPPORTED")


def queries() -> Iterator[Vector]:
    for text in PAGE_SIZES:
        yield Vector(
            "GET", f"{PROXIED}/{IMAGE}/tags/list?n={text}", 400, "PAGINATION_NUMBER_INVALID", "n must be a number"
        )
        yield Vector("GET", f"/v2/_catalog?n={text}", 400, "PAGINATION_NUMBER_INVALID", "n must be a number")
    for text in ("%00", "-a", "a/b", "a%20b", "%C3%A4", "a" * 129, "sha256:abc", ""):
        code, words = ("DIGEST_INVALID", "") if ":" in text else ("TAG_INVALID", "must be 1 to 128")
        yield Vector("GET", f"{PROXIED}/{IMAGE}/tags/list?last={text}", 400, code, words)
    for text in ("%00", "text", "text/", "/plain", "a/b/c", "text/plain;q=1", "a/b%0D%0A", "a/" + "b" * 128, ""):
        target = f"{PROXIED}/{IMAGE}/referrers/{DIGEST}?artifactType={text}"
        yield Vector("GET", target, 400, "UNSUPPORTED", "artifactType must be a media type")


def all_vectors() -> list[Vector]:
    return list(dict.fromkeys((*names(), *references(), *places(), *writes(), *endpoints(), *queries())))

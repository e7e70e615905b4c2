"""Vectors: bytes that a client may send instead of a plain request, and their expected results."""

from collections.abc import Iterator
from dataclasses import dataclass

MARK = b"mark-00000"
TARGET = b"/vectors/" + MARK
SMUGGLED = b"/smuggled/" + MARK

HANDLED = (404,)
BAD = (400,)


@dataclass(frozen=True)
class Vector:
    """A vector. `sent`: the pieces, each written separately; MARK in them is replaced by another word of its length.

    For the gateway alone: `answers` are the statuses that may come first (None: the connection closes without one),
    `handled` is the number of requests that reach the application, `smuggled` how many of those may be the inner one.
    `requests`: the number of requests as the most generous reader in front of it counts them. `leaves`: the client
    closes after writing, and reads nothing.
    """

    name: str
    sent: tuple[bytes, ...]
    answers: tuple[int | None, ...] = BAD
    handled: int = 0
    smuggled: int = 0
    requests: int = 1
    leaves: bool = False

    def pieces(self, mark: bytes) -> Iterator[bytes]:
        whole, start = b"".join(self.sent).replace(MARK, mark), 0
        for piece in self.sent:
            yield whole[start : start + len(piece)]
            start += len(piece)


def head(
    *lines: bytes,
    method: bytes = b"GET",
    target: bytes = TARGET,
    version: bytes = b"HTTP/1.1",
    host: bytes = b"a.localhost",
) -> bytes:
    first = [b" ".join((method, target, version)), *([b"Host: " + host] if host else []), *lines]
    return b"\r\n".join(first) + b"\r\n\r\n"


def post(*lines: bytes, body: bytes = b"", version: bytes = b"HTTP/1.1") -> bytes:
    return head(*lines, CLOSE, method=b"POST", version=version) + body


CLOSE = b"Connection: close"
LENGTH = b"Content-Length: 5"
CHUNKED = b"Transfer-Encoding: chunked"
CHUNKS = b"5\r\nhello\r\n0\r\n\r\n"
INNER = head(CLOSE, target=SMUGGLED)


def one(name: str, sent: bytes, **more: object) -> Vector:
    return Vector(name, (sent,), **more)  # type: ignore[arg-type]


def fine(name: str, sent: bytes, **more: object) -> Vector:
    return one(name, sent, **({"answers": HANDLED, "handled": 1} | more))


def codings() -> Iterator[Vector]:
    yield one("length, then chunked", post(LENGTH, CHUNKED, body=CHUNKS), requests=2)
    yield one("chunked, then length", post(CHUNKED, LENGTH, body=CHUNKS), requests=2)
    ended = b"0\r\n\r\n" + INNER
    for name, lines in (("length first", (b"Content-Length: %d", CHUNKED)), ("last", (CHUNKED, b"Content-Length: %d"))):
        both = tuple(line % len(ended) if b"%d" in line else line for line in lines)
        yield one(f"a request behind the last chunk, length {name}", post(*both, body=ended), requests=2)
    inner = b"%x\r\n%b\r\n0\r\n\r\n" % (len(INNER), INNER)
    yield one("a request in a chunk, length of its size line", post(b"Content-Length: 4", CHUNKED, body=inner))
    yield one("chunked twice, in two lines", post(CHUNKED, CHUNKED, body=CHUNKS))
    for value in (
        *(b"chunked, chunked", b"identity", b"identity, chunked", b"gzip, chunked", b"chunked, identity", b"", b","),
        *(b"chunked,", b"xchunked", b"chunked;q=1", b'"chunked"', b"chunked\x0b", b"\x0cchunked", b"chunked\xa0"),
        *(b"\xffchunked", b"chunk", b"cow", b"chunked chunked", b"\xef\xbb\xbfchunked"),
    ):
        yield one(f"coding {value!r}", post(b"Transfer-Encoding: " + value, body=CHUNKS), requests=2)
        yield one(f"length and coding {value!r}", post(LENGTH, b"Transfer-Encoding: " + value, body=b"hello"))
    yield one("coding on HTTP/1.0", post(CHUNKED, body=CHUNKS, version=b"HTTP/1.0"), requests=2)
    yield one("length and coding on HTTP/1.0", post(LENGTH, CHUNKED, body=CHUNKS, version=b"HTTP/1.0"), requests=2)
    yield one("space between coding's name and colon", post(b"Transfer-Encoding : chunked", body=CHUNKS), requests=2)
    yield one("tab between coding's name and colon", post(b"Transfer-Encoding\t: chunked", body=CHUNKS), requests=2)
    yield one("coding in a folded line", post(b"Transfer-Encoding:", b" chunked", body=CHUNKS), requests=2)
    yield one("coding folded under another field", post(LENGTH, b"A: b", b" " + CHUNKED, body=b"hello"))
    yield one("coding behind a bare LF", post(LENGTH, b"A: b\n" + CHUNKED, body=b"hello"))
    yield one("coding behind a bare CR", post(LENGTH, b"A: b\r" + CHUNKED, body=b"hello"))
    yield one("coding behind a NUL", post(LENGTH, b"A: b\0" + CHUNKED, body=b"hello"))
    yield one("coding with a CR before CRLF", post(LENGTH, b"Transfer-Encoding: chunked\r", body=b"hello"))
    yield one("coding with a NUL in its name", post(LENGTH, b"Transfer-Encoding\0: chunked", body=b"hello"))
    yield one(
        "coding with a letter that folds to s", post(LENGTH, "Tran\u017ffer-Encoding: chunked".encode(), body=b"hello")
    )
    yield one("coding behind a line without a colon", post(LENGTH, b"A", CHUNKED, body=b"hello"))
    yield one("coding in a list with a length", post(b"Content-Length: 5, chunked", body=b"hello"))
    yield one("coding in the lines of a length", post(LENGTH + b"\r" + CHUNKED, body=b"hello"))
    yield fine("a coding that only TE accepts", post(LENGTH, b"TE: chunked", body=b"hello"))
    yield fine("coding after a tab", post(b"Transfer-Encoding:\tchunked", body=CHUNKS))
    yield fine("coding in capitals", post(b"TRANSFER-ENCODING: Chunked", body=CHUNKS))
    yield fine("coding with an underscore means nothing", post(LENGTH, b"Transfer_Encoding: chunked", body=b"hello"))


def lengths() -> Iterator[Vector]:
    yield one("length twice, the same", post(LENGTH, LENGTH, body=b"hello"))
    yield one("length twice, different", post(LENGTH, b"Content-Length: 6", body=b"hello!"))
    yield one("length twice, one empty", post(b"Content-Length:", LENGTH, body=b"hello"))
    for value in (
        *(b"5, 5", b"5,6", b"-1", b"-0", b"+5", b"0x5", b"5 5", b"5h", b"5.0", b"5e0", b"5_0", b"", b"five", b'"5"'),
        *(b"9" * 30, b"9" * 19, b"18446744073709551621", b"5\x0b", b"\xb2", b"\xd9\xa5", b"5;", b"0b101", b"5\0"),
    ):
        yield one(f"length {value!r}", post(b"Content-Length: " + value, body=b"hello"), requests=2)
    yield one("space between length and colon", post(b"Content-Length : 5", body=b"hello"))
    yield fine("length with spaces around it", post(b"Content-Length: \t 5 \t", body=b"hello"))
    yield fine("length with zeros before it", post(b"Content-Length: 0005", body=b"hello"))
    yield fine("no length for a method with a body", post())
    yield fine("a body for a method without one", head(LENGTH, CLOSE) + b"hello")
    yield fine("a request as a body", post(b"Content-Length: %d" % len(INNER), body=INNER))
    yield fine("a request as the body of GET", head(b"Content-Length: %d" % len(INNER), CLOSE) + INNER)
    yield fine("a request as a chunk", post(CHUNKED, body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(INNER), INNER)))


def lines() -> Iterator[Vector]:
    for name, line in {
        "a folded line": b"A: b\r\n c",
        "a line folded by a tab": b"A: b\r\n\tc",
        "a bare LF between lines": b"A: b\nC: d",
        "a bare LF in a value": b"A: b\n",
        "a bare CR in a value": b"A: b\rc",
        "a CR before CRLF": b"A: b\r",
        "a NUL in a value": b"A: b\0c",
        "a NUL in a name": b"A\0: b",
        "a space before the colon": b"A : b",
        "a tab before the colon": b"A\t: b",
        "a space in a name": b"A B: c",
        "no name": b": b",
        "no colon": b"A",
        "a name that is no token": b"A(b): c",
        "a name beyond ASCII": b"\xc3\xa4: b",
        "a vertical tab before the colon": b"A\x0b: b",
    }.items():
        yield one(name, head(line, CLOSE))
    plain = head(CLOSE)
    yield one("all lines end with a bare LF", plain.replace(b"\r\n", b"\n"))
    yield one("the head ends with a bare LF", plain.removesuffix(b"\r\n") + b"\n")
    yield one("the request line ends with a bare LF", plain.replace(b"\r\n", b"\n", 1))
    yield one("all lines end with a bare CR", plain.replace(b"\r\n", b"\r") + b"\n\n")
    yield one("a space before the first header", plain.replace(b"\r\n", b"\r\n ", 1))
    yield one("an empty line before the request", b"\r\n" + plain)
    yield one("a bare LF before the request", b"\n" + plain)
    yield one("a NUL before the request", b"\0" + plain)


def hosts() -> Iterator[Vector]:
    yield one("no Host", head(CLOSE, host=b""))
    yield one("two Hosts", head(b"Host: b.test", CLOSE))
    yield one("two equal Hosts", head(b"Host: a.localhost", CLOSE))
    for value in (
        *(b" ", b"a/?", b"a.test/", b"user@a.test", b"a b", b"a,b", b"a.test:", b"a.test:999999", b"a.test:x", b"[::1"),
        *(b"http://a.test", b"a.test#", b"a\\b", b"\xe4.test", b"a.test:80:80", b"a.test\x0b", b"<a>", b"%61.test"),
    ):
        yield one(f"Host {value!r}", head(CLOSE, host=value))
    yield fine("no Host on HTTP/1.0", head(host=b"", version=b"HTTP/1.0"))
    yield fine("Host with a port", head(CLOSE, host=b"a.localhost:8080"))
    yield fine("Host in IPv6", head(CLOSE, host=b"[::1]:8080"))


def targets() -> Iterator[Vector]:
    for name, target in {
        "an absolute target": b"http://evil.test" + TARGET,
        "an absolute target without a path": b"http://evil.test",
        "an absolute target of another scheme": b"file://" + TARGET,
        "a target with two slashes": b"/" + TARGET,
        "a target without a slash": TARGET[1:],
        "a target that is a query": b"?" + TARGET,
        "a target with a backslash": b"\\" + TARGET,
        "a target beyond ASCII": TARGET + b"\xe4",
        "a target with a NUL": TARGET + b"\0",
        "a target with DEL": TARGET + b"\x7f",
        "a target with a space": TARGET + b" b",
        "no target": b"",
        "spaces around the target": b" " + TARGET,
    }.items():
        yield one(name, head(CLOSE, target=target))
    yield one("an authority as a target", head(CLOSE, method=b"CONNECT", target=b"a.test:443"))
    yield one("an asterisk as a target", head(CLOSE, method=b"OPTIONS", target=b"*"))
    yield one("an asterisk for another method", head(CLOSE, target=b"*"))
    yield one("a tab after the method", head(CLOSE).replace(b"GET ", b"GET\t"))
    yield one("a method that is none", head(CLOSE, method=b"G(T"))
    yield one("no method", head(CLOSE)[4:])
    yield one("a target of nine KiB", head(CLOSE, target=TARGET + b"x" * 9 * 1024), answers=(414,))
    yield fine("CONNECT with a path", head(CLOSE, method=b"CONNECT"), answers=(404, 405))
    yield fine("a method that nobody knows", head(CLOSE, method=b"BREW"), answers=(404, 405))
    for method in (b"get", b"head", b"Head", b"hEAD", b"post", b"pRI", b"connect"):
        yield fine(f"the method {method.decode()}", head(CLOSE, method=method), answers=(404, 405))
    yield one("a method of 40 bytes", head(CLOSE, method=b"M" * 40), answers=(501,))
    yield fine("a target of seven KiB", head(CLOSE, target=TARGET + b"?" + b"x" * 7 * 1024))


def versions() -> Iterator[Vector]:
    yield one("HTTP/0.9", b"GET " + TARGET + b"\r\n\r\n")
    yield one("HTTP/0.9 with a header", b"GET " + TARGET + b"\r\nHost: a.localhost\r\n\r\n")
    for version in (b"HTTP/2.0", b"HTTP/1.2", b"HTTP/3.0", b"HTTP/0.9"):
        yield one(f"version {version.decode()}", head(CLOSE, version=version), answers=(505,))
    for version in (b"HTTP/1.10", b"HTTP/1", b"HTTP/2", b"http/1.1", b"HTTP/1.1 ", b"HTTP/+1.1", b"HTTPS/1.1", b"ICY"):
        yield one(f"version {version.decode()!r}", head(CLOSE, version=version))
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    yield one("HTTP/2 by prior knowledge", preface + bytes.fromhex("000000040000000000"), answers=(505,))
    settings = (
        b"Upgrade: h2c",
        b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
        b"Connection: Upgrade, HTTP2-Settings, close",
    )
    yield fine("an upgrade to HTTP/2", head(*settings))
    yield fine("an upgrade to HTTP/2 with a body", head(*settings, LENGTH, method=b"POST") + b"hello")
    yield fine(
        "an upgrade to WebSocket",
        head(
            b"Upgrade: websocket",
            b"Connection: Upgrade, close",
            b"Sec-WebSocket-Version: 13",
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        ),
    )
    yield one("a CR within the request line", head(CLOSE).replace(b" HTTP", b"\r HTTP", 1))
    yield one("two CR behind the version", head(CLOSE).replace(b"HTTP/1.1\r\n", b"HTTP/1.1\r\r\n", 1))
    yield one("two versions", head(CLOSE, version=b"HTTP/1.1 HTTP/1.1"))
    yield fine(
        "1.0 that is kept, and a request behind it",
        head(b"Connection: keep-alive", version=b"HTTP/1.0") + head(CLOSE),
        answers=(400, 404),
        requests=2,
    )
    yield one("TLS", bytes.fromhex("16030100c8010000c40303") + bytes(190))
    yield one("the PROXY protocol", b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n" + head(CLOSE))


def sizes() -> Iterator[Vector]:
    many = [b"A%d: b" % number for number in range(150)]
    yield one("150 headers", head(*many, CLOSE), answers=(431,))
    yield one("150 headers of one name", head(*[b"A: b"] * 150, CLOSE), answers=(431,))
    yield fine("90 headers", head(*many[:90], CLOSE))
    large = head(*(b"A%d: " % number + b"b" * 3000 for number in range(12)), CLOSE)
    yield one("a head of 36 KB", large, answers=(431,))
    pieces = tuple(large[start : start + 1000] for start in range(0, len(large), 1000))
    yield Vector("a head of 36 KB in pieces", pieces, (431,))
    yield one("a head of 64 KiB without an end", b"GET " + TARGET + b" HTTP/1.1\r\nA: " + b"b" * 65_536, answers=(431,))
    yield one("a request line of 64 KiB without an end", b"GET /" + b"b" * 65_536, answers=(431,))
    yield one("an Authorization of nine KiB", head(b"Authorization: Bearer " + b"." * 9 * 1024, CLOSE), answers=(431,))
    yield fine("an Authorization of seven KiB", head(b"Authorization: Bearer " + b"." * 7 * 1024, CLOSE))
    small = head(CLOSE)
    yield Vector("a head byte by byte", tuple(small[at : at + 1] for at in range(len(small))), HANDLED, 1)


def chunks() -> Iterator[Vector]:
    """Vectors with a correct head and a wrong body, which ends the request."""
    for name, body in {
        "a size with a prefix": b"0x5\r\nhello\r\n0\r\n\r\n",
        "a negative size": b"-1\r\nhello\r\n0\r\n\r\n",
        "a size with a sign": b"+5\r\nhello\r\n0\r\n\r\n",
        "a size that is none": b"five\r\nhello\r\n0\r\n\r\n",
        "an empty size": b"\r\nhello\r\n0\r\n\r\n",
        "a size with an underscore": b"0_5\r\nhello\r\n0\r\n\r\n",
        "a size with a space before it": b" 5\r\nhello\r\n0\r\n\r\n",
        "a size of 30 digits": b"f" * 30 + b"\r\nhello\r\n0\r\n\r\n",
        "an extension of 40 KB": b"5;" + b"a" * 40_000 + b"\r\nhello\r\n0\r\n\r\n",
        "an extension without an end": b"5;" + b"a" * 80_000,
        "an extension with a bare LF": b"5;a\nb\r\nhello\r\n0\r\n\r\n",
        "a size line with a NUL": b"5\0\r\nhello\r\n0\r\n\r\n",
        "more bytes than the size": b"5\r\nhello!\r\n0\r\n\r\n",
        "a chunk that ends with a bare LF": b"5\r\nhello\n0\r\n\r\n",
        "trailers of 40 KB": b"0\r\n" + b"A: b\r\n" * 7000 + b"\r\n",
        "a trailer that is none": b"0\r\nA b\r\n\r\n",
        "a size of 2^63": b"8000000000000000\r\nhello\r\n0\r\n\r\n",
        "a size of 2^64 and five": b"10000000000000005\r\nhello\r\n0\r\n\r\n",
        "a size of 19 digits": b"0000000000000000005\r\nhello\r\n0\r\n\r\n",
        "a size with a space behind it": b"5 \r\nhello\r\n0\r\n\r\n",
        "a size with a tab behind it": b"5\t\r\nhello\r\n0\r\n\r\n",
        "a size line with a bare LF": b"5\nhello\r\n0\r\n\r\n",
        "a size line with a CR before CRLF": b"5\r\r\nhello\r\n0\r\n\r\n",
        "a last size line with a bare LF": b"5\r\nhello\r\n0\n\r\n",
        "an extension with a bare CR": b"5;a\rb\r\nhello\r\n0\r\n\r\n",
        "an extension with a control character": b"5;a=\x01\r\nhello\r\n0\r\n\r\n",
        "an extension beyond ASCII": b"5;a=\xe4\r\nhello\r\n0\r\n\r\n",
        "an extension with a space": b"5; a=b\r\nhello\r\n0\r\n\r\n",
        "an extension without a name": b"5;\r\nhello\r\n0\r\n\r\n",
        "many extensions": (b"5;" + b"a" * 200 + b"\r\nhello\r\n") * 30 + b"0\r\n\r\n",
        "an extension of 500 bytes": b"5;" + b"a" * 500 + b"\r\nhello\r\n0\r\n\r\n",
        "an extension with an open quote": b'5;a="\r\nhello\r\n0\r\n\r\n',
        "a chunk that ends with a bare CR": b"5\r\nhello\r0\r\n\r\n",
        "a chunk without an end": b"5\r\nhello0\r\n\r\n",
        "a chunk with an empty line behind it": b"5\r\nhello\r\n\r\n0\r\n\r\n",
        "trailers that end with a bare LF": b"5\r\nhello\r\n0\r\nA: b\n\n",
        "a trailer that ends with a bare LF": b"5\r\nhello\r\n0\r\nA: b\n\r\n",
        "an empty line that is a bare LF": b"5\r\nhello\r\n0\r\n\n",
        "a folded trailer": b"5\r\nhello\r\n0\r\nA: b\r\n c\r\n\r\n",
        "500 trailers": b"0\r\n" + b"A: b\r\n" * 500 + b"\r\n",
        "a trailer with a bare CR": b"0\r\nA: b\rc\r\n\r\n",
        "a trailer with a NUL": b"0\r\nA: b\0\r\n\r\n",
        "a trailer with a space before the colon": b"0\r\nA : b\r\n\r\n",
        "a request where trailers are due": b"0\r\n" + INNER,
    }.items():
        yield one(f"chunks: {name}", post(CHUNKED, body=body), answers=(400, None), requests=2)
    yield fine("chunks: an extension", post(CHUNKED, body=b"5;a=b\r\nhello\r\n0\r\n\r\n"))
    yield fine("chunks: an extension in quotes", post(CHUNKED, body=b'5;a="b \\" ;";c\r\nhello\r\n000\r\n\r\n'))
    yield fine("chunks: trailers", post(CHUNKED, body=b"5\r\nhello\r\n0\r\nContent-Length: 9\r\nHost: b\r\n\r\n"))
    yield one("chunks: size lines with a bare LF", post(CHUNKED, body=b"5\nhello\n0\n\n" + INNER), requests=2)
    yield Vector("chunks: a huge one", (post(CHUNKED, body=b"fffffffffffffff\r\nhello"),), (), 1, leaves=True)


def several() -> Iterator[Vector]:
    """Vectors with several requests that do not wait for the previous response."""
    first, bad = head(), head(b"A : b")
    second = head(CLOSE, target=SMUGGLED)
    yield fine("two requests at once", first + second, handled=2, smuggled=1, requests=2)
    yield fine(
        "two requests at once, one with a body",
        head(LENGTH, method=b"POST") + b"hello" + second,
        handled=2,
        smuggled=1,
        requests=2,
    )
    yield fine("a request behind the last", head(CLOSE) + second, answers=(400, 404), requests=2)
    yield fine("a request behind one of 1.0", head(version=b"HTTP/1.0") + second, answers=(400, 404), requests=2)
    yield fine("a bad request behind a good one", first + bad, requests=2)
    yield one("a good request behind a bad one", bad + second, requests=2)
    yield one("a good request behind one with two framings", head(LENGTH, CHUNKED) + b"0\r\n\r\n" + second, requests=2)
    yield one(
        "a good request behind a head too large", head(b"A: " + b"b" * 40_000) + second, answers=(431,), requests=2
    )
    yield fine(
        "a request behind a body that is too long", head(LENGTH, method=b"POST") + b"hello, world" + second, requests=2
    )
    yield one(
        "a request behind chunks that are none",
        head(CHUNKED, method=b"POST") + b"5\r\nhelloX\r\n0\r\n\r\n" + second,
        requests=2,
    )
    yield fine("a body is waited for before it is sent", post(b"Expect: 100-continue", LENGTH, body=b"hello"))
    yield fine(
        "a request as a body that is waited for",
        post(b"Expect: 100-continue", b"Content-Length: %d" % len(INNER), body=INNER),
    )
    yield fine("an expectation that nobody knows", post(b"Expect: 200-ok", LENGTH, body=b"hello"), answers=(404, 417))
    yield fine("a request behind head in lower case", head(method=b"head") + second, handled=2, smuggled=1, requests=2)
    yield fine(
        "a request behind a body of head in lower case",
        head(LENGTH, method=b"head") + b"hello" + second,
        handled=2,
        smuggled=1,
        requests=2,
    )
    yield one(
        "a request behind chunks with a bad trailer",
        head(CHUNKED, method=b"POST") + b"0\r\nA: b\n\r\n" + second,
        requests=2,
    )
    yield fine(
        "a request behind chunks",
        head(CHUNKED, method=b"POST") + CHUNKS + second,
        handled=2,
        smuggled=1,
        requests=2,
    )
    yield fine(
        "framing that Connection names",
        head(LENGTH, b"Connection: close, content-length", method=b"POST") + b"hello",
    )
    yield fine("HEAD with a body", head(LENGTH, CLOSE, method=b"HEAD") + b"hello")


def leaving() -> Iterator[Vector]:
    for name, sent, handled in (
        ("nothing at all", b"", 0),
        ("in the request line", b"GET /vec", 0),
        ("in a header", head()[:-9], 0),
        ("before the last LF", head()[:-1], 0),
        ("in a body", head(LENGTH, method=b"POST") + b"hel", 1),
        ("before a body", head(LENGTH, method=b"POST"), 1),
        ("in a body without end", head(b"Content-Length: " + b"9" * 18, method=b"POST") + b"hel", 1),
        ("in a chunk", head(CHUNKED, method=b"POST") + b"5\r\nhel", 1),
        ("in a size line", head(CHUNKED, method=b"POST") + b"5", 1),
        ("before the last chunk", head(CHUNKED, method=b"POST") + b"5\r\nhello\r\n", 1),
        ("before the answer", head(), 1),
        ("before a body that is asked for", head(LENGTH, b"Expect: 100-continue", method=b"POST"), 1),
    ):
        yield Vector(f"the client leaves: {name}", (sent,), (), handled, leaves=True)


VECTORS = [
    vector
    for kind in (codings, lengths, lines, hosts, targets, versions, sizes, chunks, several, leaving)
    for vector in kind()
]

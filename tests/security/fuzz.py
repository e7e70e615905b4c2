"""Coverage-guided fuzzing of every parser of foreign bytes, started by hand, for any time.

    pip install -e '.[fuzz]'
    python -m tests.security.fuzz [--seconds N] TARGET|all

TARGET is one of: challenge, chunks, digest, head, manifest, name, range, reference. A target fails if an undocumented
error escapes, if a value does not match what was parsed, or if one input takes five seconds. The failing input is left
in a file whose name is printed; `--input FILE` reads it again. The exit status is 1 if any target failed.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECONDS = 60
SLOWEST = 5
ROOT = Path(__file__).parents[2]

Check = Callable[[bytes], None]


@dataclass(frozen=True)
class Target:
    """A target of fuzzing. `load` imports the checked code, so that it can be instrumented; `seeds` are valid
    inputs."""

    load: Callable[[], Check]
    seeds: tuple[bytes, ...]
    longest: int = 2048


def digest() -> Check:
    from cache.oci.digest import Digest
    from cache.oci.errors import DigestInvalid

    def check(data: bytes) -> None:
        text = data.decode("latin-1")
        try:
            parsed = Digest.parse(text)
        except DigestInvalid:
            return
        assert str(parsed) == text

    return check


def name() -> Check:
    from cache.oci.errors import NameInvalid
    from cache.oci.names import NAME_LIMIT, RepositoryName

    def check(data: bytes) -> None:
        text = data.decode("utf-8", "surrogateescape")
        try:
            parsed = RepositoryName.parse(text)
        except NameInvalid:
            return
        assert str(parsed) == text
        assert text.isascii()
        assert text == text.lower()
        assert len(text) <= NAME_LIMIT
        assert not any(component in ("", ".", "..") for component in parsed.components)

    return check


def reference() -> Check:
    from cache.oci.digest import Digest
    from cache.oci.errors import DigestInvalid, TagInvalid
    from cache.oci.names import parse_reference

    def check(data: bytes) -> None:
        text = data.decode("utf-8", "surrogateescape")
        try:
            parsed = parse_reference(text)
        except (DigestInvalid, TagInvalid):
            return
        assert str(parsed) == text
        assert isinstance(parsed, Digest) == (":" in text)
        assert "/" not in text

    return check


def range_() -> Check:
    from gateway.http.conditional import Unsatisfiable, matches, parse_range, range_applies

    def check(data: bytes) -> None:
        text, size = data[1:].decode("latin-1"), 2 ** (data[0] % 63) if data else 0
        matches(text, '"etag"')
        range_applies(text, '"etag"')
        try:
            part = parse_range(text, size)
        except Unsatisfiable:
            return
        assert part is None or 0 <= part.start < part.stop <= size

    return check


def challenge() -> Check:
    from cache.upstream.tokens import parse_challenges

    def check(data: bytes) -> None:
        for found in parse_challenges(data.decode("latin-1")):
            assert found.scheme
            assert found.scheme == found.scheme.lower()
            assert all(key == key.lower() for key in found.parameters)

    return check


def manifest() -> Check:
    from cache.oci.digest import Digest
    from cache.oci.errors import ManifestInvalid
    from cache.oci.manifest import Manifest
    from cache.oci.media_types import OCI_INDEX, OCI_MANIFEST

    def check(data: bytes) -> None:
        for media_type in (OCI_MANIFEST, OCI_INDEX):
            try:
                parsed = Manifest.parse(media_type, data)
            except ManifestInvalid:
                continue
            assert parsed.raw == data
            assert parsed.descriptor.digest == Digest.of(data)
            assert all(descriptor.size >= 0 for descriptor in parsed.references())

    return check


def head() -> Check:
    from h11 import Request
    from h11._readers import maybe_read_from_IDLE_client
    from h11._receivebuffer import ReceiveBuffer
    from h11._util import LocalProtocolError

    from gateway.server.request_head import HeadRefused, parse_head

    def check(data: bytes) -> None:
        try:
            parse_head(data)
        except HeadRefused as refusal:
            assert refusal.status in (400, 414, 431, 505)
            return
        if b"\r\n\r\n" in data + b"\r\n":
            raise AssertionError("more than one head was accepted")
        buffer = ReceiveBuffer()
        buffer += data + b"\r\n\r\n"
        try:
            request = maybe_read_from_IDLE_client(buffer)
        except LocalProtocolError:
            return  # the parser is stricter and refuses it anyway
        assert isinstance(request, Request)
        assert not buffer, "the parser found the end of the head inside it"
        assert_same(data, request)

    return check


def assert_same(data: bytes, request: Any) -> None:
    """Asserts that the parsed head equals its lines, which state once how the body ends."""
    lines = data.split(b"\r\n")
    method, target, version = lines[0].split(b" ")
    assert (request.method, request.target, b"HTTP/" + request.http_version) == (method, target, version)
    said = [(key.lower(), value.strip(b" \t")) for key, _, value in (line.partition(b":") for line in lines[1:])]
    found = list(request.headers)
    assert [key for key, _ in found] == [key for key, _ in said]
    framing = [(key, value) for key, value in found if key in (b"content-length", b"transfer-encoding")]
    assert len(framing) <= 1
    assert all(value == dict(said)[key].lower() for key, value in framing)
    assert target.startswith(b"/")


def chunks() -> Check:
    from h11._readers import ChunkedReader
    from h11._receivebuffer import ReceiveBuffer

    from gateway.server.chunked_body import ChunkedBody, ChunksRefused

    def check(data: bytes) -> None:
        body = ChunkedBody()
        try:
            parts, end = body.decode(data)
        except ChunksRefused:
            return
        buffer, reader, content = ReceiveBuffer(), ChunkedReader(), b""
        buffer += data
        while (event := reader(buffer)) is not None and hasattr(event, "data"):
            content += bytes(event.data)
        assert content == b"".join(data[part] for part in parts)
        assert (event is not None) == body.complete
        assert not body.complete or bytes(buffer) == data[end:]

    return check


_HEX = b"a" * 64
TARGETS = {
    "challenge": Target(
        challenge,
        (
            b'Bearer realm="https://a.test/token",service="a",scope="repository:b:pull"',
            b'Basic realm="a\\"b", Digest qop="auth, auth-int", nonce=abc, Negotiate dG9rZW4=',
        ),
    ),
    "chunks": Target(
        chunks,
        (b'5;a="b";c\r\nhello\r\n0\r\nA: b\r\n\r\nGET /', b"a\r\n0123456789\r\n00\r\n\r\n"),
    ),
    "digest": Target(digest, (b"sha256:" + _HEX, b"sha512:" + _HEX * 2), 300),
    "head": Target(
        head,
        (
            b"GET /v2/ HTTP/1.1\r\nHost: a.test:80\r\nAuthorization: Bearer x\r\nConnection: close",
            b"POST /v2/ HTTP/1.1\r\nHost: [::1]\r\nContent-Length: 5\r\nTransfer-Encoding: chunked",
            b"PUT /a?b HTTP/1.0\r\nTransfer-Encoding:\tchunked\r\nExpect: 100-continue\r\nUpgrade: h2c",
        ),
    ),
    "manifest": Target(
        manifest,
        (
            b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":'
            b'"application/vnd.oci.image.config.v1+json","digest":"sha256:%b","size":2},"layers":[]}' % _HEX,
            b'{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":1,'
            b'"digest":"sha256:%b","platform":{"os":"linux"},"annotations":{"a":"b"}}],"subject":null}' % _HEX,
        ),
        8192,
    ),
    "name": Target(name, (b"library/alpine", b"a.b/c__d/e-f--g"), 300),
    "range": Target(range_, (b"\x08bytes=0-5", b"\x00bytes=-3", b"\x20bytes=7-", b'\x01W/"etag", *'), 300),
    "reference": Target(reference, (b"latest", b"sha256:" + _HEX), 300),
}


def fuzz(chosen: str, options: list[str]) -> None:
    """Fuzzes one target; never returns, because libFuzzer ends the process."""
    import atheris  # type: ignore[import-not-found, unused-ignore]

    with atheris.instrument_imports(include=["cache", "gateway.http", "h11"]):
        check = TARGETS[chosen].load()
    atheris.Setup([sys.argv[0], *options], check)
    atheris.Fuzz()


def passes(chosen: str, seconds: int, given: Path | None) -> bool:
    """Fuzzes one target in a separate process; whether it passed."""
    target = TARGETS[chosen]
    prefix = f"-artifact_prefix={tempfile.gettempdir()}/fuzz-{chosen}-"
    options = [
        f"-max_total_time={seconds}",
        f"-timeout={SLOWEST}",
        f"-max_len={target.longest}",
        prefix,
        "-verbosity=0",
    ]
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(target.seeds):
            (Path(corpus) / str(number)).write_bytes(seed)
        words = [*options, "-print_final_stats=1", str(given) if given else corpus]
        command = [sys.executable, "-c", f"from tests.security.fuzz import fuzz; fuzz({chosen!r}, {words!r})"]
        return subprocess.run(command, cwd=ROOT, check=False).returncode == 0


def main() -> int:
    summary = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m tests.security.fuzz", description=summary)
    parser.add_argument("target", choices=[*TARGETS, "all"], metavar="TARGET|all")
    parser.add_argument("--seconds", type=int, default=SECONDS, help="for each target (default: %(default)s)")
    parser.add_argument(
        "--input", type=lambda text: Path(text).absolute(), help="a file to read again, instead of fuzzing"
    )
    asked = parser.parse_args()
    failed = []
    for chosen in TARGETS if asked.target == "all" else [asked.target]:
        print(f"fuzzing {chosen} for {asked.seconds} s", flush=True)
        if not passes(chosen, asked.seconds, asked.input):
            failed.append(chosen)
    print(f"failed: {', '.join(failed)}" if failed else "no failure was found")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

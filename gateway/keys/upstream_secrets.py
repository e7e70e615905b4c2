"""Secrets for upstreams that lie in files: passwords, and values of fixed headers. They are read at each use, so that a
changed file takes effect at once."""

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509 import load_pem_x509_certificate

from cache.upstream.errors import Unavailable
from gateway.fixed_headers import FROM_FILE, is_header_value


def read_password(upstream: str, path: Path | None) -> str:
    """Read the password for an upstream, empty without a file. Raises Unavailable."""
    return _read(upstream, "password_file", path) if path else ""


def password_version(path: Path) -> str:
    """Version of a password, which changes when its file is replaced or written; empty where that cannot be read.

    It tells nothing of the password, and is the same in all processes.
    """
    try:
        found = path.stat()
    except OSError:
        return ""
    return f"{found.st_mtime_ns:x}-{found.st_ino:x}-{found.st_size:x}"


def read_headers(upstream: str, headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Read the fixed headers of an upstream, some of whose values are `file:PATH`. Raises Unavailable."""
    return {name: _header_value(upstream, name, value) for name, value in headers}


def certificate_end(cert: Path, key: Path) -> datetime:
    """When the client certificate in a PEM file ends. Raises OSError or ValueError if it is of no use."""
    found = load_pem_x509_certificate(cert.read_bytes())
    try:
        private = load_pem_private_key(key.read_bytes(), None)
    except TypeError as error:
        raise ValueError("the key has a passphrase") from error
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    if private.public_key().public_bytes(*form) != found.public_key().public_bytes(*form):
        raise ValueError("the key is that of another certificate")
    return found.not_valid_after_utc


def _header_value(upstream: str, name: str, value: str) -> str:
    if not value.startswith(FROM_FILE):
        return value
    found = _read(upstream, f"file of header {name}", Path(value.removeprefix(FROM_FILE))).strip()
    if not is_header_value(found):
        raise Unavailable(f"the file of header {name} of upstream {upstream} holds no value of a header")
    return found


def _read(upstream: str, what: str, path: Path) -> str:
    try:
        return path.read_text().strip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise Unavailable(f"the {what} of upstream {upstream} cannot be read ({reason})") from error

"""Certificate and key of a server, and the TLS context made from them."""

import os
import ssl
from asyncio import sslproto
from dataclasses import dataclass
from pathlib import Path


class TlsUnusable(Exception):
    """The certificate or its key cannot be used; the text states why."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The PEM files of a certificate chain and of its unencrypted key."""

    certificate: Path
    key: Path

    def load(self, context: ssl.SSLContext) -> None:
        """Load both files into a context. Raises TlsUnusable."""
        for name, path in (("certificate", self.certificate), ("key", self.key)):
            if not os.access(path, os.R_OK):
                raise TlsUnusable(f"the TLS {name} {path} cannot be read: check the path and its owner")
        try:
            context.load_cert_chain(self.certificate, self.key, password=_no_password)
        except (ssl.SSLError, OSError, ValueError) as error:
            raise TlsUnusable(
                f"the TLS certificate {self.certificate} and the key {self.key} do not match, or are not PEM "
                f"({error}): give a chain and its unencrypted key"
            ) from error

    def stamps(self) -> tuple[int, ...]:
        """Return a value that differs when a file was replaced. Raises OSError."""
        return tuple(path.stat().st_mtime_ns for path in (self.certificate, self.key))


_READ_BYTES = 64 * 1024


def shrink_read_buffers() -> None:
    """Have asyncio read TLS connections in smaller steps.

    It gives each connection a buffer of 256 KiB, which was more than half of what a client costs that does not receive.
    """
    sslproto.SSLProtocol.max_size = _READ_BYTES


def tls_context(files: TlsFiles) -> ssl.SSLContext:
    """Make a context for TLS 1.2 and later, which offers HTTP/1.1 alone. Raises TlsUnusable."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    files.load(context)
    return context


def _no_password() -> str:
    raise ValueError("the key is encrypted")

"""Signing keys of the tokens that this server issues (Ed25519, RFC 8032), kept in one file of the keys folder.

The file has a line for each key: its id, when it was made, when a newer one replaced it or `-`, and the private key.
The last one signs. A replaced key verifies until the last token that it can have signed has expired; the next rotation
deletes it. The file is replaced as a whole, and every process that uses it notices within a second.
"""

import os
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from cache.runtime import files
from cache.runtime.disk import sync_folder
from cache.runtime.locks import locked

SIGNING_KEY_FILE = "signing.keys"
LOCK_FILE = "signing.lock"
ALGORITHM = "EdDSA"
"""Algorithm of all keys, as JSON Web Algorithms name it (RFC 8037)."""

TOKEN_LIFETIME = timedelta(minutes=5)
OVERLAP = TOKEN_LIFETIME + timedelta(seconds=10)
"""Time for which a replaced key verifies: the lifetime of a token, and until every process uses the new key."""

LOOK_EVERY = 0.5
"""Seconds for which the file is not looked at again, unless a token names a key that is not known."""


class SigningKeysUnusable(Exception):
    """The file of the signing keys cannot be made or used; the text states why and what a person can do."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One key. `retired_at`: when a newer one replaced it; None for the one that signs."""

    id: str
    created_at: datetime
    retired_at: datetime | None
    private: Ed25519PrivateKey = field(repr=False, compare=False)

    @property
    def public(self) -> Ed25519PublicKey:
        return self.private.public_key()

    @property
    def verifies_until(self) -> datetime | None:
        """When the key verifies nothing any more; None while it signs."""
        return None if self.retired_at is None else self.retired_at + OVERLAP

    def verifies(self, now: datetime) -> bool:
        """Whether the key verifies at a moment; not one that was replaced later than now, by a clock that was wrong."""
        return self.retired_at is None or abs(now - self.retired_at) < OVERLAP

    def document(self) -> dict[str, str]:
        """The public key as a JSON Web Key (RFC 8037, section 2)."""
        x = self.public.public_bytes(Encoding.Raw, PublicFormat.Raw)
        return {"kty": "OKP", "crv": "Ed25519", "alg": ALGORITHM, "use": "sig", "kid": self.id, "x": _encode(x)}


class SigningKeys:
    """The signing keys as one process knows them; the file is made when it is first needed."""

    def __init__(self, keys_directory: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock`: seconds that only grow, by which the file is looked at again."""
        self._file = keys_directory / SIGNING_KEY_FILE
        self._clock = clock
        self._keys: tuple[SigningKey, ...] = ()
        self._seen: tuple[int, int, int] | None = None
        self._looked = 0.0

    def current(self, now: datetime) -> SigningKey:
        """The key that signs; the file is made where it is missing. Raises SigningKeysUnusable."""
        self._look()
        if not self._keys:
            _make(self._file, now)
            self._look(at_once=True)
        return self._keys[-1]

    def find(self, key_id: str, now: datetime) -> SigningKey | None:
        """Find a key that verifies, by its id; None if there is none. Raises SigningKeysUnusable."""
        self._look()
        if not any(key.id == key_id for key in self._keys):
            self._look(at_once=True)
        return next((key for key in self._keys if key.id == key_id and key.verifies(now)), None)

    def published(self, now: datetime) -> list[SigningKey]:
        """List the keys that verify, the one that signs last. Raises SigningKeysUnusable."""
        self.current(now)
        return [key for key in self._keys if key.verifies(now)]

    def _look(self, *, at_once: bool = False) -> None:
        """Read the file again if it was replaced; keys in memory outlive a file that is lost or damaged."""
        moment = self._clock()
        if not at_once and self._keys and moment - self._looked < LOOK_EVERY:
            return
        try:
            found = self._file.stat()
            version = (found.st_mtime_ns, found.st_ino, found.st_size)
            if version != self._seen:
                self._keys, self._seen = _read(self._file), version
        except FileNotFoundError:
            pass
        except OSError as error:
            if not self._keys:
                raise SigningKeysUnusable(f"{self._file} cannot be read ({error.strerror}): restore it") from error
        except SigningKeysUnusable:
            if not self._keys:
                raise
        self._looked = moment


def rotate(keys_directory: Path, now: datetime) -> list[SigningKey]:
    """Make a new key that signs from now on, and delete those that verify nothing any more; returns all keys.

    Raises SigningKeysUnusable, and then nothing was changed.
    """
    file = keys_directory / SIGNING_KEY_FILE
    with _explained(file):
        keys_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locked(keys_directory / LOCK_FILE):
            old = _read(file) if file.exists() else ()
            kept = [replace(key, retired_at=key.retired_at or now) for key in old]
            keys = [*(key for key in kept if key.verifies(now)), _new_key(now)]
            with files.draft(file, _text(keys), durable=True) as new:
                new.replace(file)
            sync_folder(keys_directory)
    return keys


def _make(file: Path, now: datetime) -> None:
    """Create the file with one key unless it exists; if several processes try, one succeeds and all use its key."""
    with _explained(file):
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with files.draft(file, _text([_new_key(now)]), durable=True) as new, suppress(FileExistsError):
            os.link(new, file)
        sync_folder(file.parent)


@contextmanager
def _explained(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = f"{file} cannot be made ({error.strerror}): give the data folder to this user"
        raise SigningKeysUnusable(reason) from error


def _new_key(now: datetime) -> SigningKey:
    private = Ed25519PrivateKey.generate()
    return SigningKey(_thumbprint(private), now.astimezone(UTC).replace(microsecond=0), None, private)


def _thumbprint(private: Ed25519PrivateKey) -> str:
    """The id of a key: the thumbprint of its public half (RFC 7638), which is the same wherever it is computed."""
    x = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return _encode(sha256(f'{{"crv":"Ed25519","kty":"OKP","x":"{_encode(x)}"}}'.encode()).digest())


def _text(keys: list[SigningKey]) -> bytes:
    lines = [
        f"{key.id} {key.created_at.isoformat()} {key.retired_at.isoformat() if key.retired_at else '-'} "
        f"{_encode(key.private.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption()))}\n"
        for key in keys
    ]
    return "".join(lines).encode()


def _read(file: Path) -> tuple[SigningKey, ...]:
    """Read all keys. Raises SigningKeysUnusable for a damaged file, OSError."""
    try:
        keys = tuple(_parse(line) for line in file.read_text().splitlines() if line.strip())
    except ValueError as error:
        raise SigningKeysUnusable(f"{file} is damaged: restore it, or delete it to have a new key made") from error
    if not keys:
        raise SigningKeysUnusable(f"{file} is empty: restore it, or delete it to have a new key made")
    return keys


def _parse(line: str) -> SigningKey:
    key_id, created, retired, text = line.split()
    private = Ed25519PrivateKey.from_private_bytes(urlsafe_b64decode(f"{text}="))
    if key_id != _thumbprint(private):
        raise ValueError("the id belongs to another key")
    retired_at = None if retired == "-" else datetime.fromisoformat(retired)
    return SigningKey(key_id, datetime.fromisoformat(created), retired_at, private)


def _encode(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()

"""Sealing of secrets that the database stores, with a key that it does not store (AES-256-GCM, NIST SP 800-38D)."""

import os
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from contextlib import suppress
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from cache.runtime.disk import sync_folder
from cache.runtime.files import draft

KEYS_DIRECTORY = "keys"
KEY_FILE = "sealing.keys"
_FORM = "v1"
_NONCE_BYTES = 12


class SealBroken(Exception):
    """A sealed secret cannot be opened; the text states why and what a person can do, and contains no secret."""


class Sealer:
    """Seals and opens secrets with the keys of one file: a line for each key, its id and the key; the first one seals.

    The file is created and read when it is first needed. To change the key, put a new one before the others by hand.
    """

    def __init__(self, keys_directory: Path) -> None:
        self._file = keys_directory / KEY_FILE
        self._keys: dict[str, AESGCM] = {}

    def seal(self, secret: str, context: str) -> str:
        """Text that only `open` with the same context turns back into the secret.

        Raises SealBroken for an unusable key file.
        """
        if not self._keys:
            _make(self._file)
            self._keys = _read(self._file)
        key_id, key = next(iter(self._keys.items()))
        nonce = os.urandom(_NONCE_BYTES)
        sealed = nonce + key.encrypt(nonce, secret.encode(), context.encode())
        return f"{_FORM}.{key_id}.{urlsafe_b64encode(sealed).decode()}"

    def open(self, sealed: str, context: str) -> str:
        """The secret. Raises SealBroken if its key is missing, or text and context do not belong together."""
        form, _, rest = sealed.partition(".")
        key_id, _, text = rest.partition(".")
        if not self._keys:
            self._keys = _read(self._file)
        if form != _FORM or key_id not in self._keys:
            raise SealBroken(
                f"no key {key_id!r} in {self._file}, with which a password was sealed: "
                "restore that file, or set the password again"
            )
        try:
            data = urlsafe_b64decode(text)
            return self._keys[key_id].decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], context.encode()).decode()
        except (InvalidTag, ValueError) as error:
            raise SealBroken(f"a sealed password ({context}) was altered: set the password again") from error


def _make(file: Path) -> None:
    """Create the file with one new key unless it exists; if several processes try, one succeeds and all use its key."""
    if file.exists():
        return
    line = f"{secrets.token_hex(4)} {urlsafe_b64encode(AESGCM.generate_key(256)).decode()}\n"
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with draft(file, line.encode(), durable=True) as new, suppress(FileExistsError):
            os.link(new, file)
        sync_folder(file.parent)
    except OSError as error:
        raise SealBroken(f"{file} cannot be made ({error.strerror}): give the data folder to this user") from error


def _read(file: Path) -> dict[str, AESGCM]:
    try:
        lines = [line.split() for line in file.read_text().splitlines() if line.strip()]
        keys = {key_id: AESGCM(urlsafe_b64decode(key)) for key_id, key in lines}
    except OSError as error:
        raise SealBroken(
            f"{file} cannot be read ({error.strerror}): restore that file, or set the passwords again"
        ) from error
    except ValueError as error:
        raise SealBroken(f"{file} is damaged: restore that file, or delete it and set the passwords again") from error
    if not keys:
        raise SealBroken(f"{file} is empty: restore that file, or delete it and set the passwords again")
    return keys

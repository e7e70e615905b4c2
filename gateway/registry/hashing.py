"""SHA-256 whose state can be saved and loaded, so that an upload goes on in another process without a second look at
what has arrived.

hashlib's objects cannot be saved. libcrypto's can: SHA256_CTX of <openssl/sha.h> is plain memory, with the same layout
in every version. It is the libcrypto that Python's own hashlib has loaded. Before its first use it must save and load a
state, and find the digest that hashlib finds; where it does not, or is missing, hashlib hashes and nothing is saved.
"""

import _hashlib
import ctypes
import hashlib
import struct
from functools import cache
from typing import Protocol

_WORDS = 8
_BLOCK = 64
_SAVED = struct.Struct(">8IQ")
"""A saved state: the words of the hash and the number of bytes hashed; the bytes of an unfinished block follow."""


class SavableHash(Protocol):
    """Hash of bytes in their order."""

    def update(self, data: bytes | memoryview, /) -> None:
        """Hash the next bytes; a large piece leaves the interpreter to other threads meanwhile."""

    def hexdigest(self) -> str:
        """The digest of what was hashed so far; more may follow."""

    def save(self) -> bytes | None:
        """State that `load_sha256` continues from; None where it cannot be saved."""


class _Context(ctypes.Structure):
    """SHA256_CTX of <openssl/sha.h>."""

    _fields_ = (
        ("words", ctypes.c_uint32 * _WORDS),
        ("bits_low", ctypes.c_uint32),
        ("bits_high", ctypes.c_uint32),
        ("block", ctypes.c_uint8 * _BLOCK),
        ("block_length", ctypes.c_uint),
        ("digest_length", ctypes.c_uint),
    )


class _Functions:
    """Functions of one libcrypto. Raises OSError where the library, AttributeError where a function is missing."""

    def __init__(self, library: str | None) -> None:
        # A PyDLL keeps the interpreter, for which other threads would make it wait: these take less than 1 µs.
        loaded, short = ctypes.CDLL(library), ctypes.PyDLL(library)
        context, data = ctypes.POINTER(_Context), ctypes.c_void_p
        self.init, self.update, self.final = short.SHA256_Init, loaded.SHA256_Update, short.SHA256_Final
        self.init.argtypes = [context]
        self.update.argtypes = [context, data, ctypes.c_size_t]
        self.final.argtypes = [data, context]


class _LibcryptoSha256:
    """SavableHash of libcrypto."""

    def __init__(self, functions: _Functions) -> None:
        self._functions = functions
        self._context = _Context()
        functions.init(self._context)

    def update(self, data: bytes | memoryview, /) -> None:
        if isinstance(data, memoryview):
            if data.readonly:
                data = bytes(data)
            else:
                place = ctypes.addressof(ctypes.c_char.from_buffer(data)) if len(data) else None
                self._functions.update(self._context, place, len(data))
                return
        self._functions.update(self._context, data, len(data))

    def hexdigest(self) -> str:
        copy, digest = _Context.from_buffer_copy(self._context), ctypes.create_string_buffer(32)
        self._functions.final(digest, copy)
        return digest.raw.hex()

    def save(self) -> bytes | None:
        context = self._context
        count = (context.bits_high << 32 | context.bits_low) // 8
        return _SAVED.pack(*context.words, count) + bytes(context.block[: context.block_length])

    def load(self, state: bytes) -> None:
        """Continue from a saved state. Raises ValueError where it is none."""
        if len(state) < _SAVED.size:
            raise ValueError("a saved hash has at least its words and its length")
        (*words, count), block = _SAVED.unpack_from(state), state[_SAVED.size :]
        if len(block) != count % _BLOCK:
            raise ValueError("the block of a saved hash does not fit its length")
        context = self._context
        context.words[:] = words
        context.bits_high, context.bits_low = (count * 8) >> 32 & 0xFFFFFFFF, count * 8 & 0xFFFFFFFF
        context.block[: len(block)] = list(block)
        context.block_length = len(block)


class _HashlibSha256:
    """SavableHash that cannot be saved."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def update(self, data: bytes | memoryview, /) -> None:
        self._hash.update(data)

    def hexdigest(self) -> str:
        return self._hash.hexdigest()

    def save(self) -> bytes | None:
        return None


def new_sha256() -> SavableHash:
    """Begin a SHA-256."""
    functions = _libcrypto()
    return _HashlibSha256() if functions is None else _LibcryptoSha256(functions)


def load_sha256(state: bytes) -> SavableHash | None:
    """Continue a saved SHA-256; None where this process cannot, or the state is none."""
    functions = _libcrypto()
    if functions is None:
        return None
    hash = _LibcryptoSha256(functions)
    try:
        hash.load(state)
    except ValueError:
        return None
    return hash


@cache
def _libcrypto() -> _Functions | None:
    """The functions of a libcrypto whose states can be saved; None where there is none."""
    for library in (getattr(_hashlib, "__file__", None), "libcrypto.so.3", "libcrypto.so.1.1"):
        try:
            functions = _Functions(library)
        except (OSError, AttributeError):
            continue
        if _keeps_states(functions):
            return functions
    return None


def _keeps_states(functions: _Functions) -> bool:
    """Whether a state that is saved in the middle of a block leads to hashlib's digest in another context."""
    data = bytes(range(256)) * 3
    first, second = _LibcryptoSha256(functions), _LibcryptoSha256(functions)
    first.update(data[:300])
    second.load(first.save() or b"")
    second.update(data[300:])
    return second.hexdigest() == hashlib.sha256(data).hexdigest()

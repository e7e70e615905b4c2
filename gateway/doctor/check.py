"""Check: one examined property of an installation, and the remedy if it fails."""

from dataclasses import dataclass
from enum import Enum, auto


class Remedy(Enum):
    """Remedies that need a command or an option, which the caller puts into words."""

    SELECT_DATA_FOLDER = auto()
    FREE_SPACE = auto()
    LOCAL_DISK = auto()
    START_SERVER = auto()
    NAME_IMAGE = auto()
    NAME_OTHER_IMAGE = auto()
    ALLOW_PULL = auto()
    EXPLAIN_ACCESS = auto()
    CORRECT_LOGIN = auto()
    CLOSE_GROUP = auto()
    CLOSE_FALLBACK = auto()
    BLOCK_FALLBACK = auto()
    CONFIRM_COLLECTION = auto()
    AWAIT_COLLECTION = auto()


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check.

    `ok` is None for a check that could not be made; `detail` states why. `remedy` is empty for a check that passed
    without a warning.
    """

    name: str
    ok: bool | None
    detail: str
    remedy: str | Remedy = ""


def passed(name: str, detail: str) -> Check:
    """A check that passed."""
    return Check(name, True, detail)


def warned(name: str, detail: str, remedy: str | Remedy) -> Check:
    """A check that passed, with a warning; the remedy is a sentence about what to do."""
    return Check(name, True, detail, remedy)


def failed(name: str, detail: str, remedy: str | Remedy) -> Check:
    """A check that failed; the remedy is a sentence about what to do."""
    return Check(name, False, detail, remedy)


def not_run(name: str, why: str, remedy: str | Remedy = "") -> Check:
    """A check that could not be made."""
    return Check(name, None, why, remedy)

"""Principal: who asks."""

from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    ANONYMOUS = "anonymous"


@dataclass(frozen=True, slots=True)
class Principal:
    """Built once per request."""

    kind: Kind
    name: str = ""


ANONYMOUS = Principal(Kind.ANONYMOUS)

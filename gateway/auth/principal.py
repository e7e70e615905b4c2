"""Principal: the party that a request acts for."""

from dataclasses import dataclass
from enum import Enum


class PrincipalKind(Enum):
    """Kind of credential that stands behind a principal."""

    ANONYMOUS = "anonymous"


@dataclass(frozen=True, slots=True)
class Principal:
    """The party that a request acts for, built once per request. `name` is empty for an anonymous one."""

    kind: PrincipalKind
    name: str = ""


ANONYMOUS = Principal(PrincipalKind.ANONYMOUS)

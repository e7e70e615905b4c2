"""Refusals of the tree in the words of GitLab's API: by the attribute whose value is refused."""

from collections.abc import Iterator
from contextlib import contextmanager

from gateway.api.errors import Conflicting, Forbidden, ResourceUnknown, ValuesRefused
from gateway.inspection.place_finder import PlaceRefused
from gateway.namespaces.errors import (
    EmailInvalid,
    EmailTaken,
    ExpiryInvalid,
    GateInvalid,
    GroupUnknown,
    LoginIncomplete,
    LoginMisdirected,
    MembershipRefused,
    MemberUnknown,
    NodeNotEmpty,
    ParentUnknown,
    PathInvalid,
    PathReserved,
    PathTaken,
    ProjectUnknown,
    TreeError,
    TtlInvalid,
    UpstreamNameInvalid,
    UserUnknown,
    VisibilityRefused,
)
from gateway.namespaces.old_path import RESERVED

_ATTRIBUTES: dict[type[TreeError], str] = {
    PathInvalid: "path",
    VisibilityRefused: "visibility_level",
    MembershipRefused: "access_level",
    ExpiryInvalid: "expires_at",
    EmailInvalid: "email",
    EmailTaken: "email",
    GateInvalid: "gate",
    LoginIncomplete: "secret",
    LoginMisdirected: "secret",
    TtlInvalid: "ttl",
    UpstreamNameInvalid: "default_upstream",
    ParentUnknown: "parent",
}
_UNKNOWN: dict[type[TreeError], str] = {
    GroupUnknown: "Group",
    ProjectUnknown: "Project",
    UserUnknown: "User",
    MemberUnknown: "Member",
}
_TAKEN = "has already been taken"


@contextmanager
def tree_refusals() -> Iterator[None]:
    """Translate refusals of the tree, and of roles in it, within the block. Raises ApiError."""
    try:
        yield
    except PlaceRefused as error:
        raise Forbidden(error.decision.reason) from error
    except PathTaken as error:
        raise ValuesRefused({"path": [_TAKEN], "name": [_TAKEN]}) from error
    except PathReserved as error:
        raise ValuesRefused({"path": [RESERVED]}) from error
    except NodeNotEmpty as error:
        raise Conflicting(str(error)) from error
    except TreeError as error:
        if (what := _UNKNOWN.get(type(error))) is not None:
            raise ResourceUnknown(what, str(error)) from error
        if (attribute := _ATTRIBUTES.get(type(error))) is not None:
            raise ValuesRefused({attribute: [str(error)]}) from error
        raise

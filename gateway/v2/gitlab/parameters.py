"""Parameters of the API of GitLab's registry, with their bounds, and the markers by which pages of tags begin."""

import base64
import binascii
import re
from dataclasses import dataclass
from datetime import UTC, datetime

from starlette.datastructures import QueryParams

from cache.oci.names import is_tag
from gateway.db.tag_lists import TagOrder, TagPlace, TagSelection
from gateway.v2.gitlab.errors import QueryTypeInvalid, QueryValueInvalid

PAGE, MOST = 100, 1000
"""Entries of a page: as many as are sent, and as may be asked for."""

_SEARCHED = re.compile(r"[a-zA-Z0-9._-]{1,128}")
_MARKER_LIMIT = 300
_JOINT = "|"
"""Stands between the time and the name in a marker of tags by time; no tag has it."""

_ORDERS = {order.value: order for order in TagOrder}
_BOOLEANS = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class TagListQuery:
    """What a list of tags is to hold. `referrer_types`: None for referrers of every type."""

    selection: TagSelection
    referrers: bool
    referrer_types: frozenset[str] | None

    @classmethod
    def parse(cls, query: QueryParams) -> "TagListQuery":
        """Read the parameters. Raises QueryValueInvalid, QueryTypeInvalid."""
        order, descending = _order(query.get("sort", TagOrder.NAME.value))
        last, before = query.get("last"), query.get("before")
        if last is not None and before is not None:
            raise QueryValueInvalid("last and before exclude each other: follow the Link of each page as it is")
        name, exact = query.get("name"), query.get("name_exact")
        if name is not None and exact is not None:
            raise QueryValueInvalid("name and name_exact exclude each other")
        if name is not None and not _SEARCHED.fullmatch(name):
            raise QueryValueInvalid("name must be a part of a tag, of 1 to 128 letters, digits, dots, dashes and _")
        if exact is not None and not is_tag(exact):
            raise QueryValueInvalid("name_exact must be a tag")
        marker = last if last is not None else before
        selection = TagSelection(
            order=order,
            descending=descending,
            limit=parse_count(query),
            marker=None if marker is None else _parse_marker(marker, order),
            backwards=before is not None,
            search=name or "",
            exact=exact,
        )
        types = query.get("referrer_type")
        referrers = parse_boolean(query, "referrers")
        return cls(selection, referrers, None if types is None else frozenset(filter(None, types.split(","))))


def parse_count(query: QueryParams) -> int:
    """The parameter `n`. Raises QueryTypeInvalid, QueryValueInvalid."""
    text = query.get("n")
    if text is None:
        return PAGE
    if not (text.isascii() and text.removeprefix("-").isdigit() and len(text) < 10):
        raise QueryTypeInvalid("n must be a number")
    if not 1 <= int(text) <= MOST:
        raise QueryValueInvalid(f"n must be from 1 to {MOST}")
    return int(text)


def parse_boolean(query: QueryParams, name: str) -> bool:
    """A parameter that is `true` or `false`. Raises QueryTypeInvalid."""
    text = query.get(name, "false")
    if text not in _BOOLEANS:
        raise QueryTypeInvalid(f"{name} must be true or false")
    return _BOOLEANS[text]


def marker_of(place: TagPlace, order: TagOrder) -> str:
    """The marker of a tag: its name or, in a list by time, its time and its name in base64."""
    if order is TagOrder.NAME:
        return place.name
    moment = place.moved_at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return base64.urlsafe_b64encode(f"{moment}{_JOINT}{place.name}".encode()).decode()


def _order(text: str) -> tuple[TagOrder, bool]:
    descending = text.startswith("-")
    order = _ORDERS.get(text.removeprefix("-"))
    if order is None:
        raise QueryValueInvalid("sort must be name, -name, published_at or -published_at")
    return order, descending


def _parse_marker(text: str, order: TagOrder) -> TagPlace:
    """The tag at which a page begins or ends. Raises QueryValueInvalid."""
    if order is TagOrder.NAME:
        if not is_tag(text):
            raise QueryValueInvalid("last or before must be a tag")
        return TagPlace(text, datetime.min.replace(tzinfo=UTC))
    try:
        if len(text) > _MARKER_LIMIT:
            raise ValueError
        plain = text.replace("+", "-").replace("/", "_")
        moment, _, name = base64.b64decode(plain, "-_", validate=True).decode().partition(_JOINT)
        moved_at = datetime.fromisoformat(moment)
        if moved_at.tzinfo is None or not is_tag(name):
            raise ValueError
        return TagPlace(name, moved_at.astimezone(UTC))
    except (ValueError, OverflowError, binascii.Error) as error:
        raise QueryValueInvalid(
            "last or before is no marker of a tag: follow the Link of each page as it is"
        ) from error

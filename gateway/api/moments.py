"""Moments: times as parameters of requests have them."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import BeforeValidator

from gateway.api.shapes import Blank


def _read(value: object) -> datetime | None:
    """A date, which is the beginning of that day, or a time (ISO 8601); without a zone in UTC. Raises ValueError."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError("a time is a text")
    moment = datetime.fromisoformat(value)
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("no such time in UTC") from error


Moment = Annotated[datetime | None, BeforeValidator(_read), Blank]
"""A date or a time; an empty text is none."""

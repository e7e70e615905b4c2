"""Shapes of requests: the parameters that routes take, with their types and bounds, and the words for what is wrong.

The words are those of GitLab's API, which names every fault at once. Parameters that a route does not know are ignored,
as they are there.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from gateway.api.errors import ParametersInvalid

PER_PAGE, MOST_PER_PAGE = 20, 100
LAST_PAGE = 1_000_000
SEARCH_LIMIT = 255
"""Characters of a text that is searched for: no name of a repository has more."""

_NO_VALUE = {
    "missing": "is missing",
    "literal_error": "does not have a valid value",
    "enum": "does not have a valid value",
}
_SENTENCE = "sentence"


_ID_DIGITS = 18


def is_id(text: str) -> bool:
    """Whether a text is a number that an id may be; any other is a path."""
    return text.isascii() and text.isdigit() and len(text) <= _ID_DIGITS


def parse_id_cursor(cursor: str) -> int:
    """The id after which a page of a keyset by ids begins. Raises ParametersInvalid."""
    if not is_id(cursor):
        raise ParametersInvalid(["cursor is invalid"])
    return int(cursor)


class Shape(BaseModel):
    """Parameters of a request; those of no route are read as texts, lists of texts, or values of JSON."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    @classmethod
    def read(cls, parameters: Mapping[str, object]) -> Self:
        """Check parameters. Raises ParametersInvalid."""
        try:
            return cls.model_validate(dict(parameters))
        except ValidationError as error:
            raise ParametersInvalid(dict.fromkeys(map(_fault, error.errors(include_url=False)))) from None


class NoParameters(Shape):
    """The shape of a route without parameters."""


def refused(sentence: str) -> PydanticCustomError:
    """The error by which a validator refuses parameters with a sentence of its own."""
    return PydanticCustomError(_SENTENCE, "{sentence}", {"sentence": sentence})


def _fault(error: Any) -> str:
    """The words for one fault. They repeat nothing that the client sent."""
    kind = str(error["type"])
    if kind == _SENTENCE:
        return str(error["msg"])
    name = ".".join(str(part) for part in error["loc"])
    if kind in _NO_VALUE:
        return f"{name} {_NO_VALUE[kind]}"
    return f"{name} does not have a valid value" if kind in _OUT_OF_BOUNDS else f"{name} is invalid"


_OUT_OF_BOUNDS = {"greater_than_equal", "less_than_equal", "string_too_long", "string_too_short", "too_long"}


def _blank_as_none(value: object) -> object:
    return None if value == "" else value


def _at_most(value: object) -> object:
    """A size of pages above the largest one is that, as in GitLab."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value)
    return min(value, MOST_PER_PAGE) if isinstance(value, int) and not isinstance(value, bool) else value


def _plain(value: object) -> object:
    """A text without a NUL or half of a character, neither of which can be stored or stand in a name."""
    if isinstance(value, str) and ("\0" in value or not value.isprintable()):
        raise PydanticCustomError("text", "no text")
    return value


Blank = BeforeValidator(_blank_as_none)
"""An empty text is no value."""

Flag = Annotated[bool, BeforeValidator(lambda value: False if value == "" else value)]
Text = Annotated[str, BeforeValidator(_plain)]
SearchText = Annotated[str, BeforeValidator(_plain), Field(max_length=SEARCH_LIMIT)]


class PageShape(Shape):
    """Parameters of a list: the page, and what is searched for."""

    page: Annotated[int, Field(ge=1, le=LAST_PAGE, description="The number of the page, from 1.")] = 1
    per_page: Annotated[
        int,
        BeforeValidator(_at_most),
        Field(ge=1, le=MOST_PER_PAGE, description="Entries of a page; more than 100 means 100."),
    ] = PER_PAGE
    search: Annotated[SearchText, Field(description="Only entries whose name holds this text.")] = ""


class ListShape(PageShape):
    """Parameters of a list whose pages may begin after an entry, too, and that is sorted in a direction."""

    pagination: Annotated[
        Literal["keyset"] | None, Field(description="`keyset`: pages begin after an entry, and are not counted."), Blank
    ] = None
    sort: Annotated[Literal["asc", "desc"], Field(description="The direction of the order.")] = "asc"


class IdListShape(ListShape):
    """Parameters of a list that is sorted by ids."""

    cursor: Annotated[Text, Field(description="With keyset: where the page begins; taken from the link to it.")] = ""

    @model_validator(mode="after")
    def _cursor_is_an_id(self) -> Self:
        if self.cursor and not is_id(self.cursor):
            raise refused("cursor is invalid")
        return self

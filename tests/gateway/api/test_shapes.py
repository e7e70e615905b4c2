"""Shapes of requests name every fault at once, in the words of GitLab's API."""

import importlib
import pkgutil
from contextlib import suppress
from typing import Annotated, Literal

import pytest
from pydantic import Field

from gateway import api
from gateway.api.errors import ParametersInvalid
from gateway.api.shapes import Blank, Flag, ListShape, Shape, Text


class Sample(Shape):
    name: Text
    count: Annotated[Annotated[int, Field(ge=0, le=9)] | None, Blank] = None
    colour: Literal["red", "blue"] = "red"
    loud: Flag = False


def faults(parameters: dict[str, object], shape: type[Shape] = Sample) -> str:
    with pytest.raises(ParametersInvalid) as refused:
        shape.read(parameters)
    assert refused.value.document == {"error": refused.value.message}
    return refused.value.message


def test_every_fault_is_named() -> None:
    wanted = "name is missing, count is invalid, colour does not have a valid value, loud is invalid"
    assert faults({"count": "x", "colour": "green", "loud": "perhaps"}) == wanted


@pytest.mark.parametrize(
    ("parameters", "fault"),
    [
        ({"name": "a", "count": "-1"}, "count does not have a valid value"),
        ({"name": "a", "count": "10"}, "count does not have a valid value"),
        ({"name": "a", "count": ["1"]}, "count is invalid"),
        ({"name": "a", "count": "1e99"}, "count is invalid"),
        ({"name": ["a"]}, "name is invalid"),
        ({"name": {"a": "b"}}, "name is invalid"),
        ({"name": "a\0b"}, "name is invalid"),
        ({"name": "\ud800"}, "name is invalid"),
        ({"name": None}, "name is invalid"),
    ],
)
def test_a_wrong_value_is_refused(parameters: dict[str, object], fault: str) -> None:
    assert faults(parameters) == fault


def test_texts_become_values() -> None:
    read = Sample.read({"name": "a", "count": "3", "loud": "true", "unknown": "x"})
    assert (read.name, read.count, read.loud) == ("a", 3, True)
    assert Sample.read({"name": "a", "count": "", "loud": ""}).count is None


@pytest.mark.parametrize(
    ("parameters", "fault"),
    [
        ({"page": "0"}, "page does not have a valid value"),
        ({"page": "x"}, "page is invalid"),
        ({"per_page": "0"}, "per_page does not have a valid value"),
        ({"per_page": "-5"}, "per_page does not have a valid value"),
        ({"page": str(2**70)}, "page does not have a valid value"),
        ({"per_page": "1.5"}, "per_page is invalid"),
        ({"sort": "up"}, "sort does not have a valid value"),
        ({"pagination": "offset"}, "pagination does not have a valid value"),
        ({"search": "a" * 256}, "search does not have a valid value"),
    ],
)
def test_pages_are_bounded(parameters: dict[str, object], fault: str) -> None:
    assert faults(parameters, ListShape) == fault


@pytest.mark.parametrize(("given", "used"), [("100", 100), ("101", 100), (5000, 100), ("99999999999", 100), ("7", 7)])
def test_pages_above_the_largest_are_the_largest(given: object, used: int) -> None:
    assert ListShape.read({"per_page": given}).per_page == used


def shapes(of: type[Shape] = Shape) -> list[type[Shape]]:
    """Every shape of the API."""
    for module in pkgutil.iter_modules(api.__path__):
        importlib.import_module(f"{api.__name__}.{module.name}")
    return [found for shape in of.__subclasses__() for found in (shape, *shapes(shape))]


@pytest.mark.parametrize("value", ["", None, 0, -1, "x" * 2000, [], {}, True, 1.5])
def test_whatever_a_parameter_is_it_is_taken_or_refused_by_its_name(value: object) -> None:
    for shape in shapes():
        for name in shape.model_fields:
            with suppress(ParametersInvalid):
                shape.read({name: value})

"""Texts of errors: the sentence that helps is in `message`, which clients print, for every refusal of the code."""

import ast
import json
from collections.abc import Iterator

import pytest

from cache.oci.errors import RegistryError
from gateway.http.errors import error_response
from gateway.wiring import app  # imports every surface, and with it every error
from tests.test_architecture import modules

assert app
SENTENCE_OF_THE_CLASS = {"Misdirected", "RegistryError"}
"""Errors that may be made without a text: what they say is always the same, or nobody is told."""


def errors_below(error: type[RegistryError]) -> Iterator[type[RegistryError]]:
    yield error
    for each in error.__subclasses__():
        yield from errors_below(each)


ERRORS = {error.__name__: error for error in errors_below(RegistryError) if error.__module__.startswith(("c", "g"))}


def made_errors() -> Iterator[tuple[str, ast.Call]]:
    """Every place of the code that makes an error, as FILE:LINE, and the call."""
    for module, path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ERRORS:
                yield f"{module}:{node.lineno}", node


def test_every_error_is_made_with_a_sentence() -> None:
    found = list(made_errors())
    assert len(found) > 100
    for place, call in found:
        assert isinstance(call.func, ast.Name)
        if not call.args:
            assert call.func.id in SENTENCE_OF_THE_CLASS, place
            continue
        [text, *_] = call.args
        assert not isinstance(text, ast.Dict | ast.List | ast.Set | ast.Tuple | ast.ListComp | ast.DictComp), place
        if isinstance(text, ast.Constant):
            assert isinstance(text.value, str) and " " in text.value, place


@pytest.mark.parametrize("name", ERRORS)
def test_the_message_is_the_sentence_and_code_and_status_stay(name: str) -> None:
    error = RegistryError.__new__(ERRORS[name])
    RegistryError.__init__(error, "what to do")
    [entry] = json.loads(bytes(error_response(error).body))["errors"]
    assert entry == {"code": error.code, "message": "what to do"}
    RegistryError.__init__(error, {"digests": []})
    [entry] = json.loads(bytes(error_response(error).body))["errors"]
    assert (entry["message"], entry["detail"]) == (error.message, {"digests": []})
    assert error_response(error).status_code == error.status

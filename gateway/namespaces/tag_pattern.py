"""TagPattern: a regular expression over names of tags. RE2 matches it in linear time, whatever people write."""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import re2  # type: ignore[import-untyped]

from gateway.namespaces.errors import TagPatternInvalid

PATTERN_LIMIT = 255
"""Characters of a pattern at most (GitLab, "Container expiration policy")."""

EVERYTHING = ".*"

_MEMORY = 1 << 20
"""Bytes that one compiled pattern may take, with the states that its matching makes: `(a{1000}){1000}` has too many."""

_SHOWN = 60
"""Characters of a pattern that a refusal repeats."""


@dataclass(frozen=True, slots=True)
class TagPattern:
    """A pattern, which a name matches as a whole or not at all."""

    text: str
    _compiled: Any = field(compare=False, repr=False)

    @classmethod
    def parse(cls, text: str, limit: int = PATTERN_LIMIT) -> "TagPattern":
        """Read a pattern of at most `limit` characters. Raises TagPatternInvalid."""
        if not text:
            raise TagPatternInvalid(f"an empty pattern matches no tag: {EVERYTHING} matches every one")
        if len(text) > limit:
            raise TagPatternInvalid(f"a pattern has at most {limit} characters, not {len(text)}")
        return cls(text, _compile(text))

    def matches(self, name: str) -> bool:
        """Whether the whole name of a tag matches."""
        return self.text == EVERYTHING or self._compiled.fullmatch(name.encode()) is not None

    def __str__(self) -> str:
        return self.text


@lru_cache(1000)
def _compile(text: str) -> Any:
    """Compile a pattern. Raises TagPatternInvalid."""
    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    options.max_mem = _MEMORY
    try:
        return re2.compile(text.encode(), options)
    except UnicodeEncodeError:
        reason = "it has half of a character"
    except re2.error as error:
        reason = error.args[0].decode(errors="replace") if isinstance(error.args[0], bytes) else str(error)
    raise TagPatternInvalid(f"{text[:_SHOWN]!r} is no regular expression of RE2: {reason}")

"""Limits of GraphQL documents, which are checked before the rules of the language: these may take long."""

from collections import Counter
from collections.abc import Iterable

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLSyntaxError,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
    parse,
)

LONGEST_DOCUMENT = 20_000
"""Characters of a document; the query of a whole schema has 1,500, and a secret may have thousands."""

MOST_TOKENS = 1_000
DEEPEST = 20
"""Levels of selected fields; the query of a whole schema has 13."""

MOST_FIELDS = 500
"""Fields and spreads that a document selects, those of a fragment as often as it is spread."""

MOST_ROOTS = 20
"""Groups that a document may read, and changes that it may make, whatever they are called there."""

MOST_READS = 60
"""Fields that read what a dependency proxy holds: each sums up or lists the cache of a group, by whatever name."""
_READING = "dependencyProxy"

MOST_DEFINITIONS = 20
"""Operations and fragments: each fragment is compared with each; the query of a whole schema has four."""

MOST_PAIRS = 2_000
"""Pairs of fields that one response would hold under one name. The rules of the language compare each with each, which
takes some 2 µs; clients repeat a few fields by fragments."""


def parse_document(text: str) -> DocumentNode:
    """Parse a document within the limits. Raises GraphQLError."""
    if len(text) > LONGEST_DOCUMENT:
        raise GraphQLError(f"The document has more than {LONGEST_DOCUMENT} characters")
    try:
        document = parse(text, max_tokens=MOST_TOKENS)
    except GraphQLSyntaxError:
        raise
    except RecursionError as error:
        raise GraphQLError(f"The document has more than {DEEPEST} levels") from error
    if len(document.definitions) > MOST_DEFINITIONS:
        raise GraphQLError(f"The document has more than {MOST_DEFINITIONS} operations and fragments")
    fragments = {part.name.value: part for part in document.definitions if isinstance(part, FragmentDefinitionNode)}
    for part in document.definitions:
        if isinstance(part, OperationDefinitionNode | FragmentDefinitionNode):
            measured = _Measured(fragments)
            if measured.fields(part.selection_set, 1) > MOST_FIELDS:
                raise GraphQLError(f"The document selects more than {MOST_FIELDS} fields")
            if measured.pairs > MOST_PAIRS:
                raise GraphQLError("The document selects the same fields too often")
            if measured.reads > MOST_READS:
                raise GraphQLError(f"The document selects more than {MOST_READS} fields of dependency proxies")
            if isinstance(part, OperationDefinitionNode) and measured.roots(part.selection_set) > MOST_ROOTS:
                raise GraphQLError(f"The document selects more than {MOST_ROOTS} fields of an operation")
    return document


class _Measured:
    """Counts the fields of an operation, or of a fragment, which is checked even where nothing spreads it. A fragment
    that leads to itself is too deep. `reads`: fields that read what a dependency proxy holds."""

    def __init__(self, fragments: dict[str, FragmentDefinitionNode]) -> None:
        self._fragments = fragments
        self._named = Counter[tuple[str, ...]]()
        self.reads = 0

    @property
    def pairs(self) -> int:
        """Pairs of fields that stand at the same place of the response."""
        return sum(count * (count - 1) // 2 for count in self._named.values())

    def fields(
        self, selected: SelectionSetNode | None, depth: int, counted: int = 0, place: tuple[str, ...] = ()
    ) -> int:
        """How many fields are selected, as far as the limit. `place`: where in the response. Raises GraphQLError where
        they lie too deep."""
        if depth > DEEPEST:
            raise GraphQLError(f"The document has more than {DEEPEST} levels")
        for selection in () if selected is None else selected.selections:
            if counted > MOST_FIELDS:
                break
            counted += 1  # spreads, too: fragments may hold nothing but each other, many times
            inner = self._note(selection, place) if isinstance(selection, FieldNode) else place
            for below in self._below(selection):
                counted = self.fields(below, depth + 1, counted, inner)
        return counted

    def _note(self, field: FieldNode, place: tuple[str, ...]) -> tuple[str, ...]:
        """Count a field, and return where in the response it stands."""
        self.reads += field.name.value.startswith(_READING)
        inner = (*place, (field.alias or field.name).value)
        self._named[inner] += 1
        return inner

    def roots(self, selected: SelectionSetNode) -> int:
        """How many fields of an operation itself are selected. Each fragment is at a depth of its own."""
        return sum(
            1 if isinstance(selection, FieldNode) else sum(map(self.roots, self._below(selection)))
            for selection in selected.selections
        )

    def _below(self, selection: object) -> Iterable[SelectionSetNode]:
        if isinstance(selection, FragmentSpreadNode):
            fragment = self._fragments.get(selection.name.value)
            return () if fragment is None else (fragment.selection_set,)
        if isinstance(selection, FieldNode | InlineFragmentNode) and selection.selection_set is not None:
            return (selection.selection_set,)
        return ()

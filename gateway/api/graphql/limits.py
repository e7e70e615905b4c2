"""Limits of GraphQL documents, which are checked before the rules of the language: these may take long."""

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
    fragments = {part.name.value: part for part in document.definitions if isinstance(part, FragmentDefinitionNode)}
    measured = _Measured(fragments)
    for part in document.definitions:
        if isinstance(part, OperationDefinitionNode):
            if measured.fields(part.selection_set, 1) > MOST_FIELDS:
                raise GraphQLError(f"The document selects more than {MOST_FIELDS} fields")
            if measured.roots(part.selection_set) > MOST_ROOTS:
                raise GraphQLError(f"The document selects more than {MOST_ROOTS} fields of an operation")
    return document


class _Measured:
    """Counts the fields of a document. A fragment that leads to itself is too deep."""

    def __init__(self, fragments: dict[str, FragmentDefinitionNode]) -> None:
        self._fragments = fragments

    def fields(self, selected: SelectionSetNode | None, depth: int, counted: int = 0) -> int:
        """How many fields are selected, as far as the limit. Raises GraphQLError where they lie too deep."""
        if depth > DEEPEST:
            raise GraphQLError(f"The document has more than {DEEPEST} levels")
        for selection in () if selected is None else selected.selections:
            if counted > MOST_FIELDS:
                break
            counted += 1  # spreads, too: fragments may hold nothing but each other, many times
            for below in self._below(selection):
                counted = self.fields(below, depth + 1, counted)
        return counted

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

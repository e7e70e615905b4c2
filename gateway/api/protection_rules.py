"""Protection rules of a project: for its repositories, and for tags in all of them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal

from pydantic import Field
from starlette.responses import Response

from gateway.administration.protection_rules import ProtectionRuleChanges
from gateway.api.errors import Forbidden, ParametersInvalid, ResourceUnknown, Unprocessable
from gateway.api.members import partial_of
from gateway.api.options import ApiOptions
from gateway.api.places import Places
from gateway.api.responses import no_content, one, page_of
from gateway.api.routing import Call, Route
from gateway.api.shapes import ListShape, NoParameters, Shape, Text, is_id
from gateway.api.tree_refusals import tree_refusals
from gateway.auth.matrix import Action
from gateway.directory.places import ProjectPlace
from gateway.http.access_log import note_native_lookup
from gateway.namespaces.errors import ProtectionTaken, ProtectionUnknown
from gateway.namespaces.protection import ProtectionKind, ProtectionLevel, ProtectionRule
from gateway.namespaces.role import Role
from gateway.namespaces.tag_pattern import PATTERN_LIMIT
from gateway.services import Services

RULE = "Protection Rule"
LEVELS = ("minimum_access_level_for_push", "minimum_access_level_for_delete")
_PATHS = {"repository": ("repository/rules", "rules"), "tag": ("tag/rules",)}
"""Where the rules of a kind are; those for repositories are at their former path, too."""

Level = Annotated[
    Literal["maintainer", "owner", "admin", ""] | None,
    Field(description="The weakest who may: `maintainer`, `owner`, `admin`; empty: whoever may without a rule."),
]


class RuleShape(Shape):
    """Levels of a rule."""

    minimum_access_level_for_push: Level = None
    minimum_access_level_for_delete: Level = None

    @property
    def pattern(self) -> str | None:
        """The pattern that is wanted."""
        raise NotImplementedError

    def levels(self, rule: ProtectionRule | None = None) -> tuple[ProtectionLevel | None, ProtectionLevel | None]:
        """The levels that are wanted; those that are not given are those of a rule that there is."""
        given = self.minimum_access_level_for_push, self.minimum_access_level_for_delete
        present = (None, None) if rule is None else (rule.push, rule.delete)
        push, delete = (
            before if text is None else (ProtectionLevel[text.upper()] if text else None)
            for text, before in zip(given, present, strict=True)
        )
        return push, delete


class RepositoryRuleShape(RuleShape):
    """A rule for repositories."""

    repository_path_pattern: Annotated[
        Text | None, Field(max_length=2 * PATTERN_LIMIT, description="Whole paths, with `*` for any text.")
    ] = None

    @property
    def pattern(self) -> str | None:
        return self.repository_path_pattern


class TagRuleShape(RuleShape):
    """A rule for tags; without levels they are immutable."""

    tag_name_pattern: Annotated[
        Text | None, Field(max_length=PATTERN_LIMIT, description="A regular expression of RE2 over whole names.")
    ] = None

    @property
    def pattern(self) -> str | None:
        return self.tag_name_pattern


_SHAPES: dict[str, type[RuleShape]] = {"repository": RepositoryRuleShape, "tag": TagRuleShape}
_ATTRIBUTES = {"repository": "repository_path_pattern", "tag": "tag_name_pattern"}


class ProtectionRuleRoutes:
    """Handlers of protection rules. `of`: the word for what they protect, in paths."""

    def __init__(self, services: Services, places: Places, options: ApiOptions) -> None:
        self._rules = ProtectionRuleChanges(services)
        self._places = places
        self._options = options

    @property
    def routes(self) -> list[Route[Any]]:
        return [route for of, paths in _PATHS.items() for path in paths for route in self._routes(of, path)]

    def _routes(self, of: str, path: str) -> list[Route[Any]]:
        every = f"/projects/{{id}}/registry/protection/{path}"
        single, shape, answer = f"{every}/{{protection_rule_id}}", _SHAPES[of], f"{of.capitalize()}Rule"

        def bound(handler: Callable[[str, Call[Any]], Any]) -> Callable[[Call[Any]], Any]:
            return partial_of(handler, of)

        return [
            Route("GET", every, bound(self.list_all), ListShape, "rules", answer=f"{answer}s"),
            Route("POST", every, bound(self.create), shape, "rule", status=201, unique=True, answer=answer),
            Route("PATCH", single, bound(self.update), shape, "rule", unique=True, answer=answer),
            Route("DELETE", single, bound(self.delete), NoParameters, "rule", status=204),
        ]

    async def list_all(self, of: str, call: Call[ListShape]) -> Response:
        """List the protection rules of a project."""
        place = await self._find(call, Action.KNOW)  # which a token for reading may do
        await self._require(Role.MAINTAINER, call, place, "maintainers and above see protection rules")
        rules = [rule for rule in await self._of_kind(of, place) if call.parameters.search in rule.pattern]
        return page_of(call, self._options, rules, lambda rule: _document(place, rule))

    async def create(self, of: str, call: Call[RuleShape]) -> Response:
        """Make a protection rule, which counts from the next request on."""
        place, wanted = await self._find(call), call.parameters
        if not wanted.pattern:
            raise ParametersInvalid([f"{_ATTRIBUTES[of]} is missing"])
        levels = wanted.levels()
        kind = ProtectionKind(of)
        if kind is ProtectionKind.TAG and levels == (None, None):
            kind = ProtectionKind.IMMUTABLE
        if kind is ProtectionKind.REPOSITORY and levels == (None, None):
            raise ParametersInvalid([f"{', '.join(LEVELS)} are missing, at least one parameter must be provided"])
        with _refusals():
            rule = await self._rules.create(call, place, kind, wanted.pattern, *levels)
        return one(_document(place, rule), 201)

    async def update(self, of: str, call: Call[RuleShape]) -> Response:
        """Change a protection rule; an empty level is none. Immutable tags are not changed, but deleted and made."""
        place, wanted = await self._find(call), call.parameters
        rule = await self._get(of, place, call)
        with _refusals():
            rule = await self._rules.update(call, place, rule, wanted.pattern or None, *wanted.levels(rule))
        return one(_document(place, rule))

    async def delete(self, of: str, call: Call[NoParameters]) -> Response:
        """Delete a protection rule."""
        place = await self._find(call)
        rule = await self._get(of, place, call)
        with _refusals():
            await self._rules.delete(call, place, rule)
        return no_content()

    async def _find(self, call: "Call[Any]", action: Action = Action.ADMIN) -> ProjectPlace:
        place = await self._places.project(call.path["id"], call.principal, action)
        note_native_lookup(call.request.scope, "rule", place.project.path)
        return place

    async def _of_kind(self, of: str, place: ProjectPlace) -> list[ProtectionRule]:
        """The rules of a kind; those for immutable tags are rules for tags."""
        is_repository = ProtectionKind(of) is ProtectionKind.REPOSITORY
        rules = await self._rules.list_of(place)
        return [rule for rule in rules if (rule.kind is ProtectionKind.REPOSITORY) is is_repository]

    async def _get(self, of: str, place: ProjectPlace, call: "Call[Any]") -> ProtectionRule:
        text = call.path["protection_rule_id"]
        for rule in await self._of_kind(of, place) if is_id(text) else ():
            if rule.id == int(text):
                return rule
        raise ResourceUnknown(RULE)

    async def _require(self, needed: Role, call: "Call[Any]", place: ProjectPlace, rule: str) -> None:
        role = await self._places.role(call.principal, place.way)
        if role is None or role < needed:
            raise Forbidden(rule)


@contextmanager
def _refusals() -> Iterator[None]:
    """Translate what is refused within the block. Raises ApiError."""
    with tree_refusals():
        try:
            yield
        except ProtectionTaken as error:
            raise Unprocessable(str(error)) from error
        except ProtectionUnknown as error:
            raise ResourceUnknown(RULE, str(error)) from error


def _document(place: ProjectPlace, rule: ProtectionRule) -> dict[str, object]:
    is_repository = rule.kind is ProtectionKind.REPOSITORY
    named = (
        {"repository_path_pattern": f"{place.project.path}{rule.pattern}"}
        if is_repository
        else {"tag_name_pattern": rule.pattern}
    )
    levels = dict(zip(LEVELS, (level and level.word for level in (rule.push, rule.delete)), strict=True))
    immutable = {} if is_repository else {"immutable": rule.kind is ProtectionKind.IMMUTABLE}
    return {"id": rule.id, "project_id": place.project.id, **named, **levels, **immutable}

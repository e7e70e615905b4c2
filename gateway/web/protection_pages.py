"""Protection rules of a project: for its repositories and its tags, and immutable tags."""

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.responses import Response

from gateway.administration.protection_rules import ProtectionRuleChanges
from gateway.auth.matrix import Action
from gateway.inspection.place_finder import PlaceUnknown
from gateway.namespaces.errors import TreeError
from gateway.namespaces.protection import (
    REPOSITORY_RULES,
    TAG_PATTERN_LIMIT,
    TAG_RULES,
    ProtectionKind,
    ProtectionLevel,
    ProtectionRule,
)
from gateway.namespaces.role import Role
from gateway.services import Services
from gateway.web.errors import PageError, sentence
from gateway.web.forms import Form
from gateway.web.page_places import PagePlaces, ProjectPage
from gateway.web.pages import Pages
from gateway.web.routes import PageRoute
from gateway.web.visit import Visit

RULES = "/{project:path}/-/settings/protection_rules"
KINDS = {
    ProtectionKind.REPOSITORY: "Repositories",
    ProtectionKind.TAG: "Tags",
    ProtectionKind.IMMUTABLE: "Immutable tags",
}
_INVALID = 422


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A rule as a form asks for it. `problem`: why it was not made; empty where nobody has tried."""

    kind: ProtectionKind | None = None
    pattern: str = ""
    push: ProtectionLevel | None = ProtectionLevel.MAINTAINER
    delete: ProtectionLevel | None = ProtectionLevel.MAINTAINER
    problem: str = ""


class ProtectionPages:
    """Handlers of protection rules."""

    def __init__(self, services: Services, pages: Pages) -> None:
        self._rules = ProtectionRuleChanges(services)
        self._pages = pages
        self._places = PagePlaces(services)

    @property
    def routes(self) -> Sequence[PageRoute]:
        return [
            PageRoute("GET", RULES, self.list_all),
            PageRoute("POST", RULES, self.create),
            PageRoute("POST", f"{RULES}/{{id}}", self.update),
            PageRoute("GET", f"{RULES}/{{id}}/delete", self.ask_to_delete),
            PageRoute("POST", f"{RULES}/{{id}}/delete", self.delete),
        ]

    async def list_all(self, visit: Visit) -> Response:
        """List the rules, and show the forms that make some."""
        return await self._list(visit, await self._places.project(visit, Action.ADMIN), _Wanted())

    async def create(self, visit: Visit) -> Response:
        """Make a rule, which counts from the next request on."""
        page, form = await self._places.project(visit, Action.ADMIN), visit.form
        try:
            kind = ProtectionKind(form.one("kind"))
        except ValueError as error:
            raise PageError("The form names no kind of rule. Nothing was changed.") from error
        push, delete = (None, None) if kind is ProtectionKind.IMMUTABLE else _levels(form)
        pattern = form.one("pattern").strip()
        try:
            await self._rules.create(visit, page.place, kind, pattern, push, delete)
        except TreeError as error:
            return await self._list(visit, page, _Wanted(kind, pattern, push, delete, sentence(str(error))))
        return self._pages.lead(visit, f"{_rules_of(page)}?done=created")

    async def update(self, visit: Visit) -> Response:
        """Change who may do what a rule protects."""
        page = await self._places.project(visit, Action.ADMIN)
        rule = await self._get(visit, page)
        try:
            await self._rules.update(visit, page.place, rule, None, *_levels(visit.form))
        except TreeError as error:
            return await self._list(visit, page, _Wanted(problem=sentence(str(error))))
        return self._pages.lead(visit, f"{_rules_of(page)}?done=changed")

    async def ask_to_delete(self, visit: Visit) -> Response:
        """Ask whether a rule is to be deleted."""
        page = await self._places.project(visit, Action.ADMIN)
        rule = await self._get(visit, page)
        title = f"Delete protection rule · {page.path}"
        return self._pages.show(
            visit, "delete_rule.html", title, **page.shown, rule=rule, rules=_rules_of(page), kinds=KINDS
        )

    async def delete(self, visit: Visit) -> Response:
        """Delete a rule."""
        page = await self._places.project(visit, Action.ADMIN)
        await self._rules.delete(visit, page.place, await self._get(visit, page))
        return self._pages.lead(visit, f"{_rules_of(page)}?done=deleted")

    async def _get(self, visit: Visit, page: ProjectPage) -> ProtectionRule:
        """The rule of an id that a project has. Raises PlaceUnknown."""
        id = visit.id_in_place("id")
        for rule in await self._rules.list_of(page.place):
            if rule.id == id:
                return rule
        raise PlaceUnknown("there is no such rule")

    async def _list(self, visit: Visit, page: ProjectPage, wanted: _Wanted) -> Response:
        rules = await self._rules.list_of(page.place)
        role = await self._places.finder.role(visit.principal, page.place)
        return self._pages.show(
            visit,
            "protection_rules.html",
            f"{'Error: protection' if wanted.problem else 'Protection'} rules · {page.path}",
            status=_INVALID if wanted.problem else 200,
            **page.shown,
            listed=[(kind, text, [rule for rule in rules if rule.kind is kind]) for kind, text in KINDS.items()],
            wanted=wanted,
            levels=[(level, sentence(level.who)[:-1]) for level in ProtectionLevel],
            is_owner=role is Role.OWNER,
            limits={"repositories": REPOSITORY_RULES, "tags": TAG_RULES, "pattern": TAG_PATTERN_LIMIT},
            rules=_rules_of(page),
            done=visit.query.one("done"),
        )


def _rules_of(page: ProjectPage) -> str:
    return f"{page.base}/settings/protection_rules"


def _levels(form: Form) -> tuple[ProtectionLevel | None, ProtectionLevel | None]:
    """Who may push and who may delete, by a form; None where a rule does not restrict it. Raises PageError."""
    try:
        push, delete = (ProtectionLevel[text.upper()] if text else None for text in map(form.one, ("push", "delete")))
    except KeyError as error:
        raise PageError("The form names no level. Nothing was changed.") from error
    return push, delete

"""Packages & Registries settings of a project: its cleanup policy, with a preview of what that would delete."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from starlette.responses import Response

from gateway.audit.changes import AuditedChanges
from gateway.audit.event import EventKind, Subject
from gateway.auth.matrix import Action
from gateway.namespaces.cleanup_policy import AGES, KEPT_NUMBERS, Cadence, CleanupPolicy, check_policy
from gateway.namespaces.cleanup_rule import CleanupRuleInvalid
from gateway.registry.cleanup import JudgedTag, TagVerdict
from gateway.services import Services
from gateway.web.errors import sentence
from gateway.web.forms import Form
from gateway.web.page_places import PagePlaces, ProjectPage
from gateway.web.pages import Pages
from gateway.web.routes import PageRoute
from gateway.web.visit import Visit

PREVIEWED = 100
"""Tags that a preview names of each kind; all that it has judged are counted."""

PREVIEW_SECONDS = 5.0
"""How long a preview judges tags before it shows what it has: a project may have millions."""

CADENCES = {
    Cadence.DAY: "Every day",
    Cadence.WEEK: "Every week",
    Cadence.FORTNIGHT: "Every two weeks",
    Cadence.MONTH: "Every month",
    Cadence.QUARTER: "Every three months",
}
REASONS = {
    TagVerdict.LATEST: "it is named latest",
    TagVerdict.OTHER_NAME: "its name does not match those to remove",
    TagVerdict.KEPT_NAME: "its name matches those to keep",
    TagVerdict.NEWEST: "it is among the most recent",
    TagVerdict.UNDATED: "its date is not known",
    TagVerdict.RECENT: "it is not old enough",
    TagVerdict.PROTECTED: "a rule protects it",
}
"""Why a tag stays, in words."""

_INVALID = 422


@dataclass(slots=True)
class Preview:
    """What a policy would do now. `doomed`, `staying`: the first tags of each kind, with the reason of those that stay.
    `is_whole`: whether all tags were judged in the time that a page has."""

    deleted: int = 0
    kept: int = 0
    doomed: list[str] = field(default_factory=list)
    staying: list[tuple[str, str]] = field(default_factory=list)
    is_whole: bool = True

    def add(self, repository: str, page: Sequence[JudgedTag]) -> None:
        """Count the tags of a part of a repository."""
        for judged in page:
            name = f"{repository}:{judged.tag.name}"
            if judged.verdict is TagVerdict.DELETED:
                self.deleted += 1
                self.doomed += [name] if len(self.doomed) < PREVIEWED else []
            else:
                self.kept += 1
                reason = judged.rule or REASONS[judged.verdict]
                self.staying += [(name, reason)] if len(self.staying) < PREVIEWED else []


class CleanupSettings:
    """Handlers of cleanup policies."""

    def __init__(self, services: Services, pages: Pages) -> None:
        self._services = services
        self._policies = services.native.policies
        self._audited = AuditedChanges(services.audit)
        self._pages = pages
        self._places = PagePlaces(services)

    @property
    def routes(self) -> Sequence[PageRoute]:
        pattern = "/{project:path}/-/settings/packages_and_registries"
        return [PageRoute("GET", pattern, self.ask), PageRoute("POST", pattern, self.save)]

    async def ask(self, visit: Visit) -> Response:
        """Show the policy."""
        page = await self._places.project(visit, Action.ADMIN)
        stored = await self._policies.find(page.place.project.id)
        return await self._show(visit, page, CleanupPolicy() if stored is None else stored.policy)

    async def save(self, visit: Visit) -> Response:
        """Save the policy, or show what it would delete and change nothing."""
        page, form = await self._places.project(visit, Action.ADMIN), visit.form
        wanted = CleanupPolicy()
        try:
            wanted = _wanted(form)
            check_policy(replace(wanted, enabled=True))
            if form.has("preview"):
                return await self._show(visit, page, wanted, preview=await self._preview(page, wanted))
            await self._policies.save(page.place.project.id, lambda _: wanted)
        except CleanupRuleInvalid as error:
            problem = sentence(f"{_FIELDS.get(error.parameter, error.parameter)}: {error.reason}")
            return await self._show(visit, page, wanted, problem=problem)
        self._audited.changed(visit, EventKind.UPDATE, Subject.CLEANUP_POLICY, page.path)
        return self._pages.lead(visit, f"/{page.path}/-/settings/packages_and_registries?saved=yes")

    async def _preview(self, page: ProjectPage, policy: CleanupPolicy) -> Preview:
        preview, end = Preview(), asyncio.get_running_loop().time() + PREVIEW_SECONDS
        judged = self._policies.preview(page.place.project.id, policy)
        async with aclosing(judged):
            async for repository, part in judged:
                preview.add(repository, part)
                if asyncio.get_running_loop().time() > end:
                    preview.is_whole = False
                    break
        return preview

    async def _show(
        self,
        visit: Visit,
        page: ProjectPage,
        policy: CleanupPolicy,
        *,
        problem: str = "",
        preview: Preview | None = None,
    ) -> Response:
        return self._pages.show(
            visit,
            "cleanup_settings.html",
            f"{'Error: cleanup' if problem else 'Cleanup'} · {page.path}",
            status=_INVALID if problem else 200,
            project=page,
            policy=policy,
            stored=await self._policies.find(page.place.project.id),
            problem=problem,
            preview=preview,
            cadences=CADENCES,
            ages=AGES,
            numbers=KEPT_NUMBERS,
            saved=visit.query.has("saved"),
        )


_FIELDS = {
    "keep_n": "Keep the most recent",
    "older_than": "Remove tags older than",
    "name_regex_keep": "Keep tags matching",
    "name_regex_delete": "Remove tags matching",
    "name_regex": "Remove tags matching",
}
"""What the page calls the values of a policy."""


def _wanted(form: Form) -> CleanupPolicy:
    """The policy of a form. Raises CleanupRuleInvalid."""
    number = form.one("keep_n")
    if number and not (number.isascii() and number.isdigit() and len(number) <= _MOST_DIGITS):
        raise CleanupRuleInvalid("keep_n", "it is no number")
    try:
        cadence = Cadence(form.one("cadence"))
    except ValueError:
        raise CleanupRuleInvalid("Run cleanup", "choose one of the list") from None
    return CleanupPolicy(
        form.has("enabled"),
        cadence,
        int(number) if number else None,
        form.one("older_than") or None,
        form.one("name_regex_delete").strip(),
        form.one("name_regex_keep").strip() or None,
    )


_MOST_DIGITS = 6

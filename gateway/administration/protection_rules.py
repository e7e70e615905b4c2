"""Protection rules of projects, as whoever may administer these makes, changes and deletes them."""

from gateway.administration.actor import Actor
from gateway.audit.changes import AuditedChanges
from gateway.audit.event import EventKind, Subject
from gateway.audit.told import tell_rule
from gateway.auth.decisions import Decision, Refusal
from gateway.directory.places import ProjectPlace
from gateway.inspection.place_finder import PlaceFinder, PlaceRefused
from gateway.namespaces.protection import ProtectionKind, ProtectionLevel, ProtectionRule, below_project
from gateway.namespaces.role import Role
from gateway.services import Services

_UNCHANGED = "a rule for immutable tags cannot be changed: delete it, and make another one"


class ProtectionRuleChanges:
    """Lists and changes rules. The caller has found the place for somebody who may administer it.

    Owners alone make and end immutable tags (GitLab, "Immutable container tags"). Raises PlaceRefused, TreeError where
    a rule is refused, StoreUnavailable.
    """

    def __init__(self, services: Services) -> None:
        self._rules = services.native.protection_rules
        self._finder = PlaceFinder(services)
        self._audited = AuditedChanges(services.audit)

    async def list_of(self, place: ProjectPlace) -> list[ProtectionRule]:
        """The rules of a project in the order in which they were made."""
        return await self._rules.list_of(place.project.id)

    async def create(
        self,
        actor: Actor,
        place: ProjectPlace,
        kind: ProtectionKind,
        pattern: str,
        push: ProtectionLevel | None,
        delete: ProtectionLevel | None,
    ) -> ProtectionRule:
        """Make a rule. `pattern`: of tags, or of whole paths of repositories."""
        await self._require_owner(actor, place, kind)
        rule = await self._rules.create(place.project.id, kind, _stored(place, kind, pattern), push, delete)
        self._note(actor, EventKind.CREATE, place, rule, after=tell_rule(rule))
        return rule

    async def update(
        self,
        actor: Actor,
        place: ProjectPlace,
        rule: ProtectionRule,
        pattern: str | None,
        push: ProtectionLevel | None,
        delete: ProtectionLevel | None,
    ) -> ProtectionRule:
        """Change a rule. `pattern`: None for the one that it has."""
        if rule.kind is ProtectionKind.IMMUTABLE:
            raise PlaceRefused(Decision(False, _UNCHANGED, Refusal.DENIED))
        stored = rule.pattern if pattern is None else _stored(place, rule.kind, pattern)
        changed = await self._rules.update(place.project.id, rule.id, stored, push, delete)
        self._note(actor, EventKind.UPDATE, place, changed, before=tell_rule(rule), after=tell_rule(changed))
        return changed

    async def delete(self, actor: Actor, place: ProjectPlace, rule: ProtectionRule) -> None:
        """Delete a rule."""
        await self._require_owner(actor, place, rule.kind)
        await self._rules.delete(place.project.id, rule.id)
        self._note(actor, EventKind.DELETE, place, rule, before=tell_rule(rule))

    async def _require_owner(self, actor: Actor, place: ProjectPlace, kind: ProtectionKind) -> None:
        if kind is ProtectionKind.IMMUTABLE:
            rule = "owners make and delete rules for immutable tags"
            await self._finder.require_role(actor.principal, place, Role.OWNER, rule)

    def _note(self, actor: Actor, kind: EventKind, place: ProjectPlace, rule: ProtectionRule, **told: str) -> None:
        self._audited.changed(actor, kind, Subject.PROTECTION_RULE, place.path, str(rule.id), **told)


def _stored(place: ProjectPlace, kind: ProtectionKind, pattern: str) -> str:
    """A pattern as it is stored. Raises ProtectionRefused."""
    return below_project(place.path, pattern) if kind is ProtectionKind.REPOSITORY else pattern

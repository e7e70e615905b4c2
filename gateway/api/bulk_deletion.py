"""Deletion of tags in bulk, by rules on their names, their number and their age."""

from contextlib import aclosing
from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import Field, model_validator
from starlette.requests import Request
from starlette.responses import Response

from gateway.api.documents import tag_moment
from gateway.api.errors import ParametersInvalid, RequestRefused
from gateway.api.places import Places
from gateway.api.responses import accepted, one
from gateway.api.routing import Call, Route
from gateway.api.shapes import Blank, Flag, Shape, Text, refused
from gateway.api.tags import LIST, find_repository
from gateway.auth.matrix import Action
from gateway.auth.principal import describe
from gateway.db.bulk_deletions import BulkDeletion
from gateway.db.repositories import StoredRepository
from gateway.http.access_log import identity_of
from gateway.namespaces.cleanup_rule import KEPT_LIMIT, CleanupRule, CleanupRuleInvalid, parse_rule
from gateway.registry.bulk_deletion import BulkDeleter
from gateway.registry.cleanup import JudgedTag, TagVerdict
from gateway.services import Services

TAGS_SHOWN = 10_000
"""Tags that a dry run shows; all of them are counted."""

TOO_SOON = "This request has already been made. You can run this at most once an hour for a given container repository"
"""The text by which GitLab's clients know this refusal."""

_ANY_NAME = ".*"


class BulkShape(Shape):
    """What is to be deleted: all of the conditions hold of a tag that is."""

    name_regex_delete: Annotated[
        Text | None, Field(description="A regular expression of RE2 that whole names match of tags to delete."), Blank
    ] = None
    name_regex: Annotated[Text | None, Field(description="The former name of `name_regex_delete`."), Blank] = None
    name_regex_keep: Annotated[
        Text | None, Field(description="A regular expression of RE2 that whole names match of tags that stay."), Blank
    ] = None
    keep_n: Annotated[
        Annotated[int, Field(ge=0, le=KEPT_LIMIT)] | None,
        Field(description="How many of the newest stay of those that are left."),
        Blank,
    ] = None
    older_than: Annotated[
        Text | None, Field(description="How old a tag is that is deleted: `1h`, `1d`, `1month`, `2 days`."), Blank
    ] = None
    dry_run: Annotated[Flag, Field(description="Whether nothing is deleted, and shown what would be.")] = False

    @model_validator(mode="after")
    def _a_name_is_given(self) -> Self:
        if self.delete is None:
            raise refused("name_regex_delete, name_regex are missing, at least one parameter must be provided")
        return self

    @property
    def delete(self) -> str | None:
        """The pattern of names to delete; the newer parameter goes before the former one."""
        return self.name_regex_delete or self.name_regex

    def rule(self) -> CleanupRule:
        """The rule. Raises ParametersInvalid, which names every fault."""
        pattern, faults = self.delete or "", list[str]()
        for values in ((pattern,), (_ANY_NAME, self.name_regex_keep), (_ANY_NAME, None, None, self.older_than)):
            try:
                parse_rule(*values)
            except CleanupRuleInvalid as error:
                name = "name_regex_delete" if len(values) == 1 else error.parameter
                faults.append(f"{name} is invalid: {error.reason}")
        if faults:
            raise ParametersInvalid(faults)
        return parse_rule(pattern, self.name_regex_keep, self.keep_n, self.older_than)


class BulkDeletions:
    """Handler of deletions in bulk."""

    def __init__(self, places: Places, services: Services) -> None:
        self._places = places
        self._bulk: BulkDeleter = services.native.bulk
        self._clock = services.clock

    @property
    def routes(self) -> list[Route[Any]]:
        return [Route("DELETE", LIST, self.delete, BulkShape, "tags", jobs=True, status=202, preview="DryRun")]

    async def delete(self, call: Call[BulkShape]) -> Response:
        """Delete tags of a repository by a rule, in the background, at most once an hour. With `dry_run` nothing is
        deleted, and each tag is shown with what would become of it, and why."""
        wanted = call.parameters
        found = await find_repository(self._places, call, Action.MANAGE, "tags")
        rule = wanted.rule()
        if wanted.dry_run:
            return one(await self._preview(found.stored, rule))
        request = _request(call, found.stored, self._clock())
        if not await self._bulk.request(found.stored, request):
            raise RequestRefused(TOO_SOON)
        return accepted()

    async def _preview(self, repository: StoredRepository, rule: CleanupRule) -> dict[str, object]:
        counts, shown = dict.fromkeys(TagVerdict, 0), list[dict[str, object]]()
        async with aclosing(self._bulk.preview(repository, rule)) as pages:
            async for page in pages:
                for judged in page:
                    counts[judged.verdict] += 1
                shown += map(_shown, page[: TAGS_SHOWN - len(shown)])
        total, deleted = sum(counts.values()), counts[TagVerdict.DELETED]
        return {
            "deleted": deleted,
            "kept": total - deleted,
            "deletes_everything": 0 < deleted == total,
            "tags": shown,
        }


def _shown(judged: JudgedTag) -> dict[str, object]:
    """What would become of a tag: `deleted`, or the first reason why it stays."""
    date = judged.tag.published_at
    return {
        "name": judged.tag.name,
        "published_at": None if date is None else tag_moment(date),
        "verdict": judged.verdict.value,
        "rule": judged.rule or None,
    }


def _request(call: Call[BulkShape], repository: StoredRepository, now: datetime) -> BulkDeletion:
    request: Request = call.request
    wanted = call.parameters
    return BulkDeletion(
        repository.id,
        now,
        wanted.delete or "",
        wanted.name_regex_keep,
        wanted.keep_n,
        wanted.older_than,
        call.principal.name,
        describe(call.principal),
        call.principal.name or None,
        request.client.host if request.client else None,
        identity_of(request.scope)[0],
    )

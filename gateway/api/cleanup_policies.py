"""Cleanup policies of projects, as attributes of these."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field

from gateway.api.documents import moment
from gateway.api.errors import ValuesRefused
from gateway.api.shapes import Blank, Shape, Text
from gateway.db.cleanups import StoredPolicy
from gateway.namespaces.cleanup_policy import Cadence, CleanupPolicy, check_policy
from gateway.namespaces.cleanup_rule import CleanupRuleInvalid
from gateway.namespaces.tag_pattern import PATTERN_LIMIT
from gateway.services import Services

_LONGEST = 4 * PATTERN_LIMIT
"""Characters of a pattern that are read; the rule says how many it may have."""
_NOT_LISTED = "is not included in the list"


class PolicyShape(Shape):
    """Properties of a cleanup policy; those that are not given stay."""

    enabled: Annotated[bool | None, Field(description="Whether it runs."), Blank] = None
    cadence: Annotated[
        Text | None, Field(max_length=20, description="How often: `1d`, `7d`, `14d`, `1month`, `3month`.")
    ] = None
    keep_n: Annotated[
        int | None, Field(description="How many of the newest stay: 1, 5, 10, 25, 50, 100; null: none."), Blank
    ] = None
    older_than: Annotated[
        Text | None,
        Field(max_length=20, description="How old tags are that go: `7d`, `14d`, `30d`, `60d`, `90d`; null: any."),
        Blank,
    ] = None
    name_regex: Annotated[
        Text | None, Field(max_length=_LONGEST, description="The former name of `name_regex_delete`.")
    ] = None
    name_regex_delete: Annotated[
        Text | None, Field(max_length=_LONGEST, description="Whole names of tags that may be deleted, in RE2.")
    ] = None
    name_regex_keep: Annotated[
        Text | None, Field(max_length=_LONGEST, description="Whole names of tags that stay; null: none."), Blank
    ] = None

    def applied_to(self, policy: CleanupPolicy) -> CleanupPolicy:
        """The policy with the properties that are given. Raises ValuesRefused."""
        given: dict[str, Any] = {name: getattr(self, name) for name in self.model_fields_set}
        former = given.pop("name_regex", None)
        if former is not None:
            given.setdefault("name_regex_delete", former)
        if given.get("enabled", True) is None:
            del given["enabled"]
        if "name_regex_delete" in given:
            given["name_regex_delete"] = given["name_regex_delete"] or ""
        if "cadence" in given:
            try:
                given["cadence"] = Cadence(given["cadence"])
            except ValueError:
                raise _refused("cadence", _NOT_LISTED) from None
        return replace(policy, **given)


class CleanupPolicies:
    """Reads and stores policies. Raises ApiError, StoreUnavailable."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def document(self, project_id: int) -> dict[str, object]:
        """What a client is told of the policy of a project, which has the defaults until somebody changes it."""
        return _document(await self._services.native.policies.find(project_id))

    async def save(self, project_id: int, wanted: PolicyShape) -> None:
        """Change the policy of a project; the next run is due one cadence from now."""
        with _refusals():
            await self._services.native.policies.save(project_id, wanted.applied_to)


def check_wanted(wanted: PolicyShape) -> None:
    """Check the policy of a project that does not exist yet. Raises ValuesRefused."""
    with _refusals():
        check_policy(wanted.applied_to(CleanupPolicy()))


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except CleanupRuleInvalid as error:
        is_listed = error.parameter in ("keep_n", "older_than") and "not in the list" in error.reason
        raise _refused(error.parameter, _NOT_LISTED if is_listed else error.reason) from error


def _refused(parameter: str, reason: str) -> ValuesRefused:
    return ValuesRefused({f"container_expiration_policy.{parameter}": [reason]})


def _document(stored: StoredPolicy | None) -> dict[str, object]:
    policy = CleanupPolicy() if stored is None else stored.policy
    completed_at = None if stored is None else stored.completed_at
    return {
        "enabled": policy.enabled,
        "cadence": policy.cadence.value,
        "keep_n": policy.keep_n,
        "older_than": policy.older_than,
        "name_regex": policy.name_regex_delete,
        "name_regex_delete": policy.name_regex_delete,
        "name_regex_keep": policy.name_regex_keep,
        "next_run_at": None if stored is None else moment(stored.next_run_at),
        "completed_at": None if completed_at is None else moment(completed_at),
        "deleted": 0 if stored is None else stored.deleted,
        "problem": None if stored is None else stored.problem,
    }

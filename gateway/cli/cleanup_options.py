"""The options of a project's cleanup policy."""

from dataclasses import dataclass, replace
from typing import Annotated

import typer

from gateway.cli.refusals import Refused
from gateway.cli.session import given
from gateway.namespaces.cleanup_policy import AGES, KEPT_NUMBERS, Cadence, CleanupPolicy

NOTHING = "none"


@dataclass(frozen=True, slots=True)
class CleanupOptions:
    """Properties of a cleanup policy as they were given on the command line; None leaves a property as it is."""

    cleanup: Annotated[
        bool | None,
        typer.Option("--cleanup/--no-cleanup", help="Delete old tags of its repositories, again and again."),
    ] = None
    cadence: Annotated[
        Cadence | None, typer.Option("--cleanup-cadence", help="How often its cleanup runs. [new policies: 1d]")
    ] = None
    delete: Annotated[
        str | None,
        typer.Option(
            "--cleanup-delete",
            metavar="REGEX",
            help="Tags that its cleanup may delete, as a whole name in RE2. [new policies: .*]",
        ),
    ] = None
    keep: Annotated[
        str | None,
        typer.Option("--cleanup-keep", metavar="REGEX", help='Tags that its cleanup never deletes; "" for no name.'),
    ] = None
    keep_n: Annotated[
        str | None,
        typer.Option(
            "--cleanup-keep-n",
            metavar="N",
            help=f"How many of the newest stay in each repository: {', '.join(map(str, KEPT_NUMBERS))} or {NOTHING}. "
            "[new policies: 10]",
        ),
    ] = None
    older_than: Annotated[
        str | None,
        typer.Option(
            "--cleanup-older-than",
            metavar="AGE",
            help=f"How old tags are that go: {', '.join(AGES)} or {NOTHING}. [new policies: 90d]",
        ),
    ] = None

    @property
    def are_given(self) -> bool:
        """Whether any of them was given."""
        return self != CleanupOptions()

    def apply(self, policy: CleanupPolicy) -> CleanupPolicy:
        """Return the policy with the given properties. Raises Refused."""
        return replace(
            policy,
            enabled=given(self.cleanup, policy.enabled),
            cadence=given(self.cadence, policy.cadence),
            name_regex_delete=given(self.delete, policy.name_regex_delete),
            name_regex_keep=given(self.keep, policy.name_regex_keep) or None,
            keep_n=policy.keep_n if self.keep_n is None else _parse_number(self.keep_n),
            older_than=policy.older_than if self.older_than is None else _parse_age(self.older_than),
        )


def _parse_number(text: str) -> int | None:
    if text == NOTHING:
        return None
    if not (text.isascii() and text.isdecimal()):
        listed = ", ".join(map(str, KEPT_NUMBERS))
        raise Refused(f"{text!r} is no number of tags: give --cleanup-keep-n one of {listed}, or {NOTHING}")
    return int(text[:9])


def _parse_age(text: str) -> str | None:
    return None if text == NOTHING else text

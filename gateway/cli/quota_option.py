"""The option --quota of groups and projects."""

from typing import Annotated

import typer

from gateway.cli.refusals import Refused
from gateway.settings.units import parse_rate

QuotaOption = Annotated[
    str | None,
    typer.Option(
        "--quota", metavar="SIZE", help='Bytes that may be stored at and below it, such as 10GiB; "" drops the quota.'
    ),
]


def apply_quota(option: str | None, otherwise: int | None) -> int | None:
    """The quota that an option gives, in bytes, or what stays where it was not given. Raises Refused."""
    if option is None:
        return otherwise
    try:
        return parse_rate(option).number if option else None
    except ValueError as error:
        raise Refused(f'{option!r} is no quota: give --quota a size such as 500MiB or 10GiB, or "" for none') from error

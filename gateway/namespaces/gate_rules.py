"""Rules of a group's gate as people write them."""

import re
from collections.abc import Sequence
from datetime import timedelta

from cache.policy.gate import IMAGE_GLOB, LONGEST_COOLDOWN
from gateway.namespaces.errors import GateInvalid
from gateway.settings.units import format_duration, parse_duration


def parse_globs(texts: Sequence[str]) -> tuple[str, ...]:
    """Read globs on the names of images; empty ones are left out. Raises GateInvalid."""
    globs = tuple(text for text in texts if text)
    for glob in globs:
        if not re.fullmatch(IMAGE_GLOB, glob):
            raise GateInvalid(
                f"{glob!r} is no glob on image names: write lower case, without a tag, and close each bracket, "
                "such as library/*"
            )
    return globs


def parse_cooldown(text: str) -> timedelta:
    """Read how long a tag must have pointed to its content. Raises GateInvalid."""
    try:
        cooldown = parse_duration(text)
    except ValueError as error:
        raise GateInvalid(str(error)) from error
    if cooldown > LONGEST_COOLDOWN:
        longest = format_duration(LONGEST_COOLDOWN)
        raise GateInvalid(f"{text} is longer than the age of a tag is remembered: write at most {longest}")
    return cooldown

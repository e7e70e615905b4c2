"""Options of `group create` and `group update` for the gate of a group."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Annotated

import typer

from cache.oci.digest import Digest
from cache.oci.errors import RegistryError
from cache.oci.names import Tag
from cache.policy.gate import OPEN, CooldownAction, Gate, Pin
from gateway.cli.refusals import Refused
from gateway.namespaces.errors import GateInvalid
from gateway.namespaces.expiry import format_moment
from gateway.namespaces.gate_rules import parse_cooldown, parse_globs
from gateway.namespaces.group import Group
from gateway.namespaces.image_text import parse_image
from gateway.namespaces.locate import ProxiedLocation, locate_image
from gateway.settings.units import format_duration


@dataclass(frozen=True, slots=True)
class GateOptions:
    """Rules of a gate as they were given on the command line; None leaves a rule as it is."""

    allow: Annotated[
        list[str] | None,
        typer.Option("--allow", metavar="GLOB", help='Images that may be pulled; repeatable; "" allows all.'),
    ] = None
    deny: Annotated[
        list[str] | None,
        typer.Option(
            "--deny", metavar="GLOB", help='Images that may not be pulled; deny wins; repeatable; "" denies none.'
        ),
    ] = None
    cooldown: Annotated[
        str | None,
        typer.Option(
            "--cooldown", metavar="DURATION", help="How long a tag must have pointed to its content; 0s: no wait."
        ),
    ] = None
    cooldown_action: Annotated[
        CooldownAction | None,
        typer.Option(
            "--cooldown-action", help="How a younger tag is served: by older content, or not. [default: older]"
        ),
    ] = None
    trust_created: Annotated[
        bool | None,
        typer.Option(
            "--trust-created/--no-trust-created",
            help="Whether the publisher's creation date counts as age. [new groups: off]",
        ),
    ] = None
    pin: Annotated[
        list[str] | None,
        typer.Option(
            "--pin",
            metavar="IMAGE:TAG=DIGEST",
            help="Fix a tag to a digest, whatever it points to upstream; repeatable.",
        ),
    ] = None
    unpin: Annotated[
        list[str] | None, typer.Option("--unpin", metavar="IMAGE:TAG", help="Remove a pin; repeatable.")
    ] = None

    def apply(self, group: Group, upstreams: Collection[str]) -> Group:
        """Return the group with the changed gate. Raises Refused, GateInvalid."""
        old = group.gate or OPEN
        gate = Gate(
            old.allow if self.allow is None else parse_globs(self.allow),
            old.deny if self.deny is None else parse_globs(self.deny),
            old.cooldown if self.cooldown is None else _duration(self.cooldown),
            self.cooldown_action or old.action,
            old.trusts_created if self.trust_created is None else self.trust_created,
            self._change_pins(old.pins, group, upstreams),
        )
        return replace(group, gate=None if gate == OPEN else gate)

    def cooldown_warning(self, group: Group, began: datetime | None, now: datetime) -> str | None:
        """What a cooldown that was just set refuses at first, and the ways out; None where that needs no word.

        `began`: when this server saw its first tag; None where it has seen none.
        """
        gate = group.gate or OPEN
        if self.cooldown is None and self.trust_created is None:
            return None
        if not gate.cooldown or gate.trusts_created:
            return None
        length = format_duration(gate.cooldown)
        over = (began or now) + gate.cooldown
        if over > now:
            seen = f"it has seen tags only since {format_moment(began)}" if began else "it has seen no tag yet"
            first = f"this server refuses every tag until {format_moment(over)} at the earliest, for {seen}"
        else:
            first = f"a tag that this server has not seen before is refused for {length}"
        return (
            f"{first}: let the dates of publishers count as age (--trust-created), pin what is needed now (--pin), or "
            f"take the cooldown off (--cooldown 0s), warm the images with `registry-gateway cache warm` for {length}, "
            "and set it again"
        )

    def _change_pins(self, old: tuple[Pin, ...], group: Group, upstreams: Collection[str]) -> tuple[Pin, ...]:
        pins = {(pin.upstream, pin.image, pin.tag): pin for pin in old}
        for text in self.unpin or ():
            location, tag = _locate_tag(text, group, upstreams)
            if pins.pop((location.upstream, location.image, tag), None) is None:
                raise Refused(f"group {group.path!r} pins no {text}: `registry-gateway group show` lists its pins")
        for text in self.pin or ():
            image, _, digest = text.partition("=")
            location, tag = _locate_tag(image, group, upstreams)
            try:
                pin = Pin(location.upstream, location.image, tag, Digest.parse(digest))
            except RegistryError as error:
                raise Refused(f"--pin {text}: {error}: write IMAGE:TAG=DIGEST") from error
            pins[pin.upstream, pin.image, pin.tag] = pin
        return tuple(sorted(pins.values(), key=lambda pin: (pin.upstream, pin.image.text, pin.tag.text)))


def _locate_tag(text: str, group: Group, upstreams: Collection[str]) -> tuple[ProxiedLocation, Tag]:
    """Find the image, whichever way its name is spelled, and its tag. Raises Refused."""
    try:
        name, reference = parse_image(text)
        location = locate_image(name, group.path, {group.path: replace(group, proxy_enabled=True)}, upstreams)
    except RegistryError as error:
        raise Refused(f"{text}: {error}") from error
    if not isinstance(reference, Tag):
        raise Refused(f"{text} names no tag: write IMAGE:TAG")
    return location, reference


def _duration(text: str) -> timedelta:
    try:
        return parse_cooldown(text)
    except GateInvalid as error:
        raise Refused(f"--cooldown: {error}") from error

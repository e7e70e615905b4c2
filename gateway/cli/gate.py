"""What the options of `group create` and `group update` make of the gate of a group."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Annotated

import typer

from cache.oci.digest import Digest
from cache.oci.errors import RegistryError
from cache.oci.names import RepositoryName, Tag
from cache.policy.gate import GLOB, OPEN, CooldownAction, Gate, Pin
from gateway.cli.image import split_image
from gateway.cli.output import Refused
from gateway.namespaces.group import Group
from gateway.namespaces.locate import ProxiedLocation, locate
from gateway.namespaces.paths import PROXY_SEPARATOR
from gateway.settings.units import parse_duration

Allow = Annotated[
    list[str] | None,
    typer.Option(
        "--allow", metavar="GLOB", help='Images that may be pulled, all if none is given; repeat it; "" allows all.'
    ),
]
Deny = Annotated[
    list[str] | None,
    typer.Option("--deny", metavar="GLOB", help='Images that may not; deny wins; repeat it; "" denies none.'),
]
Cooldown = Annotated[
    str | None, typer.Option("--cooldown", metavar="DURATION", help="How old what a tag means must be; 0s: no matter.")
]
Action = Annotated[
    CooldownAction | None,
    typer.Option("--cooldown-action", help="What a younger one is answered with. [default: older]"),
]
TrustCreated = Annotated[
    bool | None,
    typer.Option(
        "--trust-created/--no-trust-created",
        help="Whether the date that a publisher wrote counts as age. Off in a new one.",
    ),
]
Pins = Annotated[
    list[str] | None,
    typer.Option("--pin", metavar="IMAGE:TAG=DIGEST", help="What a tag means, whatever the upstream says; repeat it."),
]
Unpins = Annotated[list[str] | None, typer.Option("--unpin", metavar="IMAGE:TAG", help="Take a pin away; repeat it.")]


@dataclass(frozen=True, slots=True)
class GateChoices:
    """What was said on the command line; None is what was not."""

    allow: Sequence[str] | None = None
    deny: Sequence[str] | None = None
    cooldown: str | None = None
    action: CooldownAction | None = None
    trusts_created: bool | None = None
    pins: Sequence[str] | None = None
    unpins: Sequence[str] | None = None

    def apply(self, group: Group, upstreams: Collection[str]) -> Group:
        """Raises Refused."""
        old = group.gate or OPEN
        gate = Gate(
            old.allow if self.allow is None else _globs(self.allow),
            old.deny if self.deny is None else _globs(self.deny),
            old.cooldown if self.cooldown is None else _duration(self.cooldown),
            self.action or old.action,
            old.trusts_created if self.trusts_created is None else self.trusts_created,
            self._pinned(old.pins, group, upstreams),
        )
        return replace(group, gate=None if gate == OPEN else gate)

    def _pinned(self, old: tuple[Pin, ...], group: Group, upstreams: Collection[str]) -> tuple[Pin, ...]:
        pins = {(pin.upstream, pin.image, pin.tag): pin for pin in old}
        for text in self.unpins or ():
            location, tag = _tagged(text, group, upstreams)
            if pins.pop((location.upstream, location.image, tag), None) is None:
                raise Refused(f"group {group.path!r} pins no {text}: `registry-gateway group show` lists its pins")
        for text in self.pins or ():
            image, _, digest = text.partition("=")
            location, tag = _tagged(image, group, upstreams)
            try:
                pin = Pin(location.upstream, location.image, tag, Digest.parse(digest))
            except RegistryError as error:
                raise Refused(f"--pin {text}: {error}: write IMAGE:TAG=DIGEST") from error
            pins[pin.upstream, pin.image, pin.tag] = pin
        return tuple(sorted(pins.values(), key=lambda pin: (pin.upstream, pin.image.text, pin.tag.text)))


def _tagged(text: str, group: Group, upstreams: Collection[str]) -> tuple[ProxiedLocation, Tag]:
    """The image in every spelling as the one that it is, and its tag."""
    try:
        name, reference = split_image(text)
        path = RepositoryName.parse(f"{group.path}{PROXY_SEPARATOR}{name}")
        location = locate(path, {group.path: replace(group, proxy_enabled=True)}, upstreams)
    except RegistryError as error:
        raise Refused(f"{text}: {error}") from error
    if not isinstance(reference, Tag) or not isinstance(location, ProxiedLocation):
        raise Refused(f"{text} names no tag: write IMAGE:TAG")
    return location, reference


def _globs(texts: Sequence[str]) -> tuple[str, ...]:
    globs = tuple(text for text in texts if text)
    for glob in globs:
        if not GLOB.fullmatch(glob):
            raise Refused(f"{glob!r} is no glob on image names: write lower case, without a tag, such as library/*")
    return globs


def _duration(text: str) -> timedelta:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise Refused(f"--cooldown: {error}") from error

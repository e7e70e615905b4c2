"""Rig: the server under test and its surroundings, as far as faults are done to them."""

from collections.abc import Sequence
from dataclasses import dataclass

from tests.parts.gateway import Gateway

from .disk import SmallDisk
from .library import Image
from .upstream import FaultyHub


@dataclass(frozen=True)
class Rig:
    """Parts of a run. `disk`: the file system of the data folder alone, if it has one."""

    gateway: Gateway
    upstream: FaultyHub
    images: Sequence[Image]
    disk: SmallDisk | None

"""Comparison of two images: which layers they share, and what their configs say differently; pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from cache.oci.descriptor import Descriptor
from cache.oci.manifest import Manifest
from gateway.inspection.image_contents import ImageConfig


@dataclass(frozen=True, slots=True)
class ComparedLayer:
    """A layer of either image, and which of them has it."""

    layer: Descriptor
    in_first: bool
    in_second: bool


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that two configs say differently; an empty text where one says nothing of it."""

    name: str
    first: str
    second: str


@dataclass(frozen=True, slots=True)
class ImageComparison:
    """Two images beside each other. `layers`: the shared ones first; bytes count each layer once."""

    layers: Sequence[ComparedLayer]
    differences: Sequence[Difference]

    @property
    def shared_bytes(self) -> int:
        """Bytes of the layers that both have."""
        return sum(one.layer.size for one in self.layers if one.in_first and one.in_second)

    @property
    def new_bytes(self) -> int:
        """Bytes that whoever has the first image downloads for the second one."""
        return sum(one.layer.size for one in self.layers if not one.in_first)


def compare(first: Manifest, second: Manifest, configs: tuple[ImageConfig, ImageConfig]) -> ImageComparison:
    """Compare two images with their configs."""
    ours = {layer.digest: layer for layer in first.layers}
    theirs = {layer.digest: layer for layer in second.layers}
    every = {**ours, **theirs}
    layers = [ComparedLayer(layer, digest in ours, digest in theirs) for digest, layer in every.items()]
    layers.sort(key=lambda one: (not (one.in_first and one.in_second), not one.in_first))
    return ImageComparison(layers, list(_differences(_told(configs[0]), _told(configs[1]))))


def _differences(first: Mapping[str, str], second: Mapping[str, str]) -> Iterator[Difference]:
    for name in dict.fromkeys([*first, *second]):
        if first.get(name, "") != second.get(name, ""):
            yield Difference(name, first.get(name, ""), second.get(name, ""))


def _told(config: ImageConfig) -> dict[str, str]:
    """All that a config says, by names for people."""
    variables = (line.partition("=") for line in config.variables)
    return {
        "Platform": config.platform,
        "Built": config.created,
        "Author": config.author,
        **config.settings,
        **{f"Label {name}": value for name, value in config.labels.items()},
        **{f"Variable {name}": value for name, _, value in variables},
    }

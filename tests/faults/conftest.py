"""What the tests of faults share: large contents published once, and a proxy before the registry that has them."""

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tests.parts.images import MB, seeded
from tests.parts.registry import Registry

from .library import Image, make, publish
from .proxy import FaultProxy

LARGE_SEED = "faults large"


@pytest.fixture(scope="session")
def large(registry: Registry) -> Image:
    """An image with one layer of 300 MB."""
    image = make("faults/large", seeded(LARGE_SEED, 300 * MB))
    publish(image, registry)
    return image


@pytest.fixture
def proxy(registry: Registry) -> Iterator[FaultProxy]:
    """The shared registry, behind a proxy that breaks answers where a test says so."""
    with FaultProxy(urlsplit(registry.url).port or 0) as proxy:
        yield proxy

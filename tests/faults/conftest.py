"""Fixtures of the fault tests: large content that is published once, and a proxy in front of the registry that holds
it."""

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
    """Provides an image with one layer of 300 MB."""
    image = make("faults/large", seeded(LARGE_SEED, 300 * MB))
    publish(image, registry)
    return image


@pytest.fixture
def proxy(registry: Registry) -> Iterator[FaultProxy]:
    """Provides a proxy in front of the shared registry that breaks responses as a test says."""
    with FaultProxy(urlsplit(registry.url).port or 0) as proxy:
        yield proxy

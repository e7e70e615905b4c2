"""ImageMemory: values in memory by image, so that an image is forgotten without a look at the values of others."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

from cache.oci.names import RepositoryName
from cache.values import Source

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

ImageKey = tuple[Source, RepositoryName]


class ImageMemory(Generic[K, V]):
    """Values by image and key, bounded in number: the images that were used least recently are forgotten first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._images: OrderedDict[ImageKey, dict[K, V]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def holds(self, image: ImageKey) -> bool:
        """Whether any value of the image is held."""
        return image in self._images

    def get(self, image: ImageKey, key: K) -> V | None:
        values = self._images.get(image)
        if values is None:
            return None
        self._images.move_to_end(image)
        return values.get(key)

    def put(self, image: ImageKey, key: K, value: V) -> None:
        values = self._images.setdefault(image, {})
        self._images.move_to_end(image)
        self._count += key not in values
        values[key] = value
        while self._count > self._limit:
            self.forget(next(iter(self._images)))

    def pop(self, image: ImageKey, key: K) -> None:
        """Drop one value; does nothing where it is not held."""
        values = self._images.get(image)
        if values is not None and key in values:
            del values[key]
            self._count -= 1
            if not values:
                del self._images[image]

    def forget(self, image: ImageKey) -> None:
        self._count -= len(self._images.pop(image, {}))

    def clear(self) -> None:
        self._images.clear()
        self._count = 0

"""ImageMemory: what it holds, what it forgets, and that forgetting one image costs nothing for the others."""

from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

from cache.index.image_memory import ImageMemory
from cache.oci.names import RepositoryName
from tests.cache.samples import ALICE, ANONYMOUS, APP, WEB

ONE, OTHER, ALIEN = (ANONYMOUS, APP), (ANONYMOUS, WEB), (ALICE, APP)


def test_values_belong_to_one_image_and_key() -> None:
    memory: ImageMemory[str, int] = ImageMemory(10)
    memory.put(ONE, "a", 1)
    memory.put(ONE, "a", 2)
    memory.put(ALIEN, "a", 3)
    assert [memory.get(ONE, "a"), memory.get(ONE, "b"), memory.get(OTHER, "a"), memory.get(ALIEN, "a")] == [
        2,
        None,
        None,
        3,
    ]
    assert len(memory) == 2
    memory.pop(ONE, "b")
    memory.pop(ONE, "a")
    assert not memory.holds(ONE)
    assert memory.holds(ALIEN)


def test_forgetting_an_image_leaves_the_others() -> None:
    memory: ImageMemory[str, int] = ImageMemory(10)
    for image in (ONE, OTHER):
        memory.put(image, "a", 1)
        memory.put(image, "b", 1)
    memory.forget(ONE)
    memory.forget(ALIEN)
    assert (memory.get(ONE, "a"), memory.get(OTHER, "a"), len(memory)) == (None, 1, 2)
    memory.clear()
    assert (len(memory), memory.holds(OTHER)) == (0, False)


def test_the_image_used_least_recently_leaves_a_full_memory() -> None:
    memory: ImageMemory[int, int] = ImageMemory(4)
    for image in (ONE, OTHER):
        memory.put(image, 1, 1)
        memory.put(image, 2, 1)
    memory.get(ONE, 1)
    memory.put(ONE, 3, 1)
    assert (memory.holds(ONE), memory.holds(OTHER), len(memory)) == (True, False, 3)
    for key in range(100):
        memory.put(ALIEN, key, 1)
        assert len(memory) <= 4


@dataclass(frozen=True, slots=True)
class CountedName(RepositoryName):
    """A name that counts how often it is compared or hashed."""

    looks: ClassVar[Counter[str]] = Counter()

    def __hash__(self) -> int:
        self.looks["all"] += 1
        return hash(self.text)


def test_forgetting_an_image_looks_at_no_other() -> None:
    memory: ImageMemory[int, int] = ImageMemory(10_000)
    for number in range(5_000):
        memory.put((ANONYMOUS, CountedName(f"image/{number}")), 1, 1)
    CountedName.looks.clear()
    memory.forget((ANONYMOUS, CountedName("image/7")))
    assert CountedName.looks["all"] < 5

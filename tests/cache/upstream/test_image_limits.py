"""ImageLimits: one image that is limited closes an upstream for no other; a limit of all is still kept."""

import pytest

from cache.upstream.allowance import RETRY_CAP, RequestKind, StatedLimit
from cache.upstream.errors import RateLimited
from cache.upstream.image_limits import FIRST_WAIT, KEPT, LONGEST_WAIT, ImageLimits
from cache.upstream.ledger import Ledger
from cache.upstream.quota import Quota
from tests.cache.samples import ANONYMOUS

HOUR = 3600


class Registry:
    """A quota with a clock, and requests with a response that a test chooses."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0
        self.quota = Quota(Ledger(clock=lambda: self.now), ANONYMOUS)

    def serves(self, image: str, kind: RequestKind = RequestKind.CONTENT) -> None:
        with self.quota.request(kind, image) as counted:
            counted.responded(None, served=True)

    def limits(self, image: str, stated: StatedLimit | None = None, kind: RequestKind = RequestKind.PULL) -> None:
        with self.quota.request(kind, image) as counted:
            counted.refused(stated, HOUR)

    def sends(self, image: str, kind: RequestKind = RequestKind.PULL) -> bool:
        """Whether a request would be sent."""
        try:
            with self.quota.request(kind, image):
                return True
        except RateLimited:
            return False


@pytest.fixture
def registry() -> Registry:
    return Registry()


def test_an_image_that_is_limited_shuts_out_none_that_was_served(registry: Registry) -> None:
    registry.serves("own/app")
    registry.limits("limited/one")
    assert not registry.sends("own/new")
    assert registry.quota.pause(RequestKind.PULL, "own/app") == 0
    registry.serves("own/app")
    assert registry.sends("own/new")
    assert not registry.sends("limited/one")
    for number in range(20):
        registry.limits(f"limited/invented-{number}")
        registry.serves("own/app")
    assert registry.sends("own/new")
    registry.now += HOUR
    assert registry.sends("limited/one")


def test_the_lists_of_an_image_that_are_limited_shut_out_none_that_were_served(registry: Registry) -> None:
    registry.serves("own/app", RequestKind.LIST)
    registry.limits("limited/one", kind=RequestKind.LIST)
    assert not registry.sends("own/new", RequestKind.LIST)
    assert registry.sends("own/new")
    registry.serves("own/app", RequestKind.LIST)
    assert registry.sends("own/new", RequestKind.LIST)
    assert not registry.sends("limited/one", RequestKind.LIST)


def test_a_success_that_was_requested_before_a_limit_ends_none(registry: Registry) -> None:
    registry.serves("own/app", RequestKind.LIST)
    with registry.quota.request(RequestKind.LIST, "slow") as counted:
        registry.now += 1
        registry.limits("slow", kind=RequestKind.LIST)
        registry.limits("slow")
        counted.responded(None, served=True)
    for kind in (RequestKind.LIST, RequestKind.PULL):
        assert not registry.sends("own/new", kind)
        assert not registry.sends("slow", kind)


def test_a_limit_of_all_images_costs_few_requests(registry: Registry) -> None:
    images = [f"own/{number}" for number in range(20)]
    for image in images:
        registry.serves(image)
    registry.limits("own/other")
    sent, began = 0, registry.now
    while registry.now < began + 60:
        for image in images:
            if registry.sends(image):
                sent += 1
                registry.limits(image)
        registry.now += 1
    assert sent <= 5


def test_a_pull_limit_that_is_stated_holds_for_every_image(registry: Registry) -> None:
    registry.serves("own/app")
    registry.limits("own/other", StatedLimit(100, 0, 21600))
    assert not registry.sends("own/app")


def test_the_wait_after_failed_tries_grows_to_a_limit_and_ends_with_a_success() -> None:
    limits, images = ImageLimits(), [f"image-{number}" for number in range(10)]
    for image in (*images, "last"):
        limits.note_served(image, 0.0)
    waits = []
    for image in images:
        limits.note_limited(image, 0.0, now=0.0)
        waits.append(next(second for second in range(1000) if limits.may_try("last", second)))
    assert waits[:3] == [FIRST_WAIT, 2 * FIRST_WAIT, 4 * FIRST_WAIT]
    assert waits[-1] == LONGEST_WAIT
    limits.note_served("last", 0.0)
    assert limits.may_try("last", 0.0)


def test_invented_images_take_no_memory_without_end() -> None:
    limits = ImageLimits()
    for number in range(3 * KEPT):
        limits.note_served(f"a{number}", 0.0)
        limits.note_limited(f"b{number}", 10.0, now=0.0)
    assert max(len(limits._served), len(limits._limited)) <= KEPT


def test_a_clock_that_was_wrong_pauses_no_image_for_longer_than_any_pause() -> None:
    limits = ImageLimits()
    limits.note_limited("a", 10.0 + RETRY_CAP, now=10.0)
    assert limits.pause("a", 10.0) == RETRY_CAP
    assert limits.pause("a", 9.0) == 0

"""What fits into a quota, and how much of it one upload reserves at a time."""

import pytest

from cache.oci.errors import Denied
from gateway.namespaces.node import NodeKind
from gateway.namespaces.quota import SMALL_STEP, STEP, QuotaLevel, check_room, decide_step

MIB, GIB = 1 << 20, 1 << 30


def level(quota: int, stored: int = 0, reserved: int = 0) -> QuotaLevel:
    return QuotaLevel(NodeKind.PROJECT, "team/app", quota, stored, reserved)


@pytest.mark.parametrize(
    ("free", "step"),
    [
        (100 * GIB, STEP),
        (8 * STEP, STEP),
        (80 * MIB, 10 * MIB),
        (5 * MIB, SMALL_STEP),
        (SMALL_STEP, SMALL_STEP),
        (700, 700),
        (1, 1),
    ],
)
def test_an_upload_of_unknown_size_reserves_less_the_less_room_there_is(free: int, step: int) -> None:
    assert decide_step([level(free + 300, stored=200, reserved=100)], None) == step
    assert decide_step([level(1000 * GIB), level(free)], None) == step


def test_an_upload_that_says_its_size_reserves_no_more_than_that() -> None:
    assert decide_step([level(GIB)], 1000) == 1000
    assert decide_step([level(GIB)], GIB) == STEP
    assert decide_step([level(0)], 0) == 0
    assert decide_step([], 1000) == 1000


def test_an_upload_that_says_a_size_without_room_for_it_reserves_nothing() -> None:
    with pytest.raises(Denied):
        decide_step([level(GIB)], GIB + 1)


@pytest.mark.parametrize("full", [level(10, stored=10), level(10, reserved=10), level(10, stored=200), level(0)])
def test_nothing_fits_into_a_quota_that_is_used_up(full: QuotaLevel) -> None:
    for refused in (lambda: check_room([level(GIB), full], 1), lambda: decide_step([level(GIB), full], None)):
        with pytest.raises(Denied):
            refused()
    check_room([full], 0)


def test_content_that_fills_a_quota_exactly_fits() -> None:
    check_room([level(10, stored=3, reserved=2)], 5)
    with pytest.raises(Denied):
        check_room([level(10, stored=3, reserved=2)], 6)


def test_a_refusal_names_the_node_and_the_figures() -> None:
    with pytest.raises(Denied) as refused:
        check_room([QuotaLevel(NodeKind.GROUP, "team", 10 * GIB, 9 * GIB + GIB // 2, 512 * MIB)], 1)
    assert refused.value.detail == (
        "group 'team' has a quota of 10 GiB, of which 9.5 GiB are stored and 512 MiB are reserved by unfinished "
        "uploads: delete images of it, or let an administrator raise it"
    )
    with pytest.raises(Denied, match=r"a quota of 100 bytes, of which 2\.0 KiB are stored: delete images"):
        check_room([level(100, stored=2048)], 1)

"""Decisions of the gate, as tables."""

import json
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from cache.oci.digest import Digest
from cache.oci.manifest import Manifest
from cache.oci.media_types import OCI_INDEX
from cache.oci.names import RepositoryName, Tag
from cache.policy.gate import (
    DATES_READ,
    OPEN,
    CooldownAction,
    Gate,
    Pin,
    Verdict,
    annotated_creation,
    conclude,
    configured_creation,
    decide_digest,
    decide_image,
    decide_tag,
)
from cache.values import ANCESTORS_READ, Ancestor, Sighting
from tests.cache.samples import APP, LATEST, NOON, WEB, manifest_of

A, B, C, D = (Digest.of(letter.encode()) for letter in "abcd")
DAY = timedelta(days=1)
COOL = Gate(cooldown=3 * DAY)
STRICT = Gate(cooldown=3 * DAY, action=CooldownAction.REFUSE)
V1 = Tag("v1")


def seen(digest: Digest, first: float, last: float = 0, tag: Tag = LATEST, longest: float = 0) -> Sighting:
    """A sighting whose digest was first and last seen so many days ago, and before that for so many at most."""
    return Sighting(tag, digest, NOON - first * DAY, NOON - last * DAY, longest * DAY)


@pytest.mark.parametrize(
    ("allow", "deny", "image", "allowed"),
    [
        ((), (), "acme/app", True),
        (("acme/*",), (), "acme/app", True),
        (("acme/*",), (), "acme/deep/app", True),
        (("acme/*",), (), "library/alpine", False),
        (("docker.io/acme/*",), (), "acme/app", True),
        (("ghcr.io/acme/*",), (), "acme/app", False),
        (("*",), ("acme/*",), "acme/app", False),
        ((), ("acme/app",), "acme/app", False),
        ((), ("docker.io/*",), "acme/app", False),
        ((), ("ghcr.io/*",), "acme/app", True),
        (("acme/app",), ("acme/app",), "acme/app", False),
        ((), ("*/app",), "acme/apps", True),
    ],
)
def test_an_image_is_let_through_by_its_name(
    allow: tuple[str, ...], deny: tuple[str, ...], image: str, allowed: bool
) -> None:
    verdict = decide_image(Gate(allow, deny), "docker.io", RepositoryName(image))
    assert verdict.allowed is allowed
    assert verdict.reason


def decide_latest(gate: Gate, sightings: list[Sighting], created: datetime | None = None) -> Verdict:
    """The verdict about LATEST, which points to A, of which the publisher states the date `created`."""
    return conclude(decide_tag(gate, LATEST, A, sightings, NOON), {A: created}.__getitem__)


def test_an_open_gate_lets_everything_through() -> None:
    assert decide_image(OPEN, "docker.io", APP).allowed
    assert decide_latest(OPEN, []).digest == A


@pytest.mark.parametrize(
    ("gate", "sightings", "served"),
    [
        pytest.param(COOL, [], None, id="never seen"),
        pytest.param(COOL, [seen(A, 3)], A, id="as old as it must be"),
        pytest.param(COOL, [seen(A, 2.99)], None, id="too young, and the only one"),
        pytest.param(COOL, [seen(A, 1), seen(B, 9, 1)], B, id="the one before"),
        pytest.param(STRICT, [seen(A, 1), seen(B, 9, 1)], None, id="refused instead"),
        pytest.param(STRICT, [seen(A, 4)], A, id="old enough to be strict about"),
        pytest.param(COOL, [seen(A, 1), seen(B, 2, 1), seen(C, 9, 2)], C, id="the one before is too young as well"),
        pytest.param(COOL, [seen(A, 1), seen(B, 5, 1), seen(C, 9, 2)], B, id="the last one that is old enough"),
        pytest.param(COOL, [seen(A, 1), seen(B, 5, 2), seen(C, 9, 1)], C, id="the last one means last in force"),
        pytest.param(COOL, [seen(A, 9), seen(B, 5, 1)], A, id="a tag that moved back to what is old"),
        pytest.param(COOL, [seen(A, 5, 5), seen(B, 9, 1)], B, id="seen for a moment, with another in between"),
        pytest.param(COOL, [seen(A, 0, longest=4), seen(B, 9, 1)], A, id="a tag that moved back to what was old"),
        pytest.param(COOL, [seen(A, 0, longest=2), seen(B, 9, 1)], B, id="a tag that moved back to what was young"),
        pytest.param(COOL, [seen(A, 0), seen(B, 9, 5), seen(C, 5, 5)], B, id="what was seen once comes last"),
        pytest.param(COOL, [seen(A, 0), seen(C, 9, 9)], C, id="a tag that is rarely pulled"),
        pytest.param(COOL, [seen(A, 9, tag=V1), seen(B, 9, tag=V1)], None, id="other tags tell nothing"),
    ],
)
def test_a_tag_in_its_cooldown_means_the_last_digest_that_is_old_enough(
    gate: Gate, sightings: list[Sighting], served: Digest | None
) -> None:
    verdict = decide_latest(gate, sightings)
    assert (verdict.allowed, verdict.digest) == (served is not None, served)
    if served != A:
        assert "until 20" in verdict.reason
        assert "waits 3 days" in verdict.reason


@pytest.mark.parametrize(
    ("created", "served"),
    [(NOON - 30 * DAY, A), (NOON - 1 * DAY, None), (NOON + 30 * DAY, None), (None, None)],
)
def test_a_date_of_the_publisher_makes_an_image_older_and_never_younger(
    created: datetime | None, served: Digest | None
) -> None:
    trusting = replace(COOL, trusts_created=True)
    assert decide_latest(trusting, [seen(A, 1)], created).digest == served
    assert decide_latest(trusting, [seen(A, 9)], created).digest == A
    assert decide_latest(COOL, [seen(A, 1)], created).digest is None


def above(digest: Digest, child: Digest | None, first: float | None) -> Ancestor:
    """An ancestor that was first seen under a tag so many days ago; None: never."""
    return Ancestor(digest, child, None if first is None else NOON - first * DAY)


@pytest.mark.parametrize(
    ("ancestors", "pinned", "allowed"),
    [
        pytest.param([above(A, None, None)], [], True, id="nothing leads to it"),
        pytest.param([above(A, None, 1)], [], False, id="itself too young"),
        pytest.param([above(A, None, 1)], [A], True, id="itself pinned"),
        pytest.param([above(A, None, None), above(B, A, 1)], [], False, id="in what is too young"),
        pytest.param([above(A, None, None), above(B, A, 3)], [], True, id="in what is old enough"),
        pytest.param([above(A, None, None), above(B, A, 1), above(C, A, 9)], [], True, id="in an older one as well"),
        pytest.param([above(A, None, None), above(B, A, 1), above(C, A, None)], [], True, id="in an untagged one"),
        pytest.param([above(A, None, None), above(B, A, None), above(C, B, 1)], [], False, id="in a young index"),
        pytest.param([above(A, None, None), above(B, A, None), above(C, B, 1), above(D, B, 9)], [], True, id="indexes"),
        pytest.param([above(A, None, None), above(B, A, None), above(C, B, 1)], [B], True, id="below a pinned one"),
        pytest.param([above(A, None, 9), above(B, A, 1)], [], True, id="itself old enough"),
        pytest.param([Ancestor(A, None, NOON, 3 * DAY)], [], True, id="itself old enough before"),
    ],
)
def test_a_digest_is_refused_while_only_manifests_in_their_cooldown_lead_to_it(
    ancestors: list[Ancestor], pinned: list[Digest], allowed: bool
) -> None:
    verdict = conclude(decide_digest(COOL, A, ancestors, pinned, NOON), {}.__getitem__)
    assert (verdict.allowed, bool(verdict.reason)) == (allowed, True)


def test_dates_of_publishers_are_read_of_so_many_manifests_and_of_none_that_decide_nothing() -> None:
    many = [above(Digest.of(b"%d" % number), A, 1) for number in range(2 * DATES_READ)]
    trusting, asked = replace(COOL, trusts_created=True), list[Digest]()

    def date(digest: Digest) -> datetime | None:
        asked.append(digest)
        return NOON - 9 * DAY if digest == many[3].digest else None

    assert not conclude(decide_digest(trusting, A, [above(A, None, None), *many[4:]], [], NOON), date).allowed
    assert len(asked) == DATES_READ
    asked.clear()
    assert conclude(decide_digest(trusting, A, [above(A, None, None), *many], [], NOON), date).allowed
    assert asked == [ancestor.digest for ancestor in many[:4]]
    asked.clear()
    assert conclude(decide_digest(trusting, A, [above(A, None, None), *many, above(B, A, 9)], [], NOON), date).allowed
    assert asked == []


def test_where_not_all_ancestors_are_listed_a_manifest_without_a_tag_lets_nothing_through() -> None:
    listed = [above(A, None, 1), *(above(Digest.of(b"%d" % n), A, None) for n in range(ANCESTORS_READ))]
    assert conclude(decide_digest(COOL, A, listed[:9], [], NOON), {}.__getitem__).allowed
    assert not conclude(decide_digest(COOL, A, listed, [], NOON), {}.__getitem__).allowed


def test_pins_belong_to_one_upstream_and_image() -> None:
    gate = Gate(pins=(Pin("docker.io", APP, LATEST, A), Pin("docker.io", WEB, LATEST, B), Pin("ghcr.io", APP, V1, C)))
    assert gate.pins_of("docker.io", APP) == {LATEST: A}
    assert gate.pins_of("ghcr.io", APP) == {V1: C}
    assert gate.pins_of("quay.io", APP) == {}


def index_of(*created: str | None, own: str | None = None) -> Manifest:
    def annotated(text: str | None) -> dict[str, object]:
        return {"annotations": {"org.opencontainers.image.created": text}} if text is not None else {}

    child = manifest_of("one").descriptor
    entry = {"mediaType": child.media_type, "digest": str(child.digest), "size": child.size}
    document = {"schemaVersion": 2, "manifests": [entry | annotated(text) for text in created], **annotated(own)}
    return Manifest.parse(OCI_INDEX, json.dumps(document).encode())


@pytest.mark.parametrize(
    ("manifest", "year"),
    [
        (index_of(None), None),
        (index_of("2020-01-01T00:00:00Z", None, "2023-01-01T00:00:00.123456789Z"), 2023),
        (index_of("2020-01-01T00:00:00Z", own="2022-01-01T00:00:00+02:00"), 2022),
        (index_of("1970-01-01T00:00:00Z"), None),
        (index_of("2020-01-01"), None),
        (index_of("2020-01-01T00:00:00"), None),
        (index_of("yesterday"), None),
        (manifest_of("one"), None),
    ],
)
def test_when_an_index_was_made_is_what_its_annotations_say_at_their_newest(
    manifest: Manifest, year: int | None
) -> None:
    moment = annotated_creation(manifest)
    assert (moment.year if moment else None) == year


@pytest.mark.parametrize(
    ("config", "year"),
    [
        (b'{"created": "2021-05-06T07:08:09Z"}', 2021),
        (b'{"created": "0001-01-01T00:00:00Z"}', None),
        (b'{"created": 7}', None),
        (b"[]", None),
        (b"\xff", None),
        (b"[" * 100_000, None),
    ],
)
def test_when_an_image_was_made_is_what_its_config_says(config: bytes, year: int | None) -> None:
    moment = configured_creation(config)
    assert (moment.year if moment else None) == year

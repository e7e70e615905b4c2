"""Cached content: the cached tags and digests of images, with their age and how a pull would be served."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from cache.index.admin import CacheAdmin
from cache.index.happenings import HappeningLog
from cache.oci.digest import Digest
from cache.oci.names import RepositoryName, Tag
from cache.policy.freshness import Freshness, TagRules, decide, is_fresh_only
from cache.store.filesystem import FilesystemStore
from cache.values import ImageKey, Registry, TagPointer
from gateway.namespaces.expiry import format_moment
from gateway.settings.units import format_duration

LATEST = Tag("latest")
"""The tag that an image's name stands for without one."""


class ContentState(StrEnum):
    """State of a tag or digest, as a pull would find it.

    `known`: a HEAD resolved the tag, and the manifest was never pulled.
    """

    FRESH = "fresh"
    STALE = "stale"
    EXPIRED = "expired"
    KNOWN = "known"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class ContentReport:
    """One tag or digest of an image.

    `tag` is None for a digest, and `digest` for a tag that is not cached. `bytes`: of everything that it refers to and
    that is cached for the image. `last_used` is None where no use is recorded.
    """

    registry: Registry
    image: RepositoryName
    tag: Tag | None
    digest: Digest | None
    bytes: int
    checked_at: datetime | None
    last_used: datetime | None
    pinned: bool
    state: ContentState
    reason: str


@dataclass(frozen=True, slots=True)
class CacheView:
    """The cache as inspection reads it, at one moment."""

    admin: CacheAdmin
    store: FilesystemStore
    happenings: HappeningLog
    last_used: Mapping[Digest, datetime]
    rules: TagRules
    now: datetime

    @contextmanager
    def at_once(self) -> Iterator["CacheView"]:
        """View the cache with one connection for all that is reported within the block, by one thread."""
        with self.admin.at_once() as admin:
            yield replace(self, admin=admin)

    def list_tags(self) -> list[ContentReport]:
        """List all cached tags, by image and tag. Raises DatabaseUnusable."""
        with self.at_once() as view:
            return [view._report_tag(pointer) for pointer in view.admin.pointers()]

    def report(self, image: ImageKey) -> ContentReport:
        """Report one tag, `latest` where the image names none, or one digest. Raises DatabaseUnusable."""
        if isinstance(image.reference, Digest):
            return self._report_digest(image, image.reference)
        tag = image.reference or LATEST
        pointer = self.find_pointer(image, tag)
        return self._report_absent_tag(image, tag) if pointer is None else self._report_tag(pointer)

    def find_pointer(self, image: ImageKey, tag: Tag) -> TagPointer | None:
        """Find the pointer of a tag; None if it is not cached."""
        return next(iter(self.admin.pointers(image.source, image.name, tag)), None)

    def _report_tag(self, pointer: TagPointer) -> ContentReport:
        digest = pointer.target.digest
        linked = self.admin.linked(pointer.source, pointer.image)
        content = self.admin.closure([digest]) & linked
        state, reason = self._tag_state(pointer, digest in linked and self.admin.manifest(digest) is not None)
        pins = self.admin.pins(pointer.source, pointer.image)
        return ContentReport(
            registry=pointer.source.registry,
            image=pointer.image,
            tag=pointer.tag,
            digest=digest,
            bytes=sum(self.admin.sizes(content).values()),
            checked_at=pointer.checked_at,
            last_used=max((self.last_used[d] for d in content if d in self.last_used), default=None),
            pinned=bool(pins & {"", str(pointer.tag), str(digest)}),
            state=state,
            reason=reason,
        )

    def _report_absent_tag(self, image: ImageKey, tag: Tag) -> ContentReport:
        pinned = bool(self.admin.pins(image.source, image.name) & {"", str(tag)})
        registry = image.source.registry
        reason = f"nothing is cached: the next pull requests it from {registry.origin.netloc}"
        return ContentReport(registry, image.name, tag, None, 0, None, None, pinned, ContentState.ABSENT, reason)

    def _report_digest(self, image: ImageKey, digest: Digest) -> ContentReport:
        linked = digest in self.admin.linked(image.source, image.name)
        cached = linked and digest in self.admin.sizes([digest])
        served = "a cached digest is served without a request to the upstream"
        return ContentReport(
            registry=image.source.registry,
            image=image.name,
            tag=None,
            digest=digest,
            bytes=sum(self.admin.sizes(self.admin.closure([digest])).values()) if linked else 0,
            checked_at=None,
            last_used=self.last_used.get(digest),
            pinned=bool(self.admin.pins(image.source, image.name) & {"", str(digest)}),
            state=ContentState.FRESH if cached else ContentState.ABSENT,
            reason=served if cached else "the next pull requests it from the upstream",
        )

    def _tag_state(self, pointer: TagPointer, manifest_cached: bool) -> tuple[ContentState, str]:
        rule = self.rules.rule(pointer.source, pointer.image, pointer.tag)
        seconds = int((self.now - pointer.checked_at).total_seconds())
        age = f"{format_moment(pointer.checked_at)}, {seconds} s ago"
        if not manifest_cached:
            return ContentState.KNOWN, f"a HEAD resolved it ({age}), but its manifest was never pulled"
        freshness = decide(pointer, self.now, rule, self.rules.grace)
        if freshness is Freshness.FRESH:
            served = f"within the ttl of {format_duration(rule.ttl)}: served without a request to the upstream"
            return ContentState.FRESH, f"confirmed {age}, {served}"
        if is_fresh_only(rule, group_fresh_only=False):
            return ContentState.EXPIRED, f"confirmed {age}: a rule for this tag demands that the upstream confirms it"
        if freshness is Freshness.REVALIDATE:
            served = "it is revalidated at the upstream, and if that fails it is served as STALE"
            return ContentState.STALE, f"confirmed {age}: {served}"
        return ContentState.EXPIRED, f"confirmed {age}, longer than ttl and grace: the upstream must confirm it"

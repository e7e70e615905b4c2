"""RecordedEvents: the events of the cache as log lines, counts, the recorded history of images and digests, and events
of the audit log."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

import structlog

from cache.events import (
    CacheEvents,
    CacheLevel,
    EndedDownload,
    EvictedContent,
    FetchedManifest,
    QueuedDownload,
    RefusedContent,
)
from cache.index.happenings import Happening, HappeningKind, HappeningLog
from cache.index.usage import PullCount, UsageFile
from cache.oci.digest import Digest
from cache.oci.names import RepositoryName, Tag
from cache.runtime.throttle import LogThrottle
from cache.store.quarantine import Quarantine
from cache.values import Damage, OutageKind, Source
from gateway.audit.event import AuditEvent, EventKind, Subject, Surface
from gateway.audit.log import NO_AUDIT, AuditLog
from gateway.observability.metrics import FillResult, Metrics, PullLabels, PullsCounted, ResponseTotals

log = structlog.get_logger()
throttle = LogThrottle()

NameOf = Callable[[Source], str]
Clock = Callable[[], datetime]


class UpstreamTraffic:
    """Counts requests to one upstream, given by its configured name, and the bytes received from it."""

    def __init__(self, metrics: Metrics, upstream: str) -> None:
        self._metrics = metrics
        self._upstream = upstream

    def requested(self, method: str, status: int | None) -> None:
        self._metrics.count_request(self._upstream, method, status)

    def received(self, size: int) -> None:
        self._metrics.count_received(self._upstream, size)

    def credential_refused(self) -> None:
        self._metrics.count_credential_refusal(self._upstream)


class RecordedEvents(CacheEvents):
    """`name_of` returns the configured name of a source's upstream. Refused bodies are kept in the quarantine."""

    def __init__(
        self,
        metrics: Metrics,
        happenings: HappeningLog,
        quarantine: Quarantine,
        name_of: NameOf,
        clock: Clock,
        audit: AuditLog = NO_AUDIT,
    ) -> None:
        self._metrics = metrics
        self._happenings = happenings
        self._quarantine = quarantine
        self._name_of = name_of
        self._clock = clock
        self._audit = audit
        self._failing: dict[Source, OutageKind] = {}
        self._outages = LogThrottle()  # for an upstream that fails and works in turns

    def download_queued(self, queued: QueuedDownload) -> None:
        subject, host = str(queued.digest), queued.source.origin.netloc
        reason = f"it waited for a connection to {host}" if queued.seconds else f"it waits for a connection to {host}"
        what, image = HappeningKind.QUEUED, queued.image
        waited = Happening(what, self._clock(), queued.source, image, subject, reason, seconds=queued.seconds)
        self._happenings.note(waited)

    def download_began(self, source: Source, digest: Digest) -> None:
        log.info("fill_began", digest=str(digest), upstream=self._name_of(source))

    def download_ended(self, download: EndedDownload) -> None:
        if download.unstorable and not throttle.due(download.reason):
            return
        upstream = self._name_of(download.source)
        result = FillResult.COMMITTED if download.committed else FillResult.FAILED
        self._metrics.count_fill(upstream, result, download.size, download.seconds)
        fields = {
            "digest": str(download.digest),
            "upstream": upstream,
            "outcome": result.value,
            "bytes": download.size,
            "seconds": round(download.seconds, 3),
            "bytes_per_second": round(download.size / max(download.seconds, 1e-6)),
        }
        if download.committed:
            log.info("fill_ended", **fields)
            self._note_fill(Subject.BLOB, download.source, download.image, download.digest)
        else:
            log.warning("fill_ended", **fields, reason=download.reason or "it was not committed")
        happening = Happening(
            HappeningKind.FILLED if download.committed else HappeningKind.REFUSED,
            self._clock(),
            download.source,
            download.image,
            str(download.digest),
            download.reason,
            download.size,
            download.seconds,
        )
        self._happenings.note(happening)

    def download_followed(self, source: Source, digest: Digest) -> None:
        log.info("fill_followed", digest=str(digest), upstream=self._name_of(source))

    def manifest_fetched(self, fetched: FetchedManifest) -> None:
        self._note_fill(Subject.MANIFEST, fetched.source, fetched.image, fetched.digest, fetched.tag)

    def _note_fill(
        self, subject: Subject, source: Source, image: RepositoryName, digest: Digest, tag: Tag | None = None
    ) -> None:
        """Note a fill for the audit log. It is nobody's: whoever requested the content first, all share it."""
        at, path = self._clock().timestamp(), f"{self._name_of(source)}/{image}"
        event = AuditEvent(
            at, EventKind.FILL, subject, Surface.CACHE, path, tag=tag.text if tag else None, digest=str(digest)
        )
        self._audit.note(event)

    def content_refused(self, refused: RefusedContent) -> None:
        upstream = self._name_of(refused.source)
        self._metrics.count_fault(upstream, refused.fault)
        log.error("upstream_answer_refused", upstream=upstream, fault=refused.fault.value, reason=refused.reason)
        if refused.evidence:
            self._quarantine.take_bytes(refused.evidence, f"manifest-{refused.fault.value}")

    def lookup_failed(self, source: Source, image: RepositoryName, reference: Tag | Digest, reason: str) -> None:
        self._happenings.note(Happening(HappeningKind.REFUSED, self._clock(), source, image, str(reference), reason))

    def upstream_failed(self, source: Source, kind: OutageKind, reason: str) -> None:
        """Log the first failure of an outage, and the next one that is of another kind."""
        if self._failing.get(source) is kind:
            return
        self._failing[source] = kind
        upstream = self._name_of(source)
        if self._outages.due(f"{upstream} {kind.value}"):
            log.warning("upstream_failing", upstream=upstream, failure=kind.value, reason=reason)

    def upstream_responded(self, source: Source) -> None:
        if self._failing.pop(source, None) is not None and self._outages.due(f"{self._name_of(source)} works"):
            log.info("upstream_works_again", upstream=self._name_of(source))

    def damage_found(self, damage: Damage) -> None:
        self._metrics.count_damage(damage)

    def evicted(self, contents: Sequence[EvictedContent], freed: int) -> None:
        self._metrics.count_evicted(len(contents), freed)
        now, reason = self._clock(), "it was worth the least when room was needed"
        for content in contents:
            evicted = Happening(HappeningKind.EVICTED, now, None, None, str(content.digest), reason, content.size)
            self._happenings.note(evicted)

    def level_measured(self, level: CacheLevel) -> None:
        self._metrics.set_level(level.size, level.blobs, level.disk_free, level.other)


def counting_into(usage: UsageFile, clock: Clock) -> PullsCounted:
    """Count pulls by the day into the usage file."""

    def count(totals: Mapping[PullLabels, ResponseTotals]) -> None:
        day = clock().date().isoformat()
        for pulled, total in totals.items():
            counted = PullCount(day, pulled.upstream, pulled.kind, pulled.outcome, total.responses, total.bytes)
            usage.count_pulls(counted)

    return count

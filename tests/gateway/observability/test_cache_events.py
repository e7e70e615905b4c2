"""Recorded events of the cache: what each becomes in metrics, in the history of an image, and in the quarantine."""

from datetime import timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from cache.events import CacheLevel, EndedDownload, EvictedContent, FetchedManifest, QueuedDownload, RefusedContent
from cache.index.happenings import HappeningLog
from cache.oci.digest import Digest
from cache.store.quarantine import Quarantine
from cache.values import Damage, Fault, OutageKind, Source
from gateway.audit.event import AuditEvent, EventKind, Subject, Surface
from gateway.audit.file import AuditFile, AuditLimits, AuditQuery, read_events
from gateway.audit.log import AuditLog
from gateway.observability.cache_events import RecordedEvents
from gateway.observability.metrics import Metrics
from tests.cache.samples import ANONYMOUS, APP, LATEST, NOON

DIGEST = Digest.of(b"content")


class Recording:
    """Recorded events over real metrics, a real history and a real quarantine."""

    def __init__(self, folder: Path) -> None:
        self.metrics = Metrics()
        self.happenings = HappeningLog(folder / "usage.db")
        self.quarantine = folder / "quarantine"
        self.audit_file = folder / "audit.db"
        self.audit = AuditLog(AuditFile(self.audit_file, AuditLimits(timedelta(days=1), 1 << 30)))
        self.events = RecordedEvents(
            self.metrics,
            self.happenings,
            Quarantine(self.quarantine),
            lambda source: "hub",
            lambda: NOON,
            self.audit,
        )

    def metric(self, name: str) -> list[str]:
        """The samples of a metric, without its HELP and TYPE lines."""
        lines = self.metrics.exposition().decode().splitlines()
        return [line for line in lines if line.startswith(name)]

    def audited(self) -> list[AuditEvent]:
        self.audit.flush()
        return [written.event for written in read_events(self.audit_file, AuditQuery(), None, 100)]

    def history(self, source: Source = ANONYMOUS) -> list[tuple[str, str, str]]:
        self.happenings.flush()
        return [(h.what.value, h.subject, h.reason) for h in self.happenings.of_image(source, APP)]


@pytest.fixture
def recording(tmp_path: Path) -> Recording:
    return Recording(tmp_path)


def test_a_committed_download_is_counted_and_remembered(recording: Recording) -> None:
    recording.events.download_ended(EndedDownload(ANONYMOUS, APP, DIGEST, committed=True, size=700, seconds=2.0))
    assert recording.metric("gateway_fills_total") == ['gateway_fills_total{result="committed",upstream="hub"} 1.0']
    assert recording.history() == [("filled", str(DIGEST), "")]


def test_a_failed_download_is_counted_and_remembered_with_its_reason(recording: Recording) -> None:
    failed = EndedDownload(ANONYMOUS, APP, DIGEST, committed=False, size=7, seconds=1.0, reason="hub answered 503")
    recording.events.download_ended(failed)
    assert recording.metric("gateway_fills_total") == ['gateway_fills_total{result="failed",upstream="hub"} 1.0']
    assert recording.history() == [("refused", str(DIGEST), "hub answered 503")]


def test_what_was_fetched_into_the_cache_is_audited(recording: Recording) -> None:
    recording.events.download_ended(EndedDownload(ANONYMOUS, APP, DIGEST, committed=True, size=700, seconds=2.0))
    recording.events.download_ended(EndedDownload(ANONYMOUS, APP, DIGEST, committed=False, size=7, seconds=1.0))
    recording.events.manifest_fetched(FetchedManifest(ANONYMOUS, APP, LATEST, DIGEST))
    recording.events.manifest_fetched(FetchedManifest(ANONYMOUS, APP, None, DIGEST))
    fill = AuditEvent(NOON.timestamp(), EventKind.FILL, Subject.BLOB, Surface.CACHE, f"hub/{APP}", digest=str(DIGEST))
    manifest = fill._replace(subject=Subject.MANIFEST)
    assert recording.audited() == [fill, manifest._replace(tag=LATEST.text), manifest]


@pytest.mark.parametrize(("seconds", "verb"), [(0.0, "waits"), (4.2, "waited")])
def test_a_download_that_has_to_wait_is_remembered(recording: Recording, seconds: float, verb: str) -> None:
    recording.events.download_queued(QueuedDownload(ANONYMOUS, APP, DIGEST, seconds))
    reason = f"it {verb} for a connection to {ANONYMOUS.origin.host}"
    assert recording.history() == [("queued", str(DIGEST), reason)]


def test_downloads_that_a_full_disk_stops_are_reported_once_a_minute(recording: Recording) -> None:
    full = EndedDownload(ANONYMOUS, APP, DIGEST, False, 0, 1.0, reason=f"no space for {recording}", unstorable=True)
    for _ in range(3):
        recording.events.download_ended(full)
    assert recording.metric("gateway_fills_total") == ['gateway_fills_total{result="failed",upstream="hub"} 1.0']


def test_refused_content_is_counted_and_its_evidence_kept(recording: Recording) -> None:
    recording.events.content_refused(RefusedContent(ANONYMOUS, APP, Fault.HTML, "a page of HTML", b"<html>"))
    recording.events.content_refused(RefusedContent(ANONYMOUS, APP, Fault.DIGEST, "other bytes"))
    assert [line.rpartition(" ")[2] for line in recording.metric("gateway_upstream_faults_total")] == ["1.0", "1.0"]
    assert [file.read_bytes() for file in recording.quarantine.iterdir()] == [b"<html>"]


def test_an_outage_is_logged_when_it_begins_and_when_it_changes(recording: Recording) -> None:
    unreached, limited = OutageKind.UNREACHED, OutageKind.LIMITED
    with capture_logs() as events:
        recording.events.upstream_responded(ANONYMOUS)
        for kind in (unreached, unreached, limited, limited, unreached):
            recording.events.upstream_failed(ANONYMOUS, kind, f"{kind.value} it is")
        for _ in range(2):
            recording.events.upstream_responded(ANONYMOUS)
        recording.events.upstream_failed(ANONYMOUS, unreached, "a minute has not passed")
    assert [(event["log_level"], event["event"], event.get("reason")) for event in events] == [
        ("warning", "upstream_failing", "unreached it is"),
        ("warning", "upstream_failing", "limited it is"),
        ("info", "upstream_works_again", None),
    ]
    assert {event["upstream"] for event in events} == {"hub"}


def test_a_failed_lookup_is_remembered_for_its_image(recording: Recording) -> None:
    recording.events.lookup_failed(ANONYMOUS, APP, LATEST, "no such tag")
    assert recording.history() == [("refused", "latest", "no such tag")]


def test_evictions_damage_and_levels_are_counted(recording: Recording) -> None:
    recording.events.evicted([EvictedContent(DIGEST, 30), EvictedContent(Digest.of(b"other"), 12)], 42)
    recording.events.damage_found(Damage.SIZE)
    recording.events.level_measured(CacheLevel(size=1000, blobs=3, disk_free=5000, other=70))
    assert recording.metric("gateway_evictions_total") == ["gateway_evictions_total 2.0"]
    assert recording.metric("gateway_evicted_bytes_total") == ["gateway_evicted_bytes_total 42.0"]
    assert recording.metric("gateway_cache_blobs") == ["gateway_cache_blobs 3.0"]
    assert recording.metric("gateway_cache_other_bytes") == ["gateway_cache_other_bytes 70.0"]
    recording.happenings.flush()
    assert [h.bytes for h in recording.happenings.of_subjects({str(DIGEST)})] == [30]

"""Uploads whose process is killed at every step: what was acknowledged is there, and the upload goes on."""

import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from cache.lease.base import held
from cache.oci.digest import Digest
from cache.oci.errors import StoreUnavailable, UploadUnknown
from gateway.db import blobs, uploads
from gateway.registry import intake
from tests.gateway.registry.opened import NOW, Worker, left_behind, open_worker
from tests.gateway.registry.pusher import CONTENT, HALF, OWNER

DIGEST = Digest.of(CONTENT)
PROJECT = Path(__file__).parents[3]
KILLED = 137


def push_until_killed(data: Path, failpoint: str) -> list[str]:
    """Run the pusher, which is killed at the failpoint; what it reported."""
    command = [sys.executable, "-m", "tests.gateway.registry.pusher", str(data), f"{failpoint}=exit"]
    if "@" in failpoint:
        name, _, number = failpoint.partition("@")
        command[-1] = f"{name}=exit@{number}"
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == KILLED, done.stderr
    return done.stdout.split()


async def size_of(worker: Worker) -> int | None:
    async with worker.database.read() as connection:
        return await blobs.size(connection, 1, DIGEST)


async def rest(start: int) -> AsyncIterator[bytes]:
    yield CONTENT[start:]


@pytest.mark.parametrize(
    ("failpoint", "received"),
    [
        ("upload.create", 0),
        ("upload.write@1", 0),
        ("upload.write@2", 1_048_576),
        ("upload.received@1", HALF),
        ("upload.recorded@1", HALF),
        ("upload.create@2", HALF),
        ("upload.write@3", HALF),
        ("upload.received@2", len(CONTENT)),
        ("upload.recorded@2", len(CONTENT)),
        ("upload.verified", len(CONTENT)),
        ("upload.synced", len(CONTENT)),
        ("upload.named", len(CONTENT)),
        ("upload.adopted", len(CONTENT)),
    ],
)
async def test_an_upload_of_a_killed_process_goes_on_where_it_was(data: Path, failpoint: str, received: int) -> None:
    id, *acknowledged = push_until_killed(data, failpoint)
    async with open_worker(data) as worker:
        assert await size_of(worker) is None
        session = await worker.uploads.find(id, 1, OWNER)
        assert session.received == received >= max(map(int, acknowledged), default=0)
        await worker.uploads.sweep(NOW)
        await session.append(rest(received), received) if received < len(CONTENT) else None
        await session.commit(DIGEST)
        assert await size_of(worker) == len(CONTENT)
        assert worker.store.path(DIGEST).read_bytes() == CONTENT
        assert await left_behind(worker) == []


async def test_a_blob_whose_upload_ended_before_its_process_was_killed_is_there(data: Path) -> None:
    id, *_ = push_until_killed(data, "upload.linked")
    async with open_worker(data) as worker:
        assert await size_of(worker) == len(CONTENT)
        assert worker.store.path(DIGEST).read_bytes() == CONTENT
        with pytest.raises(UploadUnknown):
            await worker.uploads.find(id, 1, OWNER)
        await worker.uploads.sweep(NOW)
        assert await left_behind(worker) == []


@pytest.mark.parametrize("end", ["cancelled", "abandoned", "forgotten"])
async def test_a_killed_commit_that_is_not_tried_again_leaves_no_file(data: Path, end: str) -> None:
    id, *_ = push_until_killed(data, "upload.adopted")
    async with open_worker(data) as worker:
        assert worker.store.stat(DIGEST) is not None
        if end == "cancelled":
            await (await worker.uploads.find(id, 1, OWNER)).cancel()
        elif end == "abandoned":
            await worker.uploads.sweep(NOW + timedelta(days=8))
        else:
            async with worker.database.write() as connection:
                await uploads.delete(connection, id)
            await worker.uploads.sweep(NOW)
        assert await left_behind(worker) == []
        assert worker.store.stat(DIGEST) is None


async def test_what_a_killed_commit_left_is_not_lost_sight_of_while_its_digest_is_in_use(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The upload's file alone leads to it, so that stays until the other is gone."""
    monkeypatch.setattr(intake, "TURN_SECONDS", 0.05)
    id, *_ = push_until_killed(data, "upload.adopted")
    async with open_worker(data) as worker:
        lease = worker.uploads.native.leases.take(intake.blob_lease(DIGEST))
        assert lease is not None
        with held(lease):
            await (await worker.uploads.find(id, 1, OWNER)).cancel()
            assert await worker.uploads.sweep(NOW) == 0
        assert worker.store.stat(DIGEST) is not None
        assert await worker.uploads.sweep(NOW) == 1
        assert await left_behind(worker) == []
        assert worker.store.stat(DIGEST) is None


async def test_what_is_appended_after_a_killed_commit_reaches_no_blob(data: Path) -> None:
    """The file of the upload may have the name of a blob already, whose row is older: the file was missing."""
    id, *_ = push_until_killed(data, "upload.adopted")
    async with open_worker(data) as worker:
        async with worker.database.write() as connection:
            await blobs.link(connection, 2, DIGEST, len(CONTENT), NOW)
        session = await worker.uploads.find(id, 1, OWNER)
        with pytest.raises(StoreUnavailable):
            await session.append(rest(0))
        assert worker.store.path(DIGEST).read_bytes() == CONTENT
        assert await left_behind(worker) == []

"""A server runs the cleanup policies that are due, and tells the logs of each deletion."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

from structlog.testing import capture_logs

from cache.oci.names import Tag
from gateway.audit.file import AuditQuery, read_events
from gateway.cli.folder import open_made
from gateway.data_folder import audit_file
from gateway.db import cleanups, manifests, tags
from gateway.namespaces.cleanup_policy import CleanupPolicy
from gateway.settings.tables import Settings
from gateway.wiring.cleanup import cleaning
from gateway.wiring.lifespan import open_services
from tests.gateway.db.native_rows import add_repository, new_manifest


async def test_a_server_runs_a_policy_that_is_due_and_logs_each_deletion(tmp_path: Path) -> None:
    settings, now = Settings.model_validate({"data": str(tmp_path / "data")}), datetime.now(UTC)
    async with open_made(settings) as database, database.write() as connection:
        repository = await add_repository(connection)
        number = await manifests.put(connection, repository.id, new_manifest(), now)
        for name in ("v1", "latest"):
            await tags.point(connection, repository.id, Tag(name), number, now - timedelta(days=100), "ada")
        policy = CleanupPolicy(enabled=True, keep_n=None)
        await cleanups.save(connection, repository.project_id, policy, now - timedelta(days=2))
    with capture_logs() as logged:
        async with open_services(settings) as services, asyncio.timeout(60):
            async with cleaning(services):
                while True:
                    if any(line["event"] == "cleanup_completed" for line in logged):
                        break
                    await asyncio.sleep(0.01)
            page = await services.native.uploads.native.database.query(
                lambda connection: tags.list_page(connection, repository.id)
            )
    assert page == ["latest"]
    told = {"who": "cleanup policy of project 'team/app'", "surface": "cleanup", "repository": "team/app", "tag": "v1"}
    digest = str(new_manifest().descriptor.digest)
    assert told | {"digest": digest, "event": "deleted", "log_level": "info"} in logged
    [event] = [found.event for found in read_events(audit_file(settings.data), AuditQuery(), None, 10)]
    assert (event.event.value, event.surface.value, event.path, event.tag, event.digest, event.who) == (
        *("delete", "cleanup", "team/app", "v1", digest),
        told["who"],
    )

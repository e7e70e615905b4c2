"""Documents of the index: what manifests lead to, found with few statements however much they list."""

import json
from pathlib import Path

from sqlalchemy import create_engine, event

from cache.index.documents import closure
from cache.index.sql import SqlIndex
from cache.oci.digest import Digest
from cache.oci.manifest import Manifest
from cache.oci.media_types import OCI_INDEX, OCI_MANIFEST
from cache.sqlite import url
from tests.cache.samples import manifest_of

ENTRIES = 20_000


def index_of(digests: list[Digest]) -> Manifest:
    entries = [{"mediaType": OCI_MANIFEST, "digest": str(digest), "size": 1} for digest in digests]
    return Manifest.parse(OCI_INDEX, json.dumps({"schemaVersion": 2, "manifests": entries}).encode())


async def test_the_closure_of_a_large_index_takes_few_statements(tmp_path: Path) -> None:
    child = manifest_of("child")
    assert child.config is not None
    others = [Digest("sha256", f"{number:064x}") for number in range(ENTRIES)]
    top = index_of([*others, child.descriptor.digest])
    index = SqlIndex(tmp_path / "cache.db")
    await index.record(top, child)
    index.close()
    statements: list[str] = []
    engine = create_engine(url("sqlite", tmp_path / "cache.db"))
    event.listen(engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
    with engine.connect() as connection:
        found = closure(connection, [top.descriptor.digest])
    engine.dispose()
    assert found == {top.descriptor.digest, *others, child.descriptor.digest, child.config.digest}
    assert len(statements) < ENTRIES / 100

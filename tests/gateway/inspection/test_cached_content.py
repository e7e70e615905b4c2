"""Reports of cached content for lists: as of each entry alone, with one connection for all of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine, event

from cache.index.admin import CacheAdmin
from cache.index.happenings import HappeningLog
from cache.oci.names import Tag
from cache.values import ImageKey
from gateway.inspection.cached_content import CacheView, ContentState
from tests.cache.proxy.bench import RULES, TTL, Bench
from tests.cache.proxy.test_gated import image
from tests.cache.samples import ANONYMOUS, APP

TAGS = [Tag("a"), Tag("b"), Tag("gone")]


@contextmanager
def counted_connections() -> Iterator[list[object]]:
    """The connections that are opened within the block."""
    opened: list[object] = []

    def note(connection: object, record: object) -> None:
        opened.append(connection)

    event.listen(Engine, "connect", note)
    try:
        yield opened
    finally:
        event.remove(Engine, "connect", note)


async def test_a_list_is_reported_with_one_connection_as_its_entries_alone(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    for tag in TAGS[:2]:
        manifest, _ = image(tag.text)
        bench.script.publish(manifest, tag)
        await bench.open().manifest(tag)
        bench.clock.advance(2 * TTL)
    keys = [ImageKey(ANONYMOUS, APP, tag) for tag in TAGS]
    keys += [ImageKey(ANONYMOUS, APP, manifest.descriptor.digest)]
    admin, log = CacheAdmin(tmp_path / "cache.db"), HappeningLog(tmp_path / "usage.db")
    view = CacheView(admin, bench.store, log, {}, RULES, bench.clock())
    alone = [view.report(key) for key in keys]
    with counted_connections() as opened, view.at_once() as held:
        together = [held.report(key) for key in keys]
    assert len(opened) == 1
    assert together == alone
    assert [report.tag for report in together] == [*TAGS, None]
    assert [report.state is ContentState.ABSENT for report in together] == [False, False, True, False]
    with counted_connections() as opened:
        listed = view.list_tags()
    assert (listed, len(opened)) == (alone[:2], 1)
    admin.remove(ANONYMOUS, APP, TAGS, [manifest.descriptor.digest])
    assert not view.report(keys[0]).bytes, "a view keeps nothing beyond the block"
    await bench.tasks.close()
    bench.index.close()

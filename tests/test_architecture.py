"""The layers and who may import which third party, read from the code itself."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# A module imports only from its own folder and from lower layers; folders of one layer never import each other.
LAYERS = [
    ["cache.oci"],
    ["cache.values"],
    ["cache.runtime.tasks", "cache.runtime.failpoints", "cache.runtime.throttle", "cache.runtime.exhaustion"],
    ["cache.store", "cache.lease", "cache.upstream", "cache.index", "cache.proxy.queue"],
    ["cache.policy.freshness", "cache.proxy.memory", "cache.proxy.memory", "cache.repository"],
    ["cache.policy.gate", "cache.proxy.memory"],
    ["cache.download", "cache.retention"],
    ["cache.proxy.prefetch", "cache.proxy.errors"],
    ["cache.proxy.shared"],
    ["cache.proxy.upstream_calls"],
    ["cache.proxy.blobs"],
    ["cache.proxy.repository"],
    ["cache.proxy.gated", "cache.proxy.warming"],
    ["gateway.observability.access_line", "gateway.server.process"],
    ["gateway.db", "gateway.data_folder", "gateway.observability.metrics", "gateway.settings.units"],
    ["gateway.auth"],
    ["gateway.namespaces.locate", "gateway.upstreams"],
    ["gateway.services", "gateway.maintenance.heal"],
    ["gateway.repositories"],
    ["gateway.http"],
    ["gateway.v2", "gateway.ops"],
    [
        "gateway.processes.listeners",
        "gateway.server.acceptor",
        "gateway.wiring.app",
        "gateway.wiring.from_settings",
        "gateway.wiring.lifespan",
        "gateway.server.http1",
        "gateway.observability.cache_events",
        "gateway.doctor",
        "gateway.ballast",
        "gateway.processes.shared_counters",
        "gateway.processes.worker_pool",
        "gateway.server.connections",
        "gateway.processes.supervisor",
        "gateway.cli",
        "gateway.cli.main",
        "gateway.observability.logs",
        "gateway.settings.load",
        "gateway.settings.kinds",
        "gateway.settings.tables",
        "gateway.processes.worker",
        "gateway.settings.sizes",
    ],
]
TOP = set(LAYERS[-1])

# Third parties that only some rooms may know; the rest is free.
PINNED = {
    "starlette": ["gateway.http", "gateway.v2", "gateway.ops", "gateway.wiring.app", "gateway.server.connections"],
    "hypercorn": ["gateway.server.connections", "gateway.server.http1"],
    "h11": [
        "gateway.server.http1",
        "gateway.server.h11_state",
        "gateway.server.request_head",
        "gateway.server.connection",
        "gateway.server.zerocopy",
    ],
    "httpx2": ["cache.upstream.egress"],
    "httpcore2": ["cache.upstream.egress"],
    "anyio": ["cache.upstream.egress"],
    "sqlalchemy": ["gateway.db", "cache.index"],
    "alembic": ["gateway.db", "cache.index"],
    "sqlite3": ["cache.index"],
    "aiofiles": ["cache.store"],
    "cachetools": ["cache.index", "gateway.namespaces.locate", "gateway.auth"],
    "cryptography": ["gateway.keys.sealing"],
    "prometheus_client": ["gateway.observability.metrics"],
    "typer": ["gateway.cli.main", "gateway.cli"],
    "rich": ["gateway.cli.main", "gateway.cli"],
    "pydantic": ["gateway.settings.load", "gateway.settings.kinds", "gateway.settings.tables"],
    "pydantic_core": ["gateway.settings.load", "gateway.settings.kinds", "gateway.settings.tables"],
}


def modules() -> Iterator[tuple[str, Path]]:
    for package in ("cache", "gateway"):
        for path in sorted((ROOT / package).rglob("*.py")):
            if "migrations" not in path.parts:
                yield ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"), path


def imports(path: Path, module: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def inside(module: str, room: str) -> bool:
    return module == room or module.startswith(f"{room}.")


def place(module: str) -> tuple[int, str]:
    """The layer and the room of a module."""
    for level, rooms in enumerate(LAYERS):
        for room in rooms:
            if inside(module, room):
                return level, room
    raise AssertionError(f"{module} stands in no layer: give it a place in LAYERS")


def is_package(module: str) -> bool:
    return module in ("cache", "gateway", "gateway.__main__")


@pytest.mark.parametrize(("module", "path"), [pytest.param(m, p, id=m) for m, p in modules() if not is_package(m)])
def test_a_module_imports_its_own_room_and_lower_layers_only(module: str, path: Path) -> None:
    level, room = place(module)
    for name in imports(path, module):
        if not name.startswith(("cache.", "gateway.")) or is_package(name):
            continue
        other_level, other_room = place(name)
        assert other_level < level or other_room == room or {room, other_room} <= TOP, f"{module} imports {name}"


@pytest.mark.parametrize(("module", "path"), [pytest.param(m, p, id=m) for m, p in modules()])
def test_a_pinned_third_party_stays_in_its_rooms(module: str, path: Path) -> None:
    for name in imports(path, module):
        rooms = PINNED.get(name.partition(".")[0])
        assert rooms is None or any(inside(module, room) for room in rooms), f"{module} imports {name}"


def test_the_words_import_the_standard_library_alone() -> None:
    for module, path in modules():
        if inside(module, "cache.oci") or module == "cache.values":
            for name in imports(path, module):
                top = name.partition(".")[0]
                assert top in sys.stdlib_module_names or top == "cache", f"{module} imports {name}"


def test_settings_are_known_to_the_top_layer_alone() -> None:
    for module, path in modules():
        if not is_package(module) and not any(inside(module, room) for room in TOP):
            assert not any(inside(name, "gateway.settings.load") for name in imports(path, module)), module


def test_nothing_else_stands_at_the_top_level() -> None:
    allowed = {"pyproject.toml", "README.md", "gateway", "cache", "tests", "helm", "registry-data"}
    assert {path.name for path in ROOT.iterdir() if not path.name.startswith(".")} <= allowed

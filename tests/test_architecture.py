"""The layers and who may import which third party, read from the code itself."""

import ast
import re
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# From the bottom to the top. A module imports from its own room and from lower layers; rooms of one layer never import
# each other. No room is exempt.
LAYERS = [
    ["cache.oci"],
    ["cache.values"],
    ["cache.runtime"],
    ["cache.sqlite", "cache.prepared", "cache.lease", "cache.events"],
    ["cache.store", "cache.index", "cache.upstream", "cache.policy"],
    ["cache.repository", "cache.download"],
    ["cache.proxy"],
    ["cache.retention"],
    ["gateway.known_registries", "gateway.upstream_names", "gateway.fixed_headers", "gateway.release", "gateway.help"],
    ["gateway.client_name"],
    ["gateway.settings"],
    ["gateway.namespaces"],
    ["gateway.audit", "gateway.webhooks"],
    ["gateway.keys", "gateway.db", "gateway.observability", "gateway.data_folder", "gateway.oidc"],
    ["gateway.directory"],
    ["gateway.auth", "gateway.upstreams", "gateway.virtual"],
    ["gateway.registry", "gateway.notifications"],
    ["gateway.services"],
    ["gateway.repositories"],
    ["gateway.inspection", "gateway.maintenance", "gateway.doctor"],
    ["gateway.administration"],
    ["gateway.server"],
    ["gateway.http"],
    ["gateway.v2", "gateway.api", "gateway.web", "gateway.ops"],
    ["gateway.wiring"],
    ["gateway.processes"],
    ["gateway.cli"],
    ["gateway.__main__"],
]

# Who may see the settings; everybody else is given what it needs.
KNOWS_SETTINGS = ["gateway.settings", "gateway.wiring", "gateway.processes", "gateway.cli"]
UNITS = "gateway.settings.units"

# HTTP mechanics, which know no database, no services and no use case.
MECHANICS = ["gateway.http", "gateway.server"]
NOT_FOR_MECHANICS = [
    *("gateway.db", "gateway.directory", "gateway.auth", "gateway.upstreams", "gateway.services"),
    *("gateway.repositories", "gateway.inspection", "gateway.maintenance", "gateway.doctor"),
    "gateway.administration",
]

# Third parties that only some rooms may know; the rest is free.
PINNED = {
    "starlette": [
        *(
            "gateway.http",
            "gateway.v2",
            "gateway.api",
            "gateway.web",
            "gateway.ops",
            "gateway.wiring",
            "gateway.server",
        ),
    ],
    "jinja2": ["gateway.web"],
    "markupsafe": ["gateway.web"],
    "markdown_it": ["gateway.web"],
    "hypercorn": ["gateway.server"],
    "h11": ["gateway.server"],
    "httpx2": ["cache.upstream.egress", "cache.upstream.transport", "cache.upstream.posting"],
    "httpcore2": [
        "cache.upstream.egress",
        "cache.upstream.transport",
        "cache.upstream.kept_connections",
        "cache.upstream.connection_pools",
    ],
    "anyio": ["cache.upstream.egress", "cache.upstream.transport"],
    "sqlalchemy": ["gateway.db", "cache.index", "cache.sqlite", "cache.prepared"],
    "alembic": ["gateway.db", "cache.sqlite"],
    "sqlite3": ["cache.index", "cache.sqlite", "gateway.audit"],
    "aiofiles": ["cache.store", "gateway.registry"],
    "cachetools": ["cache.index", "gateway.directory", "gateway.auth", "gateway.api", "gateway.notifications"],
    "cryptography": ["gateway.keys"],
    "argon2": ["gateway.auth"],
    "jwt": ["gateway.auth", "gateway.oidc"],
    "re2": ["gateway.namespaces"],
    "asyncpg": ["gateway.db"],
    "prometheus_client": ["gateway.observability"],
    "typer": ["gateway.cli"],
    "rich": ["gateway.cli"],
    "pydantic": ["gateway.settings", "gateway.api"],
    "pydantic_core": ["gateway.settings", "gateway.api"],
    "graphql": ["gateway.api.graphql"],
}


@cache
def modules() -> list[tuple[str, Path]]:
    return [
        (".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"), path)
        for package in ("cache", "gateway")
        for path in sorted((ROOT / package).rglob("*.py"))
        if "migrations" not in path.parts
    ]


@cache
def imports(path: Path, module: str) -> list[str]:
    found: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            found += (f"{node.module}.{alias.name}" for alias in node.names)
    return found


def inside(module: str, room: str) -> bool:
    return module == room or module.startswith(f"{room}.")


def place(module: str) -> tuple[int, str]:
    """The layer and the room of a module."""
    for level, rooms in enumerate(LAYERS):
        for room in rooms:
            if inside(module, room):
                return level, room
    raise AssertionError(f"{module} stands in no layer: give it a place in LAYERS")


MODULES = [pytest.param(m, p, id=m) for m, p in modules() if m not in ("cache", "gateway")]


@pytest.mark.parametrize(("module", "path"), MODULES)
def test_a_module_imports_its_own_room_and_lower_layers_only(module: str, path: Path) -> None:
    level, room = place(module)
    for name in imports(path, module):
        if name.startswith(("cache.", "gateway.")):
            other_level, other_room = place(name)
            assert other_level < level or other_room == room, f"{module} imports {name}"


@pytest.mark.parametrize(("module", "path"), MODULES)
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


def test_settings_are_known_to_the_rooms_at_the_edge_alone() -> None:
    for module, path in modules():
        if not any(inside(module, room) for room in KNOWS_SETTINGS):
            found = [name for name in imports(path, module) if inside(name, "gateway.settings")]
            assert [name for name in found if not inside(name, UNITS)] == [], module


def test_http_mechanics_know_no_database_and_no_use_case() -> None:
    for module, path in modules():
        if any(inside(module, room) for room in MECHANICS):
            for name in imports(path, module):
                assert not any(inside(name, room) for room in NOT_FOR_MECHANICS), f"{module} imports {name}"


def test_nothing_below_the_command_line_names_a_command() -> None:
    """What a person can type is known to cli and help alone: whoever fails below says what is wrong, cli what to do."""
    for module, path in modules():
        if not inside(module, "gateway.cli"):
            text = path.read_text()
            assert "`registry-gateway " not in text, f"{module} names a command"
            assert not re.search(r"\bgive --[a-z]", text), f"{module} names an option"


def test_nothing_else_stands_at_the_top_level() -> None:
    allowed = {"pyproject.toml", "README.md", "gateway", "cache", "tests", "helm", "registry-data"}
    assert {path.name for path in ROOT.iterdir() if not path.name.startswith(".")} <= allowed


def test_a_public_class_name_has_one_meaning() -> None:
    defined: dict[str, list[str]] = {}
    for module, path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                defined.setdefault(node.name, []).append(module)
    assert {name: places for name, places in defined.items() if len(places) > 1} == {}


CLIENT_FILES = "gateway.inspection.client_files"
"""It writes files of other programs, whose comments name options of theirs."""


def test_nothing_below_the_command_line_names_an_option() -> None:
    for module, path in modules():
        if not inside(module, "gateway.cli") and module != CLIENT_FILES:
            assert re.findall(r"[\"' `(]--[a-z][a-z-]+", path.read_text()) == [], f"{module} names an option"


def test_every_room_of_the_layers_exists() -> None:
    existing = [module for module, _ in modules()]
    for room in [room for layer in LAYERS for room in layer]:
        assert any(inside(module, room) for module in existing), f"{room} stands in LAYERS and nowhere else"


# Ways to make a file that follow a link, or leave its mode to the umask.
LAX_WRITES = r"""\.write_(?:text|bytes)\(|\bNamedTemporaryFile\(|\.touch\(mode|\bopen\([^)\n]*["'][wax]b?\+?["']"""
MAY_WRITE = ["cache.runtime.files"]


def test_files_are_made_in_one_way() -> None:
    for module, path in modules():
        text = path.read_text()
        if module not in MAY_WRITE:
            assert re.findall(LAX_WRITES, text) == [], f"{module} makes a file: see cache.runtime.files"
        for line in text.splitlines():
            assert "O_CREAT" not in line or "O_NOFOLLOW" in line, f"{module} makes a file where a link leads"

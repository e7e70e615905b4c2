"""What people read of documents, on a terminal and elsewhere."""

from datetime import UTC, datetime, timedelta

import pytest

from cache.oci.digest import Digest
from gateway.cli.readable import cell, headings, moment_text, row, short_digest
from gateway.settings.units import format_bytes
from tests.gateway.cli.terminal import Terminal, on_terminal

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (1023, "1023 bytes"),
        (1024, "1.0 KiB"),
        (300_941_312, "287 MiB"),
        (10 << 20, "10 MiB"),
        (1_610_612_736, "1.5 GiB"),
        (5 << 40, "5.0 TiB"),
    ],
)
def test_a_size_has_two_or_three_digits(count: int, text: str) -> None:
    assert format_bytes(count) == text


@pytest.mark.parametrize(
    ("ago", "text"),
    [
        (timedelta(milliseconds=300), "now"),
        (timedelta(seconds=59), "59 s ago"),
        (timedelta(seconds=200), "3 min ago"),
        (timedelta(hours=-5, seconds=3), "in 5 h"),
        (timedelta(hours=30), "1 day ago"),
        (timedelta(days=-30, seconds=1), "in 30 days"),
        (timedelta(days=30), "2026-02-02"),
        (timedelta(days=-365), "2027-03-04"),
    ],
)
def test_a_time_is_told_from_now_or_as_a_date(ago: timedelta, text: str) -> None:
    assert moment_text(NOW - ago, NOW) == text


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("bytes", 2048, "2.0 KiB"),
        ("stored_bytes", 0, "0 bytes"),
        ("quota", None, "-"),
        ("tags", 2048, "2048"),
        ("pinned", True, "yes"),
        ("admin", False, "no"),
        ("email", "", "-"),
        ("job_allow", [], "-"),
        ("scopes", ["api", "read_registry"], "api read_registry"),
        ("checked_at", "2026-03-04T11:57:00Z", "3 min ago"),
        ("name", "2026-03-04T11:57:00Z", "2026-03-04T11:57:00Z"),
        ("cooldown_seconds", 259200, "3d"),
        ("bytes_per_second", 47_185_920, "45 MiB/s"),
        ("hit_rate", 0.25, "25.0%"),
        ("last_fill", {"bytes": 1024, "bytes_per_second": 2048}, "size 1.0 KiB, speed 2.0 KiB/s"),
        ("parts", {"size": 1024, "of": None, "here": False}, "size 1.0 KiB, here no"),
    ],
)
def test_a_value_reads_by_its_name(name: str, value: object, text: str) -> None:
    assert cell(name, value, NOW) == text


def test_columns_have_headings_in_words() -> None:
    columns = ["image", "bytes", "last_used", "checked_at"]
    assert headings(columns) == ["Image", "Size", "Last used", "Checked"]
    document = {"image": "a", "bytes": 1024, "last_used": None, "checked_at": "2026-03-04T11:00:00Z", "more": 1}
    assert row(document, columns, NOW) == ["a", "1.0 KiB", "-", "1 h ago"]


def test_a_list_has_the_beginning_of_a_digest() -> None:
    assert short_digest(Digest.of(b"")) == "sha256:e3b0c44298fc"
    assert short_digest(None) is None


# Terminals


@pytest.fixture
def listed(terminal: Terminal) -> list[str]:
    """The words that list a token which is active, and one that was revoked."""
    terminal.done("user", "create", "ann")
    for _ in range(2):
        terminal.done("token", "create", "--user", "ann", "--scope", "api", "--name", "t")
    terminal.done("token", "revoke", "2")
    return ["token", "list", "--data", str(terminal.data)]


GREEN, RED = "\x1b[32m", "\x1b[31m"


@pytest.mark.usefixtures("processes")
def test_a_terminal_shows_columns_and_colours(listed: list[str]) -> None:
    code, shown = on_terminal(listed)
    lines = shown.splitlines()
    assert code == 0
    assert len(lines) == 3
    assert f"{GREEN}active" in lines[1] and f"{RED}revoked" in lines[2]
    assert "\t" not in lines[1]


@pytest.mark.usefixtures("processes")
def test_no_color_turns_colours_off(listed: list[str]) -> None:
    _, shown = on_terminal(listed, NO_COLOR="1")
    assert "active" in shown and GREEN not in shown and RED not in shown


def test_elsewhere_there_are_headings_and_tabs_and_no_colours(terminal: Terminal, listed: list[str]) -> None:
    lines = terminal.done(*listed).splitlines()
    assert lines[0] == "Id\tUser\tName\tScopes\tExpires\tState\tLast used"
    assert [line.split("\t")[5] for line in lines[1:]] == ["active", "revoked"]


def test_the_documents_of_scripts_stay_exact(terminal: Terminal, listed: list[str]) -> None:
    token = terminal.json(*listed)[0]
    assert datetime.fromisoformat(token["expires"]) > datetime.now(UTC)
    assert token["expires"].endswith("Z") and token["last_used"] is None

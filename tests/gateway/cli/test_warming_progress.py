"""How far warming is, as a person sees it."""

import io

import pytest

from gateway.cli.warming_progress import ProgressLine, ProgressLines, progress_text

MIB = 1 << 20


@pytest.mark.parametrize(
    ("done", "expected", "seconds", "text"),
    [
        (120 * MIB, 300 * MIB, 120 / 45, "warming 3/40 ghcr.io/acme/app:v1.4 120/300 MiB 45 MiB/s"),
        (0, 0, 1.0, "warming 3/40 ghcr.io/acme/app:v1.4"),
        (0, 5 * MIB, 0.0, "warming 3/40 ghcr.io/acme/app:v1.4 0.0/5.0 MiB"),
        (512, 1000, 1.0, "warming 3/40 ghcr.io/acme/app:v1.4 512/1000 bytes 512 bytes/s"),
    ],
)
def test_the_line_tells_image_share_and_rate(done: int, expected: int, seconds: float, text: str) -> None:
    assert progress_text("ghcr.io/acme/app:v1.4", 3, 40, done, expected, seconds) == text


def test_lines_of_the_log_stand_above_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    screen = io.StringIO()
    line = ProgressLine(screen)
    line.begin("alpine:3", 1, 2)
    line.expect(10 * MIB)
    line.arrived(MIB)
    line.write("a line of the log\n")
    line.close()
    cleared = screen.getvalue().split("\r\x1b[K")
    assert cleared[1] == "warming 1/2 alpine:3"
    assert "a line of the log\n" in cleared
    assert cleared[cleared.index("a line of the log\n") + 1].startswith("warming 1/2 alpine:3 1/10 MiB ")
    assert cleared[-1] == ""


def test_a_line_is_no_longer_than_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    screen = io.StringIO()
    ProgressLine(screen).begin("registry.example.com/" + "long/" * 20, 1, 2)
    assert len(screen.getvalue()) == len("\r\x1b[K") + 29


def test_elsewhere_each_image_of_which_something_came_has_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    lines = ProgressLines()
    for number, size in enumerate((3 * MIB, 0), 1):
        lines.begin(f"alpine:{number}", number, 2)
        lines.expect(size)
        lines.end()
    assert capsys.readouterr().out == "warmed 1/2 alpine:1 3.0 MiB\n"

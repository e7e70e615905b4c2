"""SIGHUP: workers with the settings of now take the place of others, which complete what they send."""

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import GatewayFactory
from tests.gateway.processes.observed import begin_stalled, metric
from tests.parts import raw
from tests.parts.gateway import Gateway
from tests.parts.liar import Liar
from tests.parts.ports import free_port
from tests.parts.processes import answers_http, group_members, wait_until

Start = Callable[..., Gateway]
PULLS = '{kind="blob",outcome="MISS"}'


def hang_up(server: Gateway, event: str, count: int = 1) -> None:
    """Send SIGHUP to the first process, and wait until it has logged an event so many times more."""
    before = server.log_text().count(event)
    server.process.signal(signal.SIGHUP)
    wait_until(lambda: server.log_text().count(event) == before + count, what=f"{event} is not logged")


def reload(server: Gateway) -> list[int]:
    """Reload, and wait until others serve; returns the workers of before."""
    before = server.workers
    hang_up(server, "reloaded")
    wait_until(lambda: not set(server.workers) & set(before) and len(server.workers) == len(before))
    return before


def configure(server: Gateway, upstream: Liar, **settings: Any) -> None:
    server.configure({"upstreams": {"docker.io": upstream.settings()}, **settings})


def line_of(server: Gateway, event: str) -> str:
    return next(line for line in reversed(server.log_text().splitlines()) if event in line)


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_pulls_under_way_complete_over_two_reloads(start: Start, upstream: Liar) -> None:
    server = start(1)
    pulls, workers = [], []
    for seed in ("first", "second", "third"):
        pulls.append(begin_stalled(server, upstream, seed))
        workers += reload(server) if seed != "third" else []
    assert all(map(alive, workers)), "a worker has ended before its response"
    for content, stream, lie in pulls:
        assert lie.hold is not None
        lie.hold.release()
        with stream:
            assert stream.read_all() == content
            assert stream.complete
    wait_until(lambda: not any(map(alive, workers)), what="a worker of before does not end")
    assert len(group_members(server.process.pid)) == 2
    assert "worker_died" not in server.log_text()
    assert server.stop() == 0


def test_a_changed_setting_takes_effect_for_replacements_too(start: Start, upstream: Liar) -> None:
    server = start(1)
    digest = upstream.offer_blob(b"denied later")
    url = server.proxied_url(f"library/one/blobs/{digest}")
    assert raw.get(url).status == 200
    configure(server, upstream, metrics_access="off")
    assert raw.get(f"{server.url}/-/metrics").status == 200
    reload(server)
    # a worker of before may accept one more connection in the moment in which the next one begins to serve
    wait_until(lambda: raw.get(f"{server.url}/-/metrics").status == 404)
    assert "metrics_access" in line_of(server, "reloaded")
    assert raw.head(url).headers["x-cache"] == "HIT"
    os.kill(server.worker, signal.SIGKILL)
    wait_until(lambda: "worker_died" in server.log_text())
    assert raw.get(f"{server.url}/-/metrics").status == 404


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("max_size = [\n", "not valid TOML"), ("metrics_acess = 1\n", "the nearest is metrics_access")],
)
def test_a_bad_file_changes_nothing(text: str, complaint: str, start: Start, upstream: Liar) -> None:
    server = start(1)
    content, stream, lie = begin_stalled(server, upstream)
    before, good = server.workers, server.config_file.read_text()
    server.configure(text)
    hang_up(server, "reload_refused")
    assert complaint in line_of(server, "reload_refused")
    assert server.workers == before
    assert raw.get(f"{server.url}/-/ready").status == 200
    server.config_file.write_text(good)
    reload(server)
    assert lie.hold is not None
    lie.hold.release()
    with stream:
        assert stream.read_all() == content


def test_a_changed_setting_whose_file_is_missing_changes_nothing(start: Start, upstream: Liar) -> None:
    server = start(1)
    missing, before = server.directory / "password", server.workers
    account = upstream.settings() | {"username": "ann", "password_file": str(missing)}
    server.configure({"upstreams": {"docker.io": account}})
    hang_up(server, "reload_refused")
    assert f"password_file = {missing}: there is no such file" in line_of(server, "reload_refused")
    assert server.workers == before
    missing.write_text("secret")
    reload(server)
    missing.unlink()
    reload(server)  # whoever replaces the file may still change another setting
    assert 'upstreams."docker.io".password_file' in line_of(server, "file_of_setting_not_readable")


def test_a_reload_repeats_the_warnings_of_a_start(start: Start, upstream: Liar) -> None:
    server = start(1)
    (server.directory / "password").write_text("secret")
    account = upstream.settings() | {"username": "ann", "password_file": str(server.directory / "password")}
    server.configure({"upstreams": {"docker.io": account}})
    reload(server)
    assert "no group uses account ann" in line_of(server, "setting_has_no_effect")
    assert "account_open_to_all" not in server.log_text()
    server.configure({"upstreams": {"docker.io": account | {"groups": ["hub"]}}})
    reload(server)
    assert "everybody may pull what account ann may read" in line_of(server, "account_open_to_all")
    assert server.log_text().count("setting_has_no_effect") == 1
    os.kill(server.worker, signal.SIGKILL)
    wait_until(lambda: "worker_died" in server.log_text())
    wait_until(lambda: answers_http(f"{server.url}/-/ready"), what="the worker is not replaced")


def test_settings_that_need_a_restart_are_named_and_others_take_effect(start: Start, upstream: Liar) -> None:
    server = start(1)
    listener = {"port": free_port(), "group": "hub"}
    configure(
        server, upstream, workers=2, log_format="json", listener=[listener], database={"url": "postgresql://a@b.test/c"}
    )
    reload(server)
    assert re.search(r"settings=.*\bworkers, database\.url, listener\b", line_of(server, "restart_needed"))
    assert '"changed": "log_format"' in line_of(server, "reloaded")
    assert len(server.workers) == 1
    wait_until(lambda: raw.get(f"{server.url}/v2/").status and '"path": "/v2/"' in server.log_text())
    assert raw.get(f"{server.url}/-/ready").status == 200


def test_workers_that_cannot_serve_leave_the_others_in_place(start: Start, upstream: Liar) -> None:
    server = start(1)
    before, index = server.workers, server.data / "cache.db"
    index.rename(server.directory / "kept.db")
    index.write_bytes(b"no database" * 1000)
    hang_up(server, "reload_failed")
    assert "cache.db" in line_of(server, "reload_failed")
    assert server.workers == before
    assert raw.get(f"{server.url}/-/ready").status == 200
    (server.directory / "kept.db").rename(index)
    reload(server)
    assert raw.get(f"{server.url}/-/ready").status == 200


def test_a_worker_ignores_the_signal_that_the_first_process_obeys(start: Start, upstream: Liar) -> None:
    server = start(1)
    worker = server.worker
    content, stream, lie = begin_stalled(server, upstream)
    os.kill(worker, signal.SIGHUP)
    os.killpg(server.process.pid, signal.SIGHUP)
    wait_until(lambda: "reloaded" in server.log_text())
    assert lie.hold is not None
    lie.hold.release()
    with stream:
        assert stream.read_all() == content
    assert server.stop() == 0


def test_a_signal_during_the_start_is_obeyed_after_it(gateway: GatewayFactory) -> None:
    server = gateway({"workers": 1}, start=False)

    def hung_up_and_ready() -> bool:
        if server.data.exists():
            server.process.signal(signal.SIGHUP)
        return answers_http(f"{server.url}/-/ready")()

    server.process.start(hung_up_and_ready)
    wait_until(lambda: "reloaded" in server.log_text())
    assert server.log_text().index("started") < server.log_text().index("reloaded")
    assert server.stop() == 0


def test_signals_in_a_row_are_obeyed_and_bounded(start: Start) -> None:
    server = start(2)
    for _ in range(30):
        server.process.signal(signal.SIGHUP)
    wait_until(lambda: "reloaded" in server.log_text())
    wait_until(lambda: len(group_members(server.process.pid)) == 3, within=30, what="workers of before are left")
    assert raw.get(f"{server.url}/-/ready").status == 200
    assert server.stop() == 0


def test_of_three_generations_before_the_oldest_ends_as_at_a_stop(start: Start, upstream: Liar) -> None:
    server = start(1)
    pulls, workers = [], []
    for seed in ("first", "second", "third"):
        pulls.append(begin_stalled(server, upstream, seed))
        assert "old_workers_end" not in server.log_text()
        workers += reload(server)
    wait_until(lambda: "old_workers_end" in server.log_text())
    assert f"pids=[{workers[0]}]" in line_of(server, "old_workers_end")
    assert all(map(alive, workers)), "responses have time to end"
    hang_up(server, "reload_waits")  # one starts or ends at a time
    assert server.log_text().count("reloaded") == 3
    content, stream, lie = pulls.pop(0)
    assert lie.hold is not None
    lie.hold.release()
    with stream:
        assert stream.read_all() == content
    wait_until(lambda: server.log_text().count("reloaded") == 4, what="the fourth reload still waits")
    assert not alive(workers[0])
    server.process.signal(signal.SIGTERM)
    wait_until(lambda: "stopping" in server.log_text())
    server.process.signal(signal.SIGTERM)
    assert server.process.wait(30) == 0
    assert "stopped" in server.log_text()
    for _, stream, lie in pulls:
        assert lie.hold is not None
        lie.hold.release()
        stream.close()


def test_counts_continue_over_a_reload(start: Start, upstream: Liar) -> None:
    server = start(1)
    for content in (b"one", b"two"):
        assert raw.get(server.proxied_url(f"library/one/blobs/{upstream.offer_blob(content)}")).body == content
        reload(server)
    wait_until(lambda: metric(server, "gateway_pulls_total", PULLS) == 2)
    wait_until(lambda: metric(server, "gateway_workers") == 1)
    assert metric(server, "gateway_worker_restarts_total") == 0


def test_a_worker_that_only_completes_responses_leaves_the_sweep_to_others(start: Start, upstream: Liar) -> None:
    server = start(1)
    wait_until(lambda: holder_of(server.data / "sweep.lock") == server.worker)
    _, stream, lie = begin_stalled(server, upstream)
    [old] = reload(server)
    wait_until(lambda: holder_of(server.data / "sweep.lock") == server.worker, what="the sweep is not taken over")
    assert alive(old)
    assert lie.hold is not None
    lie.hold.release()
    stream.close()


def holder_of(file: Path) -> int | None:
    """Find the process that holds the lock of a file."""
    inode = file.stat().st_ino
    rows = (line.split() for line in Path("/proc/locks").read_text().splitlines())
    return next((int(row[4]) for row in rows if row[1] == "FLOCK" and row[5].endswith(f":{inode}")), None)


def test_the_life_of_a_server_is_logged(start: Start) -> None:
    server = start(1)
    assert f"urls=['{server.url}']" in line_of(server, "started")
    assert server.stop() == 0
    events = re.findall(r"\] (started|reloaded|stopping|stopped)\b", server.log_text())
    assert events == ["started", "stopping", "stopped"]

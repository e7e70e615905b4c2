"""Many workers behind one address: they die, are replaced, stop, and share connections and counts."""

import http.client
import json
import os
import re
import resource
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from cache.runtime.locks import locked
from gateway.maintenance.warming_sources import running_server_url
from gateway.processes.worker_pool import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, pause_after
from gateway.settings.tables import Settings
from gateway.wiring.from_settings import worker_count
from tests.conftest import GatewayFactory
from tests.gateway.processes.observed import begin_stalled, metric
from tests.parts import raw
from tests.parts.disk import SmallDisk
from tests.parts.gateway import Gateway
from tests.parts.images import seeded
from tests.parts.liar import Liar
from tests.parts.processes import HOST, PartFailed, answers_tcp, group_members, wait_until

LOOPBACK, ESTABLISHED = "0100007F", "01"
"""127.0.0.1 and the state of an open connection, as /proc/net/tcp writes them."""


class Kept:
    """A kept connection that carries one request after the other."""

    def __init__(self, server: Gateway) -> None:
        self._server = server
        self._connection = http.client.HTTPConnection(HOST, server.port, timeout=30)
        self._connection.connect()

    def get(self, path: str = "/-/health") -> int:
        """Request a path; returns the status, and raises what http.client raises if the connection has ended."""
        self._connection.auto_open = False
        self._connection.request("GET", path)
        answer = self._connection.getresponse()
        answer.read()
        return answer.status

    def worker(self) -> int:
        """Find the worker that has accepted the connection."""
        ours, theirs = self._connection.sock.getsockname()[1], self._server.port
        wanted = [f"{LOOPBACK}:{theirs:04X}", f"{LOOPBACK}:{ours:04X}", ESTABLISHED]
        rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
        [inode] = {row[9] for row in rows if row[1:4] == wanted}  # a line may be listed twice
        [pid] = [pid for pid in self._server.workers if f"socket:[{inode}]" in descriptors(pid)]
        return pid

    def close(self) -> None:
        self._connection.close()


def descriptors(pid: int) -> list[str]:
    found = []
    for entry in os.scandir(f"/proc/{pid}/fd"):
        with suppress(OSError):
            found.append(os.readlink(entry.path))
    return found


@pytest.fixture
def kept() -> Iterator[Callable[[Gateway, int], list[Kept]]]:
    """Open connections that have each received one response; both workers have some."""
    with ExitStack() as opened:

        def keep(server: Gateway, count: int = 12) -> list[Kept]:
            connections: list[Kept] = []
            wait_until(lambda: enough(connections, server, count), within=30, what="one worker takes everything")
            return connections

        def enough(connections: list[Kept], server: Gateway, count: int) -> bool:
            for _ in range(count):
                connection = Kept(server)
                opened.callback(connection.close)
                assert connection.get() == 200
                connections.append(connection)
            return len({connection.worker() for connection in connections}) == len(server.workers)

        yield keep


# Workers that die.


def test_connections_to_the_other_workers_notice_nothing_of_a_death(
    start: Callable[..., Gateway], kept: Callable[..., list[Kept]]
) -> None:
    server = start()
    connections = kept(server)
    doomed = server.workers[0]
    lucky = [connection for connection in connections if connection.worker() != doomed]
    over, answers = threading.Event(), [0] * len(lucky)

    def ask(number: int) -> None:
        while not over.wait(0.05):  # a connection ends after a thousand requests
            assert lucky[number].get() == 200
            answers[number] += 1

    asking = [threading.Thread(target=ask, args=(number,)) for number in range(len(lucky))]
    for thread in asking:
        thread.start()
    died = set()
    for _ in range(3):
        died.add(victim := server.workers[0])
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda victim=victim: victim not in server.workers and len(server.workers) == 2)  # type: ignore[misc]
    seen = list(answers)
    wait_until(lambda: all(now > then for now, then in zip(answers, seen, strict=True)))
    over.set()
    for thread in asking:
        thread.join(20)
    assert all(connection.get() == 200 for connection in lucky)
    wait_until(lambda: metric(server, "gateway_workers") == 2)
    assert metric(server, "gateway_worker_restarts_total") == 3
    assert len(died) == 3
    assert len(re.findall("worker_died|worker_dies_at_start", server.log_text())) == 3
    assert server.stop() == 0


def test_the_only_worker_is_replaced_too(start: Callable[..., Gateway]) -> None:
    server = start(1)
    for _ in range(2):
        os.kill(server.worker, signal.SIGKILL)
        assert raw.get(f"{server.url}/-/ready").status == 200  # waits in the backlog for the next worker
    assert metric(server, "gateway_workers") == 1


def test_what_a_dead_worker_has_counted_still_counts(start: Callable[..., Gateway], upstream: Liar) -> None:
    server = start(1)
    url = server.proxied_url(f"library/one/blobs/{upstream.offer_blob(b'one')}")
    assert raw.get(url).body == b"one"
    wait_until(lambda: raw.head(url).headers["x-cache"] == "HIT")
    labels = '{kind="blob",outcome="MISS"}'
    hits = metric(server, "gateway_pulls_total", labels)
    assert hits >= 1
    os.kill(server.worker, signal.SIGKILL)
    wait_until(lambda: metric(server, "gateway_worker_restarts_total") == 1)
    assert metric(server, "gateway_pulls_total", labels) == hits


def test_a_worker_that_dies_at_its_start_is_started_again_after_a_pause(start: Callable[..., Gateway]) -> None:
    server = start(1, environment={"FAILPOINTS": "worker.began=exit*2"})
    text = server.log_text()
    assert text.count("worker_died ") == 1
    assert text.count("worker_dies_at_start") == 1
    assert "exit status 137" in text


def test_a_server_of_which_no_worker_serves_ends_and_says_why(gateway: GatewayFactory) -> None:
    server = gateway({"workers": 2}, start=False, environment={"FAILPOINTS": "worker.began=exit"})
    with pytest.raises(PartFailed, match="ended with status 1"):
        server.start()
    assert "registry-gateway: no worker became ready; the last one ended by exit status 137" in server.log_text()
    assert not (server.data / "run.json").exists()


def test_pauses_grow_to_a_bound() -> None:
    pauses = [pause_after(deaths) for deaths in range(60)]
    assert pauses[:4] == [0, 0, FIRST_PAUSE_SECONDS, 2 * FIRST_PAUSE_SECONDS]
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE_SECONDS


def test_workers_end_with_their_parent_and_leave_the_folder_and_the_port(start: Callable[..., Gateway]) -> None:
    server = start()
    leader = server.process.pid
    assert len(group_members(leader)) == 3
    server.process.signal(signal.SIGKILL)
    assert server.process.wait() == -signal.SIGKILL
    wait_until(lambda: not group_members(leader))
    server.start()
    assert server.stop() == 0


def test_the_process_that_forks_has_one_thread(start: Callable[..., Gateway]) -> None:
    server = start()
    assert len(os.listdir(f"/proc/{server.process.pid}/task")) == 1


# Stopping.


def test_workers_finish_what_they_send_and_none_is_left(start: Callable[..., Gateway], upstream: Liar) -> None:
    server = start()
    content, stream, lie = begin_stalled(server, upstream)
    leader = server.process.pid
    server.process.signal(signal.SIGTERM)
    wait_until(lambda: not answers_tcp(server.port)(), what="connections are still accepted")
    assert lie.hold is not None
    lie.hold.release()
    with stream:
        assert stream.read_all() == content
        assert stream.complete
    assert server.process.wait(30) == 0
    assert group_members(leader) == []
    assert not (server.data / "run.json").exists()
    assert sorted(file.name for file in (server.data / "spool").iterdir()) == ["leases", "uploads"]


@pytest.mark.parametrize("numbers", [(signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGINT)])
def test_a_second_signal_ends_what_is_being_sent(
    numbers: tuple[signal.Signals, signal.Signals], start: Callable[..., Gateway], upstream: Liar
) -> None:
    server = start()
    content, stream, lie = begin_stalled(server, upstream)
    leader = server.process.pid
    server.process.signal(numbers[0])
    wait_until(lambda: not answers_tcp(server.port)(), what="connections are still accepted")
    server.process.signal(numbers[1])
    assert server.process.wait(30) == 0
    assert group_members(leader) == []
    assert sorted(file.name for file in (server.data / "spool").iterdir()) == ["leases", "uploads"]
    with stream:
        assert len(stream.read_all()) < len(content)
        assert not stream.complete
    assert lie.hold is not None
    lie.hold.release()


def test_a_signal_to_the_whole_group_is_one_signal(start: Callable[..., Gateway], upstream: Liar) -> None:
    """A signal to the whole process group, as a terminal sends it, lets responses in progress complete."""
    server = start()
    content, stream, lie = begin_stalled(server, upstream)
    os.killpg(server.process.pid, signal.SIGINT)
    wait_until(lambda: not answers_tcp(server.port)(), what="connections are still accepted")
    assert lie.hold is not None
    lie.hold.release()
    with stream:
        assert stream.read_all() == content
    assert server.process.wait(30) == 0


def test_sigquit_stops_as_sigterm_does(start: Callable[..., Gateway], upstream: Liar) -> None:
    """SIGQUIT to the whole process group, as a terminal sends it, lets responses in progress complete."""
    server = start()
    content, stream, lie = begin_stalled(server, upstream)
    os.killpg(server.process.pid, signal.SIGQUIT)
    wait_until(lambda: not answers_tcp(server.port)(), what="connections are still accepted")
    assert lie.hold is not None
    lie.hold.release()
    with stream:
        assert stream.read_all() == content
    assert server.process.wait(60) == 0


def test_signals_with_other_purposes_end_nothing(start: Callable[..., Gateway], upstream: Liar) -> None:
    server = start(1)
    content, stream, lie = begin_stalled(server, upstream)
    before = server.workers
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        os.killpg(server.process.pid, number)
        assert raw.get(f"{server.url}/-/ready").status == 200
    assert lie.hold is not None
    lie.hold.release()
    with stream:
        assert stream.read_all() == content
    assert server.workers == before
    assert server.stop() == 0


# The data folder.


def test_a_folder_whose_lock_file_was_deleted_is_still_in_use(start: Callable[..., Gateway]) -> None:
    server = start(1)
    (server.data / "server.lock").unlink()
    assert running_server_url(server.data) == server.url
    done = server.cli("serve", "--port=0")
    assert done.returncode == 1
    assert "another server uses the data folder" in done.stderr
    assert raw.get(f"{server.url}/-/ready").status == 200


def test_a_server_of_a_version_that_locks_the_file_alone_is_noticed(gateway: GatewayFactory) -> None:
    server = gateway(start=False)
    server.data.mkdir(0o700)
    with locked(server.data / "server.lock"):
        done = server.cli("serve", "--port=0")
    assert done.returncode == 1
    assert "another server uses the data folder" in done.stderr


# Sharing.


def test_all_workers_take_connections(start: Callable[..., Gateway], kept: Callable[..., list[Kept]]) -> None:
    server = start()
    assert {connection.worker() for connection in kept(server)} == set(server.workers)


def test_a_worker_that_is_stuck_takes_no_connections(start: Callable[..., Gateway]) -> None:
    server = start()
    stuck, other = server.workers
    os.kill(stuck, signal.SIGSTOP)
    with ExitStack() as opened:
        for _ in range(40):
            connection = Kept(server)
            opened.callback(connection.close)
            assert connection.get() == 200
            assert connection.worker() == other
    os.kill(stuck, signal.SIGCONT)
    assert server.stop() == 0


def test_counts_add_up_over_the_workers(
    start: Callable[..., Gateway], kept: Callable[..., list[Kept]], upstream: Liar
) -> None:
    server = start()
    digest = upstream.offer_blob(b"counted")
    path = f"/v2/hub/dependency_proxy/containers/library/one/blobs/{digest}"
    assert raw.get(server.url + path).body == b"counted"
    wait_until(lambda: raw.head(server.url + path).headers["x-cache"] == "HIT")
    labels = '{kind="blob",outcome="HIT"}'
    before = metric(server, "gateway_pulls_total", labels)
    connections = kept(server)
    for connection in connections:
        assert connection.get(path) == 200
    wanted = before + len(connections)
    wait_until(lambda: metric(server, "gateway_pulls_total", labels) == wanted, what="not all pulls are counted")


def test_running_downloads_are_counted_in_whichever_worker(start: Callable[..., Gateway], upstream: Liar) -> None:
    server = start()
    content, stream, lie = begin_stalled(server, upstream)
    wait_until(lambda: metric(server, "gateway_flights") == 1, what="the download is not counted")
    assert lie.hold is not None
    lie.hold.release()
    with stream:
        assert stream.read_all() == content
    wait_until(lambda: metric(server, "gateway_flights") == 0)


def test_a_worker_without_descriptors_waits_and_goes_on(start: Callable[..., Gateway]) -> None:
    server = start(1)
    worker = server.worker
    before = resource.prlimit(worker, resource.RLIMIT_NOFILE)
    resource.prlimit(worker, resource.RLIMIT_NOFILE, (len(descriptors(worker)) + 3, before[1]))
    with ExitStack() as opened:
        clients = [opened.enter_context(socket.create_connection((HOST, server.port), timeout=30)) for _ in range(12)]
        wait_until(lambda: "accept_paused" in server.log_text())
        turns = context_switches(worker)
        wait_until(lambda: context_switches(worker) >= turns + 5, what="it never tries again")
        resource.prlimit(worker, resource.RLIMIT_NOFILE, before)
        for client in clients:
            client.sendall(b"GET /-/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert raw.RawStream(client, "GET", 0).status == 200
    assert server.worker == worker
    assert server.log_text().count("accept_paused") == 1


def context_switches(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])


def test_as_many_workers_as_cores_serve_where_nothing_is_said(gateway: GatewayFactory) -> None:
    server = gateway({"workers": 0})
    wait_until(lambda: metric(server, "gateway_workers") == worker_count(Settings()))
    assert len(server.workers) == worker_count(Settings())


# Disks.


@pytest.fixture
def disk(scratch: Path) -> Iterator[SmallDisk]:
    disk = SmallDisk(scratch / "gateway" / "data")
    yield disk
    disk.unmount()


def is_writable(server: Gateway) -> bool:
    response = raw.get(f"{server.url}/-/ready")
    assert response.status == 200
    return bool(json.loads(response.body)["writable"])


def test_on_a_full_disk_a_server_starts_and_serves_what_it_has(
    disk: SmallDisk, gateway: GatewayFactory, upstream: Liar
) -> None:
    server = gateway({"workers": 2, "upstreams": {"docker.io": upstream.settings()}})
    urls = []
    for number in range(4):
        content = seeded(str(number), 512 * 1024)
        urls.append((server.proxied_url(f"library/one/blobs/{upstream.offer_blob(content)}"), content))
        assert raw.get(urls[-1][0]).body == content
        wait_until(lambda: raw.head(urls[-1][0]).headers["x-cache"] == "HIT")
    assert server.stop() == 0
    held = set(disk.place.glob("cache/*/*/*"))
    disk.fill()
    server.start()
    assert is_writable(server), "the ballast made room"
    disk.fill("rest")
    assert not is_writable(server)
    (disk.place / "rest").unlink()
    assert not (disk.place / "ballast").exists()
    assert set(disk.place.glob("cache/*/*/*")) == held
    for url, content in urls:
        found = raw.get(url)
        assert (found.status, found.body, found.headers["x-cache"]) == (200, content, "HIT")
    assert server.stop() == 0
    # After the ballast it deletes content that can be fetched again.
    disk.fill("another")
    server.start()
    assert len(held & set(disk.place.glob("cache/*/*/*"))) == len(held) - 1
    assert raw.get(urls[-1][0]).body == urls[-1][1]
    assert server.stop() == 0


def test_a_read_only_folder_is_refused(disk: SmallDisk, gateway: GatewayFactory) -> None:
    server = gateway()
    assert server.stop() == 0
    disk.make_read_only()
    done = server.cli("serve", f"--port={server.port}")
    assert (done.returncode, done.stdout) == (1, "")
    [line] = done.stderr.splitlines()
    assert str(server.data) in line
    assert "Read-only file system" in line


def test_a_folder_that_is_a_file_is_refused(gateway: GatewayFactory) -> None:
    server = gateway(start=False)
    server.data.write_text("")
    done = server.cli("serve", f"--port={server.port}")
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert str(server.data) in line


def test_leftover_spools_go_before_the_workers_come_and_stay_when_one_is_replaced(
    start: Callable[..., Gateway],
) -> None:
    server = start()
    assert server.stop() == 0
    leftover = server.data / "spool" / "sha256-1.part"
    leftover.write_text("")
    server.start()
    assert not leftover.exists()
    leftover.write_text("of another worker")
    victim = server.workers[0]
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: metric(server, "gateway_worker_restarts_total") == 1)
    wait_until(lambda: metric(server, "gateway_workers") == 2)
    assert leftover.exists()


def test_the_run_file_tells_who_serves(start: Callable[..., Gateway]) -> None:
    server = start()
    told = json.loads((server.data / "run.json").read_text())
    assert told == {
        "pid": server.process.pid,
        "addresses": [server.url],
        "workers": sorted(server.process.children()),
        "config": str(server.config_file),
    }

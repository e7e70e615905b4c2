"""End of a run with pushers: every worker shows what was acknowledged, and the data folder holds that and no more."""

import hashlib
import http.client
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from tests.parts.gateway import Gateway
from tests.parts.ports import HOST

from .push_client import ACCEPT, PushClient, digest_like
from .push_ledger import Key, Look, Thing
from .workers import clients_of, workers

CONNECTIONS = 64
"""Connections among which there is one to each worker, for the kernel spreads them."""

PATIENCE = 60.0


@contextmanager
def connections(gateway: Gateway) -> Iterator[dict[int, http.client.HTTPConnection]]:
    """Opens a connection to each worker. Raises AssertionError where one worker gets none."""
    found: dict[int, http.client.HTTPConnection] = {}
    running = workers(gateway)
    with ExitStack() as stack:
        for _ in range(CONNECTIONS):
            connection = stack.enter_context(closing(http.client.HTTPConnection(HOST, gateway.port, timeout=PATIENCE)))
            connection.request("GET", "/-/ready")
            connection.getresponse().read()
            port = connection.sock.getsockname()[1]
            for pid in running:
                if pid not in found and port in clients_of(pid, gateway.port):
                    found[pid] = connection
            if len(found) == len(running):
                break
        if len(found) < len(running):
            raise AssertionError(f"no connection reaches the workers {set(running) - set(found)}")
        yield found


def look_at_everything(gateway: Gateway, client: PushClient) -> list[str]:
    """Looks at every key on every worker, each blob whole on one of them, and notes that; returns what came wrong."""
    wrong = []
    with connections(gateway) as reached:
        for turn, key in enumerate(client.ledger.changes):
            for number, connection in enumerate(reached.values()):
                whole = key.thing is not Thing.BLOB or turn % len(reached) == number
                wrong += look(connection, client, key, "GET" if whole else "HEAD", f" on worker {number}")
    return wrong


def look(
    connection: http.client.HTTPConnection, client: PushClient, key: Key, method: str, where: str
) -> Iterator[str]:
    """Looks at a key; yields a sentence if its bytes are wrong, or nobody says whether it is there."""
    begun = time.monotonic()
    connection.request(method, f"/v2/{key.path}", headers=client.credential | ACCEPT)
    response = connection.getresponse()
    body = response.read()
    if response.status not in (200, 404):
        yield f"{key}{where} was answered by {response.status} at rest: {body[:200]!r}"
        return
    value = None
    if response.status == 200:
        value = key.name if key.thing is Thing.BLOB else response.headers["Docker-Content-Digest"]
        if method == "GET" and digest_like(value, body) != value:
            yield f"{key}{where} came wrong"
    client.ledger.looked(Look(key, value, begun, time.monotonic(), where))


def uncollected(gateway: Gateway, delay: float) -> list[str]:
    """Waits until nothing waits for its review any more; returns what is stored that nothing needs, or why it waits."""
    deadline = time.monotonic() + 4 * delay + PATIENCE
    while (status := gateway.json("gc", "status"))["waiting"]:
        if status["stopped_reason"] or time.monotonic() > deadline:
            return [f"collection does not end: {status}"]
        time.sleep(1)
    with closing(sqlite3.connect(gateway.data / "gateway.db")) as database:
        return [f"nothing needs {what}, which is stored" for query in NEEDLESS for (what,) in database.execute(query)]


NEEDLESS = (
    "SELECT b.digest FROM blobs b WHERE NOT EXISTS (SELECT 1 FROM blob_links l WHERE l.digest = b.digest)",
    "SELECT l.digest FROM blob_links l WHERE NOT EXISTS (SELECT 1 FROM manifest_references r "
    "JOIN manifests m ON m.id = r.manifest_id WHERE r.digest = l.digest AND m.repository_id = l.repository_id)",
    "SELECT m.digest FROM manifests m WHERE NOT EXISTS (SELECT 1 FROM tags t WHERE t.manifest_id = m.id) "
    "AND NOT EXISTS (SELECT 1 FROM manifest_references r JOIN manifests i ON i.id = r.manifest_id "
    "WHERE r.digest = m.digest AND r.is_manifest AND i.repository_id = m.repository_id) "
    "AND NOT EXISTS (SELECT 1 FROM manifests s WHERE s.repository_id = m.repository_id "
    "AND (s.digest = m.subject OR s.subject = m.digest))",
)
"""Blobs, links and manifests that nothing needs."""


def native_leftovers(data: Path) -> Iterator[str]:
    """Rows and files of native content that do not belong together, in the data folder of an ended server.

    Unfinished uploads stay for a week: a row, and a file if anything has arrived. A killed commit may have given that
    file a second name, or its name in the store: the same commit goes on from there, or the sweep takes the name back.
    """
    with closing(sqlite3.connect(data / "gateway.db")) as database:
        sizes = dict(database.execute("SELECT digest, size FROM blobs").fetchall())
        uploads = {id for (id,) in database.execute("SELECT id FROM uploads")}
        for row in database.execute("PRAGMA foreign_key_check"):
            yield f"gateway.db: a row of {row[0]} refers to none of {row[2]}"
        for digest, content in database.execute("SELECT digest, raw FROM manifests"):
            if digest_like(digest, content) != digest:
                yield f"gateway.db holds other bytes as {digest}"
    files = {digest_of_path(path): path for path in (data / "blobs").rglob("*") if path.is_file()}
    for digest, size in sizes.items():
        if digest not in files:
            yield f"gateway.db has a row for {digest}, blobs/ no file"
        elif files[digest].stat().st_size != size:
            yield f"gateway.db says that {digest} has {size} bytes, it has {files[digest].stat().st_size}"
    unfinished = {path.stat().st_ino for path in (data / "spool" / "uploads").iterdir() if path.name in uploads}
    for digest, path in files.items():
        if digest not in sizes and path.stat().st_ino not in unfinished:
            yield f"{path.relative_to(data)} has no row in gateway.db"
        if digest_of_file(path, digest.partition(":")[0]) != digest:
            yield f"{path.relative_to(data)} has another digest"
    for path in (data / "spool" / "uploads").iterdir():
        if path.name.removesuffix(".commit") not in uploads:
            yield f"{path.relative_to(data)} belongs to no upload"


def digest_of_path(path: Path) -> str:
    """Digest that a path below blobs/ states: ALGORITHM/XX/XX…."""
    return f"{path.parent.parent.name}:{path.name}"


def digest_of_file(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return f"{algorithm}:{hashlib.file_digest(file, algorithm).hexdigest()}"

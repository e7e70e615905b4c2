"""Table of faults: what the rig causes, what clients see, what the cache keeps, and the tests that show it."""

from dataclasses import dataclass

MIX = "tests/faults/test_mix.py::test_a_mix_of_faults_breaks_no_promise"
KILLED = "tests/faults/test_killed_filler.py::"
SMALL = "tests/faults/test_small_disk.py::"
PAIRS = "tests/faults/test_pairs.py::test_each_pair_of_faults_breaks_no_promise"


@dataclass(frozen=True, slots=True)
class Fault:
    """Row of the table. `clients`: what they see. `kept`: what the cache keeps, and how work continues."""

    name: str
    fault: str
    clients: str
    kept: str
    tests: tuple[str, ...]


FAULTS = [
    Fault(
        "the filler is killed",
        "kill -9 hits the filling worker every two seconds, while fifty clients of four workers follow.",
        "Clients of the dead worker: a body that ends short, and the rest on retry. Other clients: nothing.",
        "The hashed bytes; the next filler requests the rest within 5 s.",
        (
            KILLED + "test_fifty_clients_over_four_workers_outlive_the_killed_fillers",
            KILLED + "test_bytes_flow_again_soon_after_the_filler_was_killed",
        ),
    ),
    Fault(
        "workers stop, die, and are stopped",
        "Any worker is killed or paused; the whole server is killed, or stopped while it works.",
        "Broken connections for some seconds, and right responses on retry.",
        "Everything that was served from the cache before.",
        (MIX,),
    ),
    Fault(
        "a process ends between two steps",
        "A process dies before or after the sync or rename of a blob, or a write fails.",
        "Broken connections, as after a killed worker.",
        "The whole blob, or nothing of it.",
        (MIX, "tests/e2e/test_crashes.py"),
    ),
    Fault(
        "damage and a kill",
        "A cached file is cut, emptied, lengthened or replaced, and the worker that fetches it again is killed.",
        "Clients of the dead worker: a body that ends short. Other clients: nothing.",
        "The right bytes; the damaged file is in the quarantine.",
        ("tests/e2e/test_damage_and_kill.py",),
    ),
    Fault(
        "upstreams that break off",
        "Resets, and short, long, stalled or slow bodies at many offsets; 200 for 206; no length, no end.",
        "The right bytes, later; otherwise a body that ends short, 502 or 503. Cached content is served.",
        "Only content that matches its digest.",
        (MIX, "tests/faults/test_proxy.py"),
    ),
    Fault(
        "upstreams that refuse",
        "No connections for seconds; 429, 500, 503; responses that come late or never.",
        "503 with Retry-After for uncached content, stale tags; right responses soon after.",
        "Everything.",
        (MIX,),
    ),
    Fault(
        "evicted while it is read",
        "One image, or all of them, are evicted while clients read and fill them.",
        "Nothing.",
        "Rows and files are deleted together; a new request fetches the content once.",
        (MIX,),
    ),
    Fault(
        "a disk that is too small",
        "A disk of 64 MiB holds the cache of images of 300 MB, or of more images than fit.",
        "All content, verified; over a separate stream per client where nothing can be stored.",
        "Content that fits; nothing unfinished.",
        (
            SMALL + "test_what_is_larger_than_the_disk_is_served_verified_and_not_kept",
            SMALL + "test_more_than_fits_is_served_and_the_disk_stays_usable",
        ),
    ),
    Fault(
        "a disk without inodes",
        "A disk with much free space takes 330 files and folders; or foreign files take its last inode.",
        "All content, verified.",
        "The content that was used last, with some inodes free.",
        (
            SMALL + "test_a_disk_without_inodes_evicts_and_keeps_what_is_new",
            SMALL + "test_a_server_starts_on_a_disk_without_inodes",
        ),
    ),
    Fault(
        "a disk that is full at the start",
        "A foreign file fills the disk while the server is down.",
        "All content, verified.",
        "Content that can be read.",
        (SMALL + "test_a_server_starts_and_serves_on_a_full_disk",),
    ),
    Fault(
        "damage + kill",
        "A cached file is cut, lengthened or deleted; the worker that fetches it anew is killed.",
        "A body that ends short, and the right bytes on retry; never a complete body that is wrong.",
        "The right bytes alone: a file of another size than its row is no blob.",
        (MIX, PAIRS),
    ),
    Fault(
        "foreign file + kill",
        "While content is fetched, other bytes take its final name; then the filler is killed.",
        "The right bytes, some of them on retry.",
        "The right bytes: a name proves nothing, and the commit replaces the file.",
        (MIX, PAIRS),
    ),
    Fault(
        "damage + evict",
        "A cached file is damaged, and its image evicted while the file is fetched anew.",
        "The right bytes.",
        "Row and file, both or neither.",
        (MIX, PAIRS),
    ),
    Fault(
        "kill + damaged spool",
        "The filler is killed, and its spool is cut or changed before another worker resumes it.",
        "A body that ends short, and the right bytes on retry.",
        "The right bytes: what was left is hashed again, and fetched again where it is wrong.",
        (MIX, PAIRS),
    ),
    Fault(
        "quarantine + damage",
        "A cached file is damaged, and the upstream sends wrong bytes in its place.",
        "A body that ends short, or 502; then the right bytes.",
        "The right bytes; the wrong ones are in quarantine.",
        (MIX, PAIRS),
    ),
    Fault(
        "lie + resume",
        "The filler is killed, and the upstream breaks off, adds to or repeats what the next one resumes.",
        "A body that ends short, and the right bytes on retry.",
        "Only content that matches its digest.",
        (MIX, PAIRS),
    ),
    Fault(
        "clock + kill",
        "A clock that was wrong for one pull has dated tags more than a year ahead; the next worker reads them.",
        "The right bytes.",
        "Tags that were checked again: a check in the future counts for nothing.",
        (MIX, PAIRS),
    ),
    Fault(
        "full disk + kill",
        "The disk fills up while content is fetched, and the filler is killed.",
        "All content, verified.",
        "Content that fits; nothing unfinished.",
        (MIX, PAIRS),
    ),
    Fault(
        "a push and a kill",
        "Clients push blobs and manifests, move tags and delete, while the workers that receive them are killed.",
        "Broken connections; an upload goes on at the offset that was acknowledged, whichever worker is left.",
        "Every acknowledged push and no acknowledged delete, on every worker; of the rest, all or nothing.",
        (MIX, "tests/gateway/registry/test_killed_uploads.py"),
    ),
    Fault(
        "a push and a full disk",
        "The disk fills up, or a write fails, while clients push.",
        "507 or 503, and an upload that has ended; pushes work again once there is room, without a restart.",
        "Everything that was acknowledged before.",
        (MIX, "tests/gateway/registry/test_full_disk.py"),
    ),
    Fault(
        "a push that breaks off",
        "Clients leave by a reset before, within and after a body; uploads are left unfinished.",
        "The upload's offset, and a 416 while another request still writes to it.",
        "What has arrived, for a week; no blob whose digest does not hold.",
        (MIX,),
    ),
    Fault(
        "a judge who sleeps",
        "The checker itself finds no violation because it checks nothing.",
        "-",
        "-",
        ("tests/faults/test_checker.py", "tests/faults/test_push_checker.py"),
    ),
]


def section() -> str:
    """Renders the table as a section of the page of threats."""
    rows = "\n".join(
        f"| {f.name} | {f.fault} | {f.clients} | {f.kept} | {'<br>'.join(f'`{test}`' for test in f.tests)} |"
        for f in FAULTS
    )
    return (
        "\n## Faults and their tests\n\n"
        "From `tests/faults/table.py`. The rig causes these faults, one at a time or many at once, for any time:\n"
        "`python -m tests.faults --seconds 90 --seed 1 --seeds 10 --workers 2 --clients 20`.\n\n"
        "| fault | what happens | what clients see | what is kept | tests |\n| --- | --- | --- | --- | --- |\n"
        f"{rows}\n"
    )

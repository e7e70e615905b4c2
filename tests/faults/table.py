"""The faults that the rig brings about, what becomes of the clients and of the cache, and the tests that show it."""

from dataclasses import dataclass

MIX = "tests/faults/test_mix.py::test_a_mix_of_faults_breaks_no_promise"
KILLED = "tests/faults/test_killed_filler.py::"
SMALL = "tests/faults/test_small_disk.py::"


@dataclass(frozen=True, slots=True)
class Fault:
    """`clients`: what they see of it. `kept`: what the cache keeps, and how it goes on."""

    name: str
    fault: str
    clients: str
    kept: str
    tests: tuple[str, ...]


FAULTS = [
    Fault(
        "the filler is killed",
        "kill -9 of the worker that fills, every two seconds, while fifty clients of four workers follow.",
        "Those of the dead worker a body that ends short, and the rest when they come back; others nothing.",
        "The bytes that were hashed: the next filler asks for the rest, within 5 s.",
        (
            KILLED + "test_fifty_clients_over_four_workers_outlive_the_killed_fillers",
            KILLED + "test_bytes_flow_again_soon_after_the_filler_was_killed",
        ),
    ),
    Fault(
        "workers stop, die, and are stopped",
        "Any worker is killed or stands still; the whole server is killed, or stopped in the midst of its work.",
        "Broken connections within seconds of it, and right answers when they ask again.",
        "Everything that was answered from the cache before.",
        (MIX,),
    ),
    Fault(
        "a process ends between two steps",
        "It dies before or after the sync or the renaming of a blob, or a write fails.",
        "As of a killed worker.",
        "All of the blob, or nothing of it.",
        (MIX, "tests/e2e/test_crashes.py"),
    ),
    Fault(
        "upstreams that break off",
        "Resets and short, long, stalled or trickling bodies at many a byte; 200 for 206; no length, no end.",
        "The right bytes, later; else a body that ends short, or 502 or 503. What is cached is served all the while.",
        "Only what has its digest.",
        (MIX, "tests/faults/test_proxy.py"),
    ),
    Fault(
        "upstreams that refuse",
        "No connections for seconds; 429, 500, 503; answers that come late or never.",
        "503 with Retry-After for what is not here, and tags as they were; right answers soon after.",
        "Everything.",
        (MIX,),
    ),
    Fault(
        "evicted while it is read",
        "Images, or all of them, are evicted while many read and fill them.",
        "Nothing.",
        "Rows and files go together; what is asked for again is fetched once.",
        (MIX,),
    ),
    Fault(
        "a disk that is too small",
        "64 MiB for images of 300 MB, and for more images than fit.",
        "All of it, verified; by a stream of its own for each client where nothing can be stored.",
        "What fits. Nothing unfinished.",
        (
            SMALL + "test_what_is_larger_than_the_disk_is_served_verified_and_not_kept",
            SMALL + "test_more_than_fits_is_served_and_the_disk_stays_usable",
        ),
    ),
    Fault(
        "a disk that is full at the start",
        "Somebody else's file takes the last byte while the server is down.",
        "All of it, verified.",
        "What can be read.",
        (SMALL + "test_a_server_starts_and_serves_on_a_full_disk",),
    ),
    Fault(
        "a judge who sleeps",
        "The rig itself finds nothing because it looks at nothing.",
        "-",
        "-",
        ("tests/faults/test_checker.py",),
    ),
]


def section() -> str:
    """As it stands on the page of threats."""
    rows = "\n".join(
        f"| {f.name} | {f.fault} | {f.clients} | {f.kept} | {'<br>'.join(f'`{test}`' for test in f.tests)} |"
        for f in FAULTS
    )
    return (
        "\n## Faults and the tests that answer them\n\n"
        "From `tests/faults/table.py`. The rig brings them about, one at a time or many at once, for any time:\n"
        "`python -m tests.faults --seconds 90 --seed 1 --workers 2 --clients 20`.\n\n"
        "| fault | what happens | what clients see | what is kept | tests |\n| --- | --- | --- | --- | --- |\n"
        f"{rows}\n"
    )

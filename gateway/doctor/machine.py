"""Machine checks: a writable data folder, free space, a local file system, file descriptors."""

import os
import resource
import tempfile
from pathlib import Path

from cache.runtime.descriptors import PER_CONNECTION, PER_DOWNLOAD
from cache.runtime.disk import disk_space
from gateway.data_folder import exposed_mode
from gateway.doctor.check import Check, Remedy, failed, passed, warned

LEAST_BYTES = 1024**3
LEAST_INODES = 10_000
LEAST_DESCRIPTORS = 4096
_SHARED = {"nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "ceph", "glusterfs", "fuse.glusterfs"}


def examine_machine(data: Path) -> list[Check]:
    """Check the machine for a server over this data folder, which must exist."""
    _, descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)
    mounts = Path("/proc/self/mountinfo").read_text()
    return [
        _check_folder(data),
        _check_access(data),
        _check_space(data),
        _check_inodes(data),
        check_file_system(data, mounts),
        check_descriptors(descriptors),
    ]


def check_file_system(data: Path, mountinfo: str) -> Check:
    """Whether the data folder lies on a file system with the locks that SQLite needs."""
    kind = file_system_of(data.resolve(), mountinfo)
    if kind in _SHARED:
        why = f"{kind} lies on a network: its locks and its memory maps are not those that SQLite needs"
        return failed("file system", why, Remedy.LOCAL_DISK)
    return passed("file system", f"{kind}" + (", which is lost when the machine stops" if kind == "tmpfs" else ""))


def check_descriptors(hard_limit: int) -> Check:
    """Whether a process may open enough files."""
    limit = "no limit" if hard_limit == resource.RLIM_INFINITY else str(hard_limit)
    if hard_limit != resource.RLIM_INFINITY and hard_limit < LEAST_DESCRIPTORS:
        return failed(
            "file descriptors",
            f"at most {limit}: a client takes up to {PER_CONNECTION}, a download {PER_DOWNLOAD}",
            f"raise the limit (LimitNOFILE of systemd, ulimit -Hn) to {LEAST_DESCRIPTORS} or more",
        )
    return passed("file descriptors", f"at most {limit}")


def _check_folder(data: Path) -> Check:
    name = "data folder"
    owner = data.stat().st_uid
    mine = f"belongs to user {owner}, and this runs as {os.geteuid()}"
    remedy = f"run this and the server as the user that owns {data.absolute()}, on a file system that takes files"
    try:
        with tempfile.TemporaryFile(dir=data) as file:
            file.write(b"x")
            file.flush()
    except OSError as error:
        return failed(name, f"{data.absolute()} accepts no files ({error.strerror}); it {mine}", remedy)
    if owner != os.geteuid():
        return failed(name, f"{data.absolute()} {mine}: files would belong to another user than the server", remedy)
    return passed(name, f"{data.absolute()} accepts files")


def _check_access(data: Path) -> Check:
    name, mode = "data folder access", exposed_mode(data)
    if mode is None:
        return passed(name, "only its owner may enter it")
    return warned(name, f"mode {mode}: other users of this machine may enter it", f"run chmod -R go= {data.absolute()}")


def _check_space(data: Path) -> Check:
    found = disk_space(data)
    detail = f"{found.free / 1e9:.1f} of {found.size / 1e9:.1f} GB are free"
    if found.free < LEAST_BYTES:
        return failed("free space", detail, Remedy.FREE_SPACE)
    return passed("free space", detail)


def _check_inodes(data: Path) -> Check:
    found = disk_space(data)
    if not found.files:
        return passed("inodes", "the file system does not limit them")
    detail = f"{found.free_files} of {found.files} are free"
    if found.free_files < LEAST_INODES:
        return failed("inodes", detail, "delete small files, or make the file system with more inodes")
    return passed("inodes", detail)


def file_system_of(folder: Path, mountinfo: str) -> str:
    """The type of the mount that a folder lies on (proc_pid_mountinfo(5)); `unknown` where none is listed."""
    kind, longest = "unknown", -1
    for line in mountinfo.splitlines():
        before, separator, after = line.partition(" - ")
        fields = before.split()
        if not separator or len(fields) < 5:
            continue
        point = fields[4].replace("\\040", " ")
        if folder.is_relative_to(point) and len(point) >= longest:
            kind, longest = after.split()[0], len(point)
    return kind

"""A machine that systemd boots, in namespaces over the files of this one."""

import os
import shutil
import subprocess
import sys
import sysconfig
from functools import partial
from pathlib import Path

from .clients import run_client
from .forks import ROOT
from .processes import PartFailed, Process, binary, plain_environment, wait_until

PROGRAM = Path("/opt/registry-gateway")
LONGEST_RUN = 120

MAKE = """\
set -eu
mkdir "$FOLDER/memory"
mount -t tmpfs -o mode=755 none "$FOLDER/memory"
cd "$FOLDER/memory"
mkdir upper work root
mount -t overlay -o lowerdir=/,upperdir=upper,workdir=work none root
rm -rf root/etc/systemd/system root/etc/registry-gateway root/var/lib/registry-gateway root/opt/registry-gateway
rm -f root/etc/resolv.conf root/usr/local/bin/registry-gateway
mkdir -p root/etc/systemd/system root$PROGRAM/bin root$PROGRAM/lib root$PROGRAM/source root$PROGRAM/base
ln -s /lib/systemd/system/multi-user.target root/etc/systemd/system/default.target
ln -s /dev/null root/etc/systemd/system/console-getty.service
mount --bind "$PYTHON" root$PROGRAM/base
mount --bind "$LIBRARY" root$PROGRAM/lib
for package in cache gateway; do
    mkdir root$PROGRAM/source/$package
    mount --bind "$SOURCE/$package" root$PROGRAM/source/$package
done
ln -s $PROGRAM/base/bin/$INTERPRETER root$PROGRAM/bin/python3
printf 'home = %s\\n' $PROGRAM/base/bin > root$PROGRAM/pyvenv.cfg
cat > root$PROGRAM/bin/registry-gateway <<END
#!/bin/sh
export PYTHONPATH=$PROGRAM/source LD_LIBRARY_PATH=$PROGRAM/base/lib
exec $PROGRAM/bin/python3 -P -m gateway "\\$@"
END
chmod 755 root$PROGRAM/bin/registry-gateway
echo ready
exec sleep infinity
"""
"""Makes the files of the machine, and keeps the namespace of mounts."""

BOOT = """\
set -eu
for group in $GROUPS; do mkdir -p "$group"; echo $$ > "$group/cgroup.procs"; done
exec unshare --mount --pid --fork --kill-child --ipc --uts --net --cgroup sh -euc '
cd "$FOLDER/memory/root"
mount -t proc none proc
mount -t sysfs none sys
if [ "$UNIFIED" ]; then
    mount -t cgroup2 none sys/fs/cgroup
else
    mount -t tmpfs -o mode=755 none sys/fs/cgroup
    mkdir sys/fs/cgroup/systemd sys/fs/cgroup/unified
    mount -t cgroup -o none,name=systemd none sys/fs/cgroup/systemd
    mount -t cgroup2 none sys/fs/cgroup/unified
fi
mount -t tmpfs none run
mount -t tmpfs -o mode=1777 none tmp
mount -t tmpfs -o mode=755 none dev
mkdir dev/shm dev/pts
for name in null zero full random urandom tty; do touch dev/$name; mount --bind /dev/$name dev/$name; done
ln -s /proc/self/fd dev/fd
ln -s pts/ptmx dev/ptmx
mount -t devpts -o newinstance,ptmxmode=0666 none dev/pts
ip link set lo up
mkdir -p before
pivot_root . before
umount --lazy /before
exec env -i container=tests PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \\
    /lib/systemd/systemd --system --log-target=journal
'
"""
"""Boots systemd as the first process of namespaces of its own, in control groups of its own."""


class BootedMachine:
    """A machine with systemd, and with our program at PROGRAM, as if it had been installed there.

    Its files are those of this machine, changed in memory alone; its own units are none but those of Debian's packages.
    It has no network but loopback. What is written stays through a `reboot`. It needs root.
    """

    def __init__(self, directory: Path) -> None:
        if os.geteuid() != 0:
            raise PartFailed("a machine that boots needs root: run the tests as root")
        binary("systemctl", "systemd")
        directory.mkdir(parents=True)
        mounted = Path("/sys/fs/cgroup")
        unified = (mounted / "cgroup.controllers").exists()
        parents = [mounted] if unified else [mounted / "systemd", mounted / "unified"]
        self._groups = [parent / f"booted-{os.getpid()}-{id(self)}" for parent in parents]
        base = Path(sys.base_prefix)
        self._environment = plain_environment(
            FOLDER=str(directory),
            PROGRAM=str(PROGRAM),
            PYTHON=str(base),
            INTERPRETER=f"python{sys.version_info.major}.{sys.version_info.minor}",
            LIBRARY=str(Path(sysconfig.get_path("purelib")).parent.parent),
            SOURCE=str(ROOT),
            GROUPS=" ".join(map(str, self._groups)),
            UNIFIED="yes" if unified else "",
        )
        self._directory = directory
        self._holder = Process(
            ["unshare", "--mount", "sh", "-c", MAKE], log=directory / "made.log", environment=self._environment
        )
        self._booted: Process | None = None

    def start(self) -> None:
        """Make the machine and boot it."""
        self._holder.start(lambda: "ready" in self._holder.log_text(), within=LONGEST_RUN)
        self._boot()

    def reboot(self) -> None:
        assert self._booted is not None
        self.run("systemctl", "reboot", check=False)
        wait_until(lambda: not self._booted.running, what="the machine did not go down")  # type: ignore[union-attr]
        self._booted.stop()
        self._boot()

    def run(self, *words: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """Run a command on the machine, as root. Raises ClientFailed."""
        pid = self._first_process()
        argv = ["nsenter", f"--target={pid}", "--all", "--root", "env", "--chdir=/", "-i", *_PATH, *words]
        return run_client(argv, self._environment, self._directory, within=LONGEST_RUN, check=check)

    def copy_in(self, folder: Path, name: str) -> str:
        """Copy a folder to the machine; return its path there."""
        pid = self._first_process()
        shutil.copytree(folder, f"/proc/{pid}/root/root/{name}")
        return f"/root/{name}"

    def close(self) -> None:
        """Kill whatever runs on the machine, and leave nothing of it."""
        if self._booted is not None:
            self._booted.stop()
        self._holder.stop()
        for group in self._groups:
            for path in [*sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True), group]:
                wait_until(partial(_is_removed, path), what=f"{path} was left")
        shutil.rmtree(self._directory)

    def _boot(self) -> None:
        argv = ["nsenter", f"--target={self._holder.pid}", "--mount", "sh", "-c", BOOT]
        self._booted = Process(argv, log=self._directory / "boot.log", environment=self._environment)
        self._booted.start(self._has_booted, within=LONGEST_RUN)

    def _has_booted(self) -> bool:
        if self._first_process() is None:
            return False
        state = self.run("systemctl", "is-system-running", check=False).stdout.strip()
        return state in ("running", "degraded")

    def _first_process(self) -> int | None:
        assert self._booted is not None
        children = Path(f"/proc/{self._booted.pid}/task/{self._booted.pid}/children").read_text().split()
        return int(children[0]) if children else None


def _is_removed(group: Path) -> bool:
    """Whether a control group is gone; it cannot be removed before its last process has ended."""
    try:
        group.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


_PATH = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"]

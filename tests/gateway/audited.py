"""The server, run so that it records every path that Python code passes to the system, and every connection.

Run as `python -m tests.gateway.audited FILE serve …`; a line of FILE is the event and the path.
"""

import os
import sys
from typing import Any

WATCHED = (
    *("open", "sqlite3.connect", "socket.connect", "subprocess.Popen", "ctypes.dlopen", "glob.glob"),
    *("os.chdir", "os.chmod", "os.chown", "os.exec", "os.link", "os.listdir", "os.mkdir", "os.posix_spawn"),
    *("os.remove", "os.rename", "os.rmdir", "os.scandir", "os.symlink", "os.system", "os.truncate", "os.utime"),
)
UNAUDITED = ("stat", "lstat", "access", "readlink", "statvfs")
PATHS = {"os.link": 2, "os.rename": 2, "os.symlink": 2}


def watch(file: str) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if event in WATCHED:
            place = 1 if event == "socket.connect" else 0
            for argument in arguments[place : place + PATHS.get(event, 1)]:
                if not isinstance(argument, int):
                    text = os.fsdecode(argument) if isinstance(argument, bytes | os.PathLike) else str(argument)
                    os.write(descriptor, f"{event}\t{text!r}\n".encode())

    def noted(name: str) -> None:
        plain = getattr(os, name)

        def call(path: Any, *rest: Any, **more: Any) -> Any:
            if not isinstance(path, int):
                os.write(descriptor, f"os.{name}\t{os.fsdecode(path)!r}\n".encode())
            return plain(path, *rest, **more)

        setattr(os, name, call)

    for name in UNAUDITED:
        noted(name)
    sys.addaudithook(note)


if __name__ == "__main__":
    watch(sys.argv.pop(1))
    from gateway.cli.main import main

    main()

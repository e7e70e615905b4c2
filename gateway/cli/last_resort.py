"""Last resort: whatever ends a command, a person reads one line about it on stderr, and never a traceback."""

import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress


def guarded(command: Callable[[], object]) -> None:
    """Run a command, and write its output to the end; an error that nobody expected is exit code 1 and a line.

    A reader that takes no more output, such as `head`, is no error that anybody needs to read about.
    """
    try:
        try:
            command()
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
        sys.exit(1)
    except Exception as error:
        _discard_output()
        with suppress(OSError):
            print(f"registry-gateway: {_line(error)}", file=sys.stderr)
        sys.exit(1)


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.strerror:
        if error.filename is None:
            return f"the output cannot be written ({error.strerror}): look at where it goes, and at its disk"
        return f"{error.filename} cannot be used ({error.strerror}): look at its owner, its mode and its disk"
    [*_, last] = traceback.extract_tb(error.__traceback__) or [None]
    place = f", at {os.path.basename(last.filename)}:{last.lineno}" if last else ""
    return f"unexpected error ({type(error).__name__}: {text}{place}): please report it, with the command"


def _discard_output() -> None:
    """Let the interpreter find nothing to complain about when it writes the rest at its end."""
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)

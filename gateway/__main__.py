"""The command `registry-gateway`, which is also `python -m gateway`."""

import gc
import sys


def main() -> None:
    """Import the command line, and run it; of what only prints that command alone, which takes a tenth of the time."""
    gc.disable()  # imports make much and leave no garbage: the collector took an eighth of their time
    if sys.argv[1:2] == ["help"]:
        from gateway.cli.help import app

        app(sys.argv[2:], prog_name="registry-gateway help")
    if sys.argv[1:2] == ["example"]:
        from gateway.cli.example import app

        app(sys.argv[2:], prog_name="registry-gateway example")
    from gateway.cli.main import main as run

    gc.freeze()
    gc.enable()
    run()


if __name__ == "__main__":
    main()

"""The command `registry-gateway`, which is also `python -m gateway`."""

import gc


def main() -> None:
    """Import the command line, and run it."""
    gc.disable()  # imports make much and leave no garbage: the collector took an eighth of their time
    from gateway.cli.main import main as run

    gc.freeze()
    gc.enable()
    run()


if __name__ == "__main__":
    main()

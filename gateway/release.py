"""The version of this program, as it was installed."""

DISTRIBUTION = "registry-gateway"

UNKNOWN_VERSION = "0.0.0"
"""Version of a program that is not installed."""


def installed_version() -> str | None:
    """The installed version; None where the program runs from a folder that is not installed."""
    from importlib.metadata import PackageNotFoundError, version  # takes a fifth of the time of a page of help

    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return None

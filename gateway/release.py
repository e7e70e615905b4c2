"""The version of this program, as it was installed."""

from importlib.metadata import PackageNotFoundError, version

DISTRIBUTION = "registry-gateway"


def installed_version() -> str | None:
    """The installed version; None where the program runs from a folder that is not installed."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return None

"""The settings file that a command reads: the one it is given, that of the running server, or the usual one.

A command that reads other settings than the server on the same data folder would act on another registry, so the file
of a running server comes before what the environment of the person says who types the command.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from gateway.data_folder import announced_server
from gateway.settings.keys import CONFIG_VARIABLE
from gateway.settings.load import load

USUAL_FILE = Path("/etc/registry-gateway/config.toml")


def file_of_server(given: Path | None, environ: Mapping[str, str]) -> Path | None:
    """The file that `serve` reads: the one it is given, the one that GATEWAY_CONFIG names, or the usual one, if any."""
    if given is not None:
        return given
    named = environ.get(CONFIG_VARIABLE)
    if named:
        return Path(named)
    return USUAL_FILE if USUAL_FILE.is_file() else None


def file_of_command(
    given: Path | None,
    data: str | None,
    environ: Mapping[str, str],
    before_entering: Callable[[Path], None] = lambda _: None,
) -> tuple[Path | None, str | None]:
    """The file that a command beside a server reads, and the data folder that is given with it.

    It is the same as for `serve`, but a server that uses the data folder decides; its file may name the folder as it is
    seen from where that was started, so the folder goes with it. `data`: where it is given. `before_entering` is called
    with the folder before anything in it is read. Raises SettingsError.
    """
    usual = file_of_server(given, environ)
    if given is not None:
        return given, data
    folder = load(usual, environ, {"data": data}).settings.data
    before_entering(folder)
    server = announced_server(folder)
    if server is None or server.config is None or not server.is_alive:
        return usual, data
    return (Path(server.config) if server.config else None), str(folder)

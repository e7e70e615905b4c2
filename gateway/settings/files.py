"""Files that settings name and that cannot be read: what needs them fails, though the settings are valid."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from errno import EACCES
from pathlib import Path

from gateway.fixed_headers import FROM_FILE
from gateway.settings.tables import Settings


@dataclass(frozen=True, slots=True)
class UnusableFile:
    """A file that a setting names, and why it cannot be read. `is_missing`: there is none, whoever looks for it."""

    setting: str
    path: Path
    reason: str
    is_missing: bool


def unusable_files(settings: Settings) -> list[UnusableFile]:
    """Find the files that cannot be read by this user.

    That of the first administrator's password is left out: it may be gone after the first start.
    """
    return [found for setting, path in _named_files(settings) if (found := _examine(setting, path)) is not None]


def _named_files(settings: Settings) -> Iterator[tuple[str, Path]]:
    own = {
        "tls_cert": settings.tls_cert,
        "tls_key": settings.tls_key,
        "metrics_token_file": settings.metrics_token_file,
        "database.password_file": settings.database.password_file,
        "webhooks.ca_file": settings.webhooks.ca_file,
    }
    yield from ((name, path) for name, path in own.items() if path is not None)
    for upstream, table in settings.upstreams.items():
        files = {
            "password_file": table.password_file,
            "ca_file": table.ca_file,
            "client_cert": table.client_cert,
            "client_key": table.client_key,
        }
        for header, value in table.headers.items():
            if value.startswith(FROM_FILE):
                files[f"headers.{header}"] = Path(value.removeprefix(FROM_FILE))
        yield from ((f'upstreams."{upstream}".{name}', path) for name, path in files.items() if path is not None)
    for issuer, settings_of in settings.oidc.items():
        own_files = {"ca_file": settings_of.ca_file, "client_secret_file": settings_of.client_secret_file}
        yield from ((f"oidc.{issuer}.{name}", path) for name, path in own_files.items() if path is not None)


def _examine(setting: str, path: Path) -> UnusableFile | None:
    try:
        if path.is_dir():
            return UnusableFile(setting, path, "it is a folder", is_missing=True)
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return UnusableFile(setting, path, "there is no such file", is_missing=True)
    except OSError as error:
        return UnusableFile(setting, path, f"it cannot be read ({error.strerror})", is_missing=False)
    if not os.access(path, os.R_OK):
        return UnusableFile(setting, path, f"it cannot be read ({os.strerror(EACCES)})", is_missing=False)
    return None

"""Static files: scripts, styles and pictures of the pages, at addresses that change with their content."""

from hashlib import sha256
from pathlib import Path

from starlette.responses import Response

from gateway.http.sandbox import SANDBOX_HEADERS
from gateway.web.errors import PageUnknown
from gateway.web.headers import STATIC

FOLDER = Path(__file__).parent / "static"
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_HASH_LENGTH = 16
_FOR_A_YEAR = "public, max-age=31536000, immutable"


class StaticFiles:
    """The files beside this module, read once."""

    def __init__(self, folder: Path = FOLDER) -> None:
        files = sorted(path for path in folder.iterdir() if path.suffix in _TYPES)
        self._files: dict[str, tuple[str, bytes]] = {}
        self._urls: dict[str, str] = {}
        for path in files:
            content = path.read_bytes()
            name = f"{path.stem}-{sha256(content).hexdigest()[:_HASH_LENGTH]}{path.suffix}"
            self._files[name] = _TYPES[path.suffix], content
            self._urls[path.name] = STATIC + name

    def url(self, name: str) -> str:
        """The address of a file by its name here."""
        return self._urls[name]

    def respond(self, path: str) -> Response:
        """The response to a request for a path below STATIC. Raises PageUnknown."""
        found = self._files.get(path.removeprefix(STATIC))
        if found is None:
            raise PageUnknown
        media_type, content = found
        return Response(content, media_type=media_type, headers={"Cache-Control": _FOR_A_YEAR, **SANDBOX_HEADERS})

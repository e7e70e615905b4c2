"""Address of the registry, as the variables of CI jobs name it."""

from urllib.parse import urlsplit

from gateway.cli.refusals import Refused
from gateway.data_folder import announced_server
from gateway.processes.urls import configured_urls
from gateway.settings.tables import Settings


def registry_url(settings: Settings) -> str:
    """The URL by which jobs reach the registry. Raises Refused if its port is not known yet."""
    if configured := settings.registry_url or settings.external_url:
        return configured
    server = announced_server(settings.data)
    url = server.urls[0] if server and server.is_alive else configured_urls(settings)[0]
    if urlsplit(url).port == 0:
        raise Refused("the settings let the server take any free port: start it first, or set the port")
    return url

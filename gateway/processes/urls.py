"""URLs of a server by its settings, whether it runs or not."""

from gateway.settings.tables import Settings


def configured_urls(settings: Settings) -> list[str]:
    """List the URLs of a server by its settings alone, while it does not run."""
    main = settings.external_url or url_of(settings, settings.host, settings.port)
    return [main, *(one.external_url or url_of(settings, one.host, one.port) for one in settings.listener)]


def url_of(settings: Settings, host: str, port: int) -> str:
    """Make the URL of an address."""
    scheme = "https" if settings.tls_cert else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

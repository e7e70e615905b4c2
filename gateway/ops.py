"""/-/…: for those who run the server."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from gateway.metrics import METRICS_TYPE
from gateway.services import Services


def routes(services: Services) -> list[BaseRoute]:
    async def health(request: Request) -> Response:
        """The process is alive and its loop turns."""
        return JSONResponse({"status": "ok"})

    async def ready(request: Request) -> Response:
        """It may take traffic: its database answers. An upstream that is down does not count, the cache serves on."""
        await services.namespaces.refresh_if_changed()
        return JSONResponse({"status": "ready"})

    async def metrics(request: Request) -> Response:
        """What has been counted, as Prometheus reads it; no names of images or users are in it."""
        return Response(services.metrics.exposition(), media_type=METRICS_TYPE)

    return [Route("/-/health", health), Route("/-/ready", ready), Route("/-/metrics", metrics)]

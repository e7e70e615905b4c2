"""Sandbox: headers by which a browser shows nothing of a response that is no page, and runs nothing of it; pure ASGI.

What clients push is theirs: shown by a browser under this host, it would act as whoever is signed in.
"""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

SANDBOX_HEADERS = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'; sandbox"}

_NOSNIFF, _POLICY = ((name.lower().encode(), value.encode()) for name, value in SANDBOX_HEADERS.items())


class Sandbox:
    """Middleware that gives every response these headers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = message["headers"]
                added = [_POLICY] if _NOSNIFF in headers else [_POLICY, _NOSNIFF]
                message["headers"] = [*headers, *added]
            await send(message)

        await self._app(scope, receive, sending)

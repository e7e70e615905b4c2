"""ASGI apps on real ports, for as long as a test needs them."""

import asyncio
import threading
from typing import Any

from hypercorn.asyncio import serve
from hypercorn.config import Config
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .certs import Authority
from .ports import HOST, free_port, listen
from .processes import PartFailed
from .records import RequestLog

LONGEST_STOP = 60


class Recorded:
    """ASGI middleware that records every request in a log, together with its response."""

    def __init__(self, app: ASGIApp, server: str, log: RequestLog) -> None:
        self._app, self._server, self._log = app, server, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = [(key.decode("latin-1"), value.decode("latin-1")) for key, value in scope["headers"]]
        path = scope.get("raw_path", scope["path"].encode()).decode("latin-1").partition("?")[0]
        record = self._log.add(self._server, scope["method"], path, scope["query_string"].decode("latin-1"), headers)
        scope.setdefault("state", {})["record"] = record

        async def recording_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
            await send(message)
            record.sent += len(message.get("body", b""))

        await self._app(scope, receive, recording_send)


class HastyLoop(asyncio.SelectorEventLoop):
    """Event loop that does not wait 30 s for a TLS client's close_notify; Hypercorn has no setting for that."""

    async def create_server(self, *args: Any, **options: Any) -> asyncio.Server:
        if options.get("ssl") is not None:
            options["ssl_shutdown_timeout"] = 0.3
        return await super().create_server(*args, **options)


class AsgiServer:
    """Hypercorn in a thread with an event loop of its own. It keeps its port over `stop` and `start`."""

    def __init__(self, app: ASGIApp, *, authority: Authority | None = None) -> None:
        self._app = app
        self._authority = authority
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending: asyncio.Event | None = None
        self._failure: BaseException | None = None
        self.port = free_port()

    @property
    def origin(self) -> str:
        return f"{'https' if self._authority else 'http'}://{self.netloc}"

    @property
    def netloc(self) -> str:
        return f"{HOST}:{self.port}"

    def start(self) -> None:
        """Returns when connections are accepted; does nothing if it runs already."""
        if self._thread is not None:
            return
        listener = listen(self.port)
        self._failure = None
        begun = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(listener.detach(), begun), name=f"asgi-{self.port}", daemon=True
        )
        self._thread.start()
        begun.wait()

    def stop(self) -> None:
        """Closes open connections and refuses new ones. Raises the error with which the server failed, if any."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        if self._loop is not None and self._ending is not None and thread.is_alive():
            self._loop.call_soon_threadsafe(self._ending.set)
        thread.join(LONGEST_STOP)
        if thread.is_alive():
            raise PartFailed(f"the server on port {self.port} did not stop within {LONGEST_STOP} s")
        if self._failure is not None:
            raise PartFailed(f"the server on port {self.port} failed") from self._failure

    def _run(self, descriptor: int, begun: threading.Event) -> None:
        try:
            with asyncio.Runner(loop_factory=HastyLoop) as runner:
                runner.run(self._serve(descriptor, begun))
        except BaseException as failure:
            self._failure = failure
        finally:
            begun.set()

    async def _serve(self, descriptor: int, begun: threading.Event) -> None:
        self._loop, self._ending = asyncio.get_running_loop(), asyncio.Event()
        config = Config()
        config.bind = [f"fd://{descriptor}"]
        config.loglevel = "WARNING"
        config.alpn_protocols = ["http/1.1"]
        config.graceful_timeout = 0.5
        config.keep_alive_timeout = 60
        config.include_server_header = False
        if self._authority is not None:
            config.certfile = str(self._authority.cert_file)
            config.keyfile = str(self._authority.key_file)
        begun.set()
        app: Any = self._app
        await serve(app, config, shutdown_trigger=self._ending.wait, mode="asgi")

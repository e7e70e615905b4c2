"""RequestTasks: the tasks in which a connection calls its app, each with a queue of its own."""

from collections.abc import Awaitable, Callable
from typing import Any

from hypercorn.asyncio.task_group import TaskGroup
from starlette.types import ASGIApp, Message, Scope

from gateway.server.large_body import BodyConnection, LargeBody, large_body
from gateway.server.request_messages import RequestMessages


class RequestTasks(TaskGroup):
    """Hypercorn's tasks of one connection, in which no message waits for an app that has ended.

    Hypercorn's queue waits until somebody reads it: a client that sends more of a body than its app reads would leave
    the connection, its descriptor and its tasks behind for ever.
    """

    bodies: BodyConnection | None = None
    """The connection, where large bodies can be read past Hypercorn's events."""

    async def spawn_app(self, app: ASGIApp, config: object, scope: Scope, send: Any) -> Any:  # type: ignore[override]
        """Call the app in a task of its own, and return the function that takes the messages for it."""
        messages = RequestMessages()
        body = large_body(scope, messages, self.bodies) if self.bodies is not None else None
        self._task_group.create_task(_run(app, scope, messages, body, send))
        return messages.put


async def _run(
    app: ASGIApp,
    scope: Scope,
    messages: RequestMessages,
    body: LargeBody | None,
    send: Callable[[Message | None], Awaitable[None]],
) -> None:
    try:
        await app(scope, messages.receive if body is None else body.receive, send)
    except OSError:
        pass  # the client has disconnected
    finally:
        messages.close()
        if body is not None:
            body.close()
        await send(None)

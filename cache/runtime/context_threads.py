"""Threads that work on behalf of a request: they have the context variables of whoever makes them."""

import threading
from collections.abc import Callable
from contextvars import copy_context


def context_thread(work: Callable[[], object], name: str) -> threading.Thread:
    """Make a thread, which is not started. It keeps no process from ending."""
    return threading.Thread(target=copy_context().run, args=(work,), name=name, daemon=True)

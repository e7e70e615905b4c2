"""What tests of a server's processes see of them from outside."""

import re

from tests.parts import lies, raw
from tests.parts.gateway import Gateway
from tests.parts.images import seeded
from tests.parts.liar import Liar

LARGE = 4 * 1024 * 1024


def metric(server: Gateway, name: str, labels: str = "") -> float:
    """Read a metric that the server exposes; 0 where it exposes none of this name."""
    text = raw.get(f"{server.url}/-/metrics").body.decode()
    found = re.search(rf"^{name}{re.escape(labels)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def begin_stalled(server: Gateway, upstream: Liar, seed: str = "large") -> tuple[bytes, raw.RawStream, lies.Lie]:
    """Begin a pull of content that its upstream sends in part; it sends the rest once the lie's hold is released."""
    content = seeded(seed, LARGE)
    digest = upstream.offer_blob(content)
    lie = upstream.behave(digest, lies.stalled(LARGE // 2))
    stream = raw.open_stream("GET", server.proxied_url(f"library/large/blobs/{digest}"))
    assert lie.hold is not None
    assert lie.hold.reached.wait(30)
    return content, stream, lie

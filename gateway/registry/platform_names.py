"""Names of platforms, as clients write them: `linux/arm64/v8`."""

from collections.abc import Mapping
from typing import Any

_PARTS = ("os", "architecture", "variant")
_LONGEST = 60


def platform_name(platform: Mapping[str, Any] | None) -> str:
    """The name of a platform of an index (image-spec, image-index.md); empty for none, and for what is none, such as
    the attestations that builders list beside images."""
    if platform is None:
        return ""
    parts = [platform.get(name) for name in _PARTS]
    texts = [part for part in parts if isinstance(part, str) and part]
    return "" if "unknown" in texts else "/".join(texts)[:_LONGEST]

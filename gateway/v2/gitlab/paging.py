"""Links between the pages of lists of GitLab's registry, in both directions."""

from collections.abc import Mapping, Sequence
from urllib.parse import urlencode

from starlette.requests import Request

from gateway.db.tag_lists import TagOrder, TagPlace, TagSelection
from gateway.db.tags import StoredTag
from gateway.v2.gitlab.parameters import marker_of


def page_ends(rows: Sequence[StoredTag], wanted: TagSelection, *, more: bool) -> dict[str, dict[str, str]]:
    """The parameters of the pages before and after some tags, by their relation."""
    if not rows:
        return {}
    ends: dict[str, dict[str, str]] = {}
    if wanted.backwards or more:
        ends["next"] = {"last": _marker(rows[-1], wanted.order)}
    if (wanted.backwards and more) or (not wanted.backwards and wanted.marker is not None):
        ends["previous"] = {"before": _marker(rows[0], wanted.order)}
    return ends


def _marker(row: StoredTag, order: TagOrder) -> str:
    return marker_of(TagPlace(row.tag.text, row.moved_at), order)


def links(request: Request, url: str, ends: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """The header with links to other pages; none where there are no others."""
    kept = [(name, value) for name, value in request.query_params.multi_items() if name not in ("last", "before")]
    path = request.scope["path"]
    found = [
        f'<{url}{path}?{urlencode([*kept, *parameters.items()])}>; rel="{relation}"'
        for relation, parameters in ends.items()
    ]
    return {"Link": ", ".join(found)} if found else {}

"""Trial: the commands that `serve` prints at its start, with which a person sees an image come through this server."""

from collections.abc import Sequence

from gateway.known_registries import DOCKER_HUB, DOCKER_HUB_SAMPLE
from gateway.namespaces.group import Group
from gateway.namespaces.paths import proxied_name
from gateway.upstreams import Upstream

GROUPS_READ = 100
"""Groups with anonymous pull among which one for the trial is searched."""


def trial_lines(url: str, groups: Sequence[Group], docker_hub: Upstream, *, open_proxy: bool) -> list[str]:
    """Write commands that pull an image which exists through a group that serves it to everybody; where no such pull
    would work, what lets it.

    `groups`: those with anonymous pull, the first of which are preferred. `open_proxy`: whether this server serves
    them.
    """
    if not docker_hub.permits(DOCKER_HUB_SAMPLE):
        return []
    group = next((group for group in groups if group.lets_through(DOCKER_HUB, DOCKER_HUB_SAMPLE)), None)
    if group is None:
        return [
            "no group lets everybody pull yet: `registry-gateway group create PATH --visibility public "
            "--anonymous-pull` makes one, and `registry-gateway access explain pull PATH` says who may pull"
        ]
    if not open_proxy:
        return [
            f"group {group.path} lets everybody pull, but not beyond this machine: set allow_open_proxy = true, or let "
            f"users log in: `registry-gateway group update {group.path} --no-anonymous-pull`"
        ]
    upstream = "" if group.default_upstream == DOCKER_HUB else f"{DOCKER_HUB}/"
    image = f"{url.partition('://')[2]}/{proxied_name(group.path, f'{upstream}alpine')}:latest"
    plain = " --tls-verify=false" if url.startswith("http://") else ""
    return [f"try:  docker pull {image}", f"or:   skopeo inspect{plain} docker://{image}"]

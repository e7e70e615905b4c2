"""The requester on whose behalf a principal's work is done: whoever takes turns with others."""

from cache.runtime.fair_queue import Requester
from gateway.auth.principal import Principal
from gateway.client_name import client_name, site_name
from gateway.namespaces.credentials import DeployToken, JobDeployToken


def requester_of(principal: Principal, address: str = "") -> Requester:
    """Name whoever takes turns: a person with all tokens and jobs, the project or group of a deploy token, or the site
    of an anonymous client's address."""
    person = principal.user or principal.starter
    if person is not None:
        return Requester(person.id, principal.ref)
    match principal.credential:
        case DeployToken(node=node) | JobDeployToken(token=DeployToken(node=node)):
            return Requester(node, principal.ref)
    return Requester(principal.name or site_name(address), client_name(address))

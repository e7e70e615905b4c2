"""Checks of the issuers of ID tokens: whether each says what it should, and has keys that verify something."""

from collections.abc import Mapping

from gateway.doctor.check import Check, failed, passed, warned
from gateway.oidc.errors import IssuerUnusable
from gateway.oidc.issuer import IssuerClient


async def examine_issuers(clients: Mapping[str, IssuerClient], without_rules: frozenset[str]) -> list[Check]:
    """Ask each issuer for its configuration and its keys. `without_rules`: those none of whose tokens logs in."""
    return [await _examine(name, client, name in without_rules) for name, client in clients.items()]


async def _examine(name: str, client: IssuerClient, without_rules: bool) -> Check:
    check = f"issuer {name}"
    try:
        keys = await client.keys()
    except IssuerUnusable as error:
        remedy = "correct issuer, ca_file, proxy, hosts or private_addresses of it, or let this machine reach it"
        return failed(check, f"{client.url}: {error}", remedy)
    finally:
        await client.close()
    found = f"{client.url} has {len(keys)} key{'' if len(keys) == 1 else 's'}"
    if without_rules:
        return warned(check, f"{found}, and no rule: none of its tokens logs in", f"add a table [[oidc.{name}.rule]]")
    return passed(check, found)

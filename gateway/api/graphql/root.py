"""Roots: what documents begin with, queries and mutations, resolved by the names of their fields."""

from collections.abc import Awaitable, Callable
from typing import Any

from graphql import GraphQLError

from gateway.api.errors import ApiError, ValuesRefused
from gateway.api.graphql.groups import GraphqlCall, GroupNode, find_group, policy_node, setting_node
from gateway.api.proxy_settings import SECRET_LIMIT, change_settings
from gateway.api.tree_refusals import tree_refusals
from gateway.audit.changes import AuditedChanges
from gateway.auth.matrix import Action
from gateway.maintenance.proxy_settings import ProxyChange, ProxySettings
from gateway.namespaces.group import Group

NOT_THERE = (
    "The resource that you are attempting to access does not exist or you don't have permission to perform this action"
)
"""The text by which GitLab's clients know this refusal."""

IDENTITY_LIMIT = 255


class QueryRoot:
    """Resolves queries."""

    def __init__(self, context: GraphqlCall) -> None:
        self._context = context

    async def group(self, info: Any, fullPath: str) -> GroupNode | None:
        found = await find_group(self._context, fullPath, Action.KNOW)
        return None if found is None else GroupNode(self._context, found)

    def currentUser(self, info: Any) -> dict[str, object] | None:
        user = self._context.call.principal.user
        return None if user is None else {"id": f"gid://gitlab/User/{user.id}", "username": user.name}


class MutationRoot:
    """Resolves mutations, which are done one after the other."""

    def __init__(self, context: GraphqlCall) -> None:
        self._context = context
        self._settings = ProxySettings.of(context.services)
        self._audited = AuditedChanges(context.services.audit)

    async def updateDependencyProxySettings(self, info: Any, input: dict[str, Any]) -> dict[str, object]:
        async def update(group: Group) -> dict[str, object]:
            changed = await change_settings(self._settings, group, _change(input))
            self._audited.proxy_changed(self._context.call, group, changed)
            return setting_node(changed)

        return await self._changed(input, "dependencyProxySetting", update)

    async def updateDependencyProxyImageTtlGroupPolicy(self, info: Any, input: dict[str, Any]) -> dict[str, object]:
        async def update(group: Group) -> dict[str, object]:
            with tree_refusals():
                before, after = await self._settings.update_policy(group, input.get("enabled"), input.get("ttl"))
            self._audited.policy_changed(self._context.call, group, before, after)
            return policy_node(after)

        return await self._changed(input, "dependencyProxyImageTtlPolicy", update)

    async def _changed(
        self, input: dict[str, Any], name: str, update: Callable[[Group], Awaitable[dict[str, object]]]
    ) -> dict[str, object]:
        """Change a group that the caller owns. What is wrong with the values stands in the answer, by its name."""
        group = await find_group(self._context, input["groupPath"], Action.OWN)
        if group is None:
            raise GraphQLError(NOT_THERE)
        answer: dict[str, object] = {"clientMutationId": input.get("clientMutationId"), name: None, "errors": []}
        try:
            return answer | {name: await update(group)}
        except ValuesRefused as error:
            return answer | {"errors": [error.message]}
        except ApiError as error:
            raise GraphQLError(error.message) from error


def _change(input: dict[str, Any]) -> ProxyChange:
    """What is wanted of a group. Raises ValuesRefused."""
    identity, secret = input.get("identity"), input.get("secret")
    for name, value, limit in (("identity", identity, IDENTITY_LIMIT), ("secret", secret, SECRET_LIMIT)):
        if value is not None and (len(value) > limit or (value and not value.isprintable())):
            raise ValuesRefused({name: [f"is not a text of at most {limit} characters"]})
    return ProxyChange(enabled=input.get("enabled"), identity=identity, secret=secret)

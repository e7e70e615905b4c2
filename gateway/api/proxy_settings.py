"""Settings of the dependency proxy of a group, and the policy by which its images expire."""

from typing import Annotated, Any, Self

from pydantic import Field, model_validator
from starlette.responses import Response

from cache.policy.gate import OPEN, CooldownAction
from gateway.api.documents import moment
from gateway.api.errors import KeysUnusable
from gateway.api.options import ApiOptions
from gateway.api.places import Places
from gateway.api.responses import one
from gateway.api.routing import Call, Route
from gateway.api.shapes import Blank, NoParameters, Shape, Text, refused
from gateway.api.tree_refusals import tree_refusals
from gateway.audit.changes import AuditedChanges
from gateway.auth.matrix import Action
from gateway.http.access_log import note_lookup
from gateway.keys.sealing import SealBroken
from gateway.maintenance.proxy_settings import ProxyChange, ProxySettings
from gateway.namespaces.gate_document import gate_to_document
from gateway.namespaces.group import Group
from gateway.namespaces.image_ttl import ImageTtlPolicy
from gateway.namespaces.paths import proxied_name
from gateway.services import Services

SECRET_LIMIT = 8192
"""Characters of a secret: tokens of some registries have thousands."""

GLOBS_LIMIT = 500

_PROXY = "/groups/{id}/dependency_proxy"
_POLICY = f"{_PROXY}/image_ttl_policy"

Globs = Annotated[
    list[Annotated[str, Field(max_length=255)]] | None,
    Field(max_length=GLOBS_LIMIT, description="Globs on names of images, as in `library/*`; an empty list for none."),
    Blank,
]


class ProxyShape(Shape):
    """Properties of a dependency proxy that may be changed; those that are not given stay."""

    enabled: Annotated[bool | None, Field(description="Whether images are pulled through the group."), Blank] = None
    identity: Annotated[
        Text | None, Field(max_length=255, description="The user name at the default upstream; empty: no login.")
    ] = None
    secret: Annotated[
        Text | None, Field(max_length=SECRET_LIMIT, description="Its password or token, which no response holds.")
    ] = None
    default_upstream: Annotated[
        Text | None, Field(max_length=255, description="The upstream of names without one."), Blank
    ] = None
    fresh_only: Annotated[
        bool | None, Field(description="Whether what the upstream cannot confirm is refused, not served stale."), Blank
    ] = None
    allow: Globs = None
    deny: Globs = None
    cooldown: Annotated[
        Text | None,
        Field(max_length=20, description="How long a tag must have pointed to its content: `7d`; `0s` for no wait."),
        Blank,
    ] = None
    cooldown_action: Annotated[
        CooldownAction | None, Field(description="How a younger tag is served: by `older` content, or `refuse`."), Blank
    ] = None
    trusts_created: Annotated[
        bool | None, Field(description="Whether the date of the publisher counts as the age of content."), Blank
    ] = None

    @model_validator(mode="after")
    def _something_is_given(self) -> Self:
        if not self.model_fields_set:
            names = ", ".join(type(self).model_fields)
            raise refused(f"{names} are missing, at least one parameter must be provided")
        return self

    def change(self) -> ProxyChange:
        """What is wanted."""
        return ProxyChange(**{name: getattr(self, name) for name in type(self).model_fields})


class ImageTtlShape(Shape):
    """Properties of a policy that may be changed; those that are not given stay."""

    enabled: Annotated[bool | None, Field(description="Whether images are purged by it."), Blank] = None
    ttl: Annotated[
        int | None, Field(description="Days without a pull after which an image is purged: 1 to 400."), Blank
    ] = None

    @model_validator(mode="after")
    def _something_is_given(self) -> Self:
        if self.enabled is None and self.ttl is None:
            raise refused("enabled, ttl are missing, at least one parameter must be provided")
        return self


class ProxySettingsRoutes:
    """Handlers of the settings of dependency proxies."""

    def __init__(self, services: Services, places: Places, options: ApiOptions) -> None:
        self._services = services
        self._places = places
        self._options = options
        self._audited = AuditedChanges(services.audit)

    @property
    def routes(self) -> list[Route[Any]]:
        return [
            Route("GET", _PROXY, self.show, NoParameters, "settings", answer="DependencyProxy"),
            Route("PUT", _PROXY, self.update, ProxyShape, "settings", answer="DependencyProxy"),
            Route("GET", _POLICY, self.show_policy, NoParameters, "policy", answer="ImageTtlPolicy"),
            Route("PUT", _POLICY, self.update_policy, ImageTtlShape, "policy", answer="ImageTtlPolicy"),
        ]

    async def show(self, call: Call[NoParameters]) -> Response:
        """Show the settings of the dependency proxy of a group; its secret is never shown."""
        return one(await self._document(await self._find(call)))

    async def update(self, call: Call[ProxyShape]) -> Response:
        """Change the settings of the dependency proxy of a group, which count from the next request on."""
        group = await self._find(call)
        changed = await change_settings(self._settings, group, call.parameters.change())
        self._audited.proxy_changed(call, group, changed)
        return one(await self._document(changed))

    async def show_policy(self, call: Call[NoParameters]) -> Response:
        """Show after how many days without a pull an image is purged from the cache of a group."""
        return one(policy_document(await self._settings.find_policy(await self._find(call))))

    async def update_policy(self, call: Call[ImageTtlShape]) -> Response:
        """Change after how many days without a pull an image is purged from the cache of a group."""
        group, wanted = await self._find(call), call.parameters
        with tree_refusals():
            before, after = await self._settings.update_policy(group, wanted.enabled, wanted.ttl)
        self._audited.policy_changed(call, group, before, after)
        return one(policy_document(after))

    async def _find(self, call: "Call[Any]") -> Group:
        place = await self._places.group_for(call.path["id"], call.principal, Action.OWN)
        note_lookup(call.request.scope, "settings", place.group.path, "")
        return place.group

    @property
    def _settings(self) -> ProxySettings:
        return ProxySettings.of(self._services)

    async def _document(self, group: Group) -> dict[str, object]:
        policy = await self._settings.find_policy(group)
        return {
            "enabled": group.proxy_enabled,
            "identity": group.upstream_username,
            "default_upstream": group.default_upstream,
            "anonymous_pull": group.anonymous_pull,
            "fresh_only": group.fresh_only,
            "gate": gate_to_document(group.gate or OPEN),
            "image_prefix": image_prefix(group, self._options),
            "image_ttl_policy": policy_document(policy),
        }


async def change_settings(settings: ProxySettings, group: Group, wanted: ProxyChange) -> Group:
    """Change the settings of a group. Raises ApiError."""
    try:
        with tree_refusals():
            return await settings.update(group, wanted)
    except SealBroken as error:
        raise KeysUnusable(str(error)) from error


def image_prefix(group: Group, options: ApiOptions) -> str:
    """What stands before the names of images that are pulled through a group."""
    return f"{options.registry}/{proxied_name(group.path, '').removesuffix('/')}"


def policy_document(policy: ImageTtlPolicy) -> dict[str, object]:
    return {
        "enabled": policy.enabled,
        "ttl": policy.ttl,
        "created_at": moment(policy.created_at),
        "updated_at": moment(policy.updated_at),
        "completed_at": None if policy.completed_at is None else moment(policy.completed_at),
    }

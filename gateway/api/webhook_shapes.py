"""Shapes of requests for webhooks."""

from typing import Annotated, Literal

from pydantic import Field

from gateway.api.shapes import Blank, IdListShape, Shape, Text
from gateway.notifications.administration import WebhookChanges
from gateway.webhooks.event import Trigger
from gateway.webhooks.webhook import URL_LIMIT

SECRET_LIMIT = 255

Switch = Annotated[bool | None, Blank]
Secret = Annotated[Text | None, Field(max_length=SECRET_LIMIT, repr=False)]


class WebhookShape(Shape):
    """Properties of a webhook; those that are not given stay."""

    url: Annotated[Text | None, Field(max_length=URL_LIMIT, description="Where events are sent, by POST."), Blank] = (
        None
    )
    name: Annotated[Text | None, Field(max_length=255, description="A name for people.")] = None
    description: Annotated[Text | None, Field(max_length=2048, description="What it is for.")] = None
    token: Annotated[Secret, Field(description="Sent as X-Gitlab-Token; never shown. Empty: none.")] = None
    signing_token: Annotated[
        Secret, Field(description="`whsec_` and base64: the key that signs; never shown. Empty: none.")
    ] = None
    enable_ssl_verification: Annotated[
        Switch, Field(description="Whether the host must show a trusted certificate.")
    ] = None
    registry_push_events: Annotated[Switch, Field(description="Whether it is told of pushes.")] = None
    registry_delete_events: Annotated[Switch, Field(description="Whether it is told of deletions.")] = None
    registry_pull_events: Annotated[Switch, Field(description="Whether it is told of pulls.")] = None

    @property
    def given_switches(self) -> dict[Trigger, bool]:
        """The switches that are given."""
        found = {trigger: getattr(self, trigger.value, None) for trigger in Trigger}
        return {trigger: value for trigger, value in found.items() if value is not None}

    def changes(self, before: frozenset[Trigger]) -> WebhookChanges:
        """What is wanted. `before`: the events that it is told of."""
        switches = self.given_switches
        triggers = frozenset(trigger for trigger in Trigger if switches.get(trigger, trigger in before))
        return WebhookChanges(
            url=self.url,
            name=self.name,
            description=self.description,
            verify_tls=self.enable_ssl_verification,
            triggers=triggers,
            token=self.token,
            signing_token=self.signing_token,
        )


class ServerWebhookShape(WebhookShape):
    """Properties of a webhook of the server."""

    registry_cache_fill_events: Annotated[
        Switch, Field(description="Whether it is told of what is fetched into the cache.")
    ] = None


class WebhookEventListShape(IdListShape):
    """Parameters of the list of what a webhook was sent, the latest first."""

    sort: Annotated[Literal["asc", "desc"], Field(description="The direction of the order of ids.")] = "desc"

"""The tables of the settings: what stands in one upstream, in the cache, in a listener or a virtual host."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from gateway import docker_hub
from gateway.settings.kinds import (
    BindHost,
    Duration,
    ExternalUrl,
    Glob,
    Globs,
    GroupPath,
    Groups,
    HostName,
    Hosts,
    Kind,
    KnownUpstream,
    OptionalPath,
    Origin,
    Port,
    ProxyUrl,
    Rate,
    SizeOrShare,
    Switch,
    TagGlob,
    Text,
    UpstreamName,
    Urls,
    wildcard_has_a_name,
)
from gateway.settings.units import Size


class Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class TagRuleSettings(Table):
    """How long tags that match are fresh. What is not said is as in `cache`."""

    tags: TagGlob
    ttl: Duration | None = None
    images: Glob = "*"
    upstream: UpstreamName | None = None
    fresh_only: Switch = False


Rules = Annotated[
    tuple[TagRuleSettings, ...],
    Kind(
        'tables like [[cache.rules]] tags = "v*", ttl = "1d", with tags and any of ttl, images, upstream, fresh_only',
        json.loads,
    ),
]


class UpstreamSettings(Table):
    """One registry behind the gateway; an empty text or None means not set."""

    url: Origin = Field(description="Where the upstream answers.")
    token_hosts: Hosts = Field(default=(), description="Where its token service may be, beside its own host.")
    private_addresses: Switch = Field(default=False, description="Whether it may lie on loopback or a private network.")
    username: Text = Field(default="", description="The user name of the credential for this upstream.")
    password_file: OptionalPath = Field(default=None, description="The file with the password of the credential.")
    groups: Groups = Field(default=(), description="Groups that use the credential; empty: all that ask for a login.")
    ca_file: OptionalPath = Field(default=None, description="PEM certificates of the authorities that vouch for it.")
    proxy: ProxyUrl = Field(default="", description="The outbound HTTP proxy on the way to it.", repr=False)
    allow: Globs = Field(default=("*",), description="Globs on the names of images that may be pulled, without tag.")
    deny: Globs = Field(default=(), description="Globs on the names of images that may not be pulled; deny wins.")
    mirrors: Urls = Field(default=(), description="Other registries that may serve the same content to anybody.")

    @field_validator("password_file")
    @classmethod
    def _credential_is_whole(cls, password_file: Path | None, info: ValidationInfo) -> Path | None:
        if "username" in info.data and bool(info.data["username"]) != bool(password_file):
            raise PydanticCustomError("rule", "username and password_file go together: set both or neither")
        return password_file


class CacheSettings(Table):
    """How long what was pulled is good for, and how much of it is kept."""

    ttl: Duration = Field(default=timedelta(seconds=60), description="How long a tag is fresh after it was checked.")
    grace: Duration = Field(default=timedelta(days=30), description="How long a tag may be served stale in an outage.")
    negative_ttl: Duration = Field(
        default=timedelta(seconds=10), description="How long an upstream is believed that it has no such manifest."
    )
    prefetch: Switch = Field(default=True, description="Fetch config and layers as soon as a manifest was fetched.")
    rules: Rules = Field(default=(), description="Other times for tags that match; the first that matches counts.")
    max_size: SizeOrShare = Field(
        default=Size(80, percent=True), description="How much is kept at most; a share is that of the file system."
    )
    reserve: SizeOrShare = Field(
        default=Size(5, percent=True), description="How much of the file system is left free, whatever fills it."
    )
    max_unused: Duration = Field(
        default=timedelta(0), description="What nobody has pulled for so long is dropped; 0s keeps it."
    )
    scrub_rate: Rate = Field(
        default=Size(4 << 20), description="Bytes a second that are read to find damage in what is kept; 0 never looks."
    )


class ListenerSettings(Table):
    """A further address to listen on, whose every name is an image of one upstream, pulled through one group."""

    host: BindHost = Field(default="127.0.0.1", description="The address to listen on.")
    port: Port = Field(description="The port to listen on; 0 takes any free one.")
    group: GroupPath = Field(default="hub", description="The group that every name there is pulled through.")
    upstream: KnownUpstream = Field(
        default=docker_hub.NAME, description="The upstream that every name there belongs to."
    )
    external_url: ExternalUrl = Field(default="", description="The URL clients use; empty: http://HOST:PORT as bound.")

    _wildcard_has_a_name = field_validator("external_url")(wildcard_has_a_name)


class VirtualHostSettings(Table):
    """The same by host name, on the main port."""

    name: HostName = Field(description="The host name that clients use.")
    group: GroupPath = Field(default="hub", description="The group that every name there is pulled through.")
    upstream: KnownUpstream = Field(
        default=docker_hub.NAME, description="The upstream that every name there belongs to."
    )


Listeners = Annotated[
    tuple[ListenerSettings, ...], Kind("an array of tables, [[listener]], each with a port", json.loads)
]
VirtualHosts = Annotated[
    tuple[VirtualHostSettings, ...], Kind("an array of tables, [[virtual_host]], each with a name", json.loads)
]

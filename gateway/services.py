"""Services: the frozen bundle that handlers receive."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from cache.events import CacheEvents
from cache.index.sql import SqlIndex
from cache.index.tenants import TenantUsage
from cache.proxy.pull_through import PullThrough
from gateway.audit.log import AuditLog
from gateway.auth.authenticator import Authenticator
from gateway.auth.bearer_tokens import TokenService
from gateway.auth.oidc_sign_in import OidcSignIn
from gateway.data_folder import CacheFolder
from gateway.directory.access_tokens import AccessTokenAdministration
from gateway.directory.directory import Directory
from gateway.directory.job_administration import JobAdministration
from gateway.directory.job_scopes import JobScopeAdministration
from gateway.directory.token_administration import DeployTokenAdministration, PersonalTokenAdministration
from gateway.directory.user_administration import UserAdministration
from gateway.directory.web_sessions import WebSessions
from gateway.keys.sealing import Sealer
from gateway.notifications.administration import WebhookAdministration
from gateway.observability.diagnosis import Diagnoses
from gateway.observability.metrics import Metrics
from gateway.observability.server_state import ServerState
from gateway.registry.native_store import NativeStore
from gateway.upstreams import Upstreams
from gateway.virtual.clients import VirtualClients
from gateway.virtual.store import VirtualRegistries


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Everything that a surface or a use case works with. `clock` gives the time as an aware datetime.

    `group_usage`: what groups pulled through their dependency proxies, by their ids.
    """

    directory: Directory
    authenticator: Authenticator
    tokens: TokenService
    users: UserAdministration
    personal_tokens: PersonalTokenAdministration
    web_sessions: WebSessions
    oidc_sign_in: OidcSignIn
    deploy_tokens: DeployTokenAdministration
    access_tokens: AccessTokenAdministration
    jobs: JobAdministration
    job_scopes: JobScopeAdministration
    upstreams: Upstreams
    virtual: VirtualRegistries
    virtual_clients: VirtualClients
    sealer: Sealer
    pull_through: PullThrough
    native: NativeStore
    webhooks: WebhookAdministration
    metrics: Metrics
    events: CacheEvents
    audit: AuditLog
    group_usage: TenantUsage
    index: SqlIndex
    folder: CacheFolder
    server_state: ServerState
    diagnoses: Diagnoses
    clock: Callable[[], datetime]

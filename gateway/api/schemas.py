"""Schemas of the documents that the REST API answers with, by the names that routes give them.

Each is written as its fields, `NAME:TYPE`, where `?` after the type says that the field may be null, and `*` that it
may be missing. A test compares them with what the server sends.
"""

from collections.abc import Mapping

Schema = dict[str, object]

_REPOSITORY = (
    "id:integer name:string path:string project_id:integer location:string created_at:time "
    "cleanup_policy_started_at:time? status:string?"
)
_TAG = "name:string path:string location:string"
_PERSON = "id:integer username:string name:string state:string avatar_url:string? web_url:string"
_PERSONAL_TOKEN = (
    "id:integer name:string description:string? revoked:boolean created_at:time scopes:array user_id:integer "
    "last_used_at:time? active:boolean expires_at:string?"
)
_DEPLOY_TOKEN = "id:integer name:string username:string expires_at:time? scopes:array revoked:boolean expired:boolean"
_JOB = (
    "id:integer status:string ref:string? tag:boolean created_at:time started_at:time finished_at:time? "
    "expires_at:time last_used_at:time? user:object project:object"
)
_VIRTUAL_REGISTRY = "id:integer group_id:integer name:string description:string? created_at:time updated_at:time"
_PLACE = "id:integer name:string path:string"

_FIGURES = (
    "pulls:integer hit_rate:number? saved_pulls:integer sent_bytes:integer fetched_bytes:integer saved_bytes:integer"
)

_FIELDS: Mapping[str, str] = {
    "Repository": f"{_REPOSITORY} delete_api_path:string* tags:Tags* tags_count:integer* size:integer* "
    "deleted_at:time* deleted_by:string?* restorable_until:time?*",
    "DeletedRepository": f"{_REPOSITORY} deleted_at:time deleted_by:string? restorable_until:time?",
    "Tag": _TAG,
    "TagDetails": f"{_TAG} revision:string? short_revision:string? digest:string created_at:time published_at:time "
    "media_type:string total_size:integer?",
    "TagEvent": "id:integer event:string at:time by:string? from:string? to:string? kept:boolean",
    "DryRun": "deleted:integer kept:integer deletes_everything:boolean tags:JudgedTags",
    "JudgedTag": "name:string published_at:time? verdict:string rule:string?",
    "Project": f"{_PLACE} name_with_namespace:string path_with_namespace:string description:string? created_at:time "
    "visibility:string web_url:string namespace:Namespace container_registry_enabled:boolean "
    "container_registry_access_level:string container_registry_image_prefix:string _links:object creator_id:integer?* "
    "container_expiration_policy:CleanupPolicy*",
    "Group": f"{_PLACE} full_name:string full_path:string parent_id:integer? visibility:string description:string? "
    "web_url:string created_at:time avatar_url:string? dependency_proxy_enabled:boolean",
    "DependencyProxy": "enabled:boolean identity:string? default_upstream:string anonymous_pull:boolean "
    "fresh_only:boolean gate:object image_prefix:string image_ttl_policy:ImageTtlPolicy",
    "ImageTtlPolicy": "enabled:boolean ttl:integer created_at:time updated_at:time completed_at:time?",
    "CachePurge": "status:string requested_at:time? completed_at:time? images:integer? purged:integer shared:integer "
    "freed_bytes:integer",
    "CachedImage": "name:string upstream:string path:string location:string tag:string? digest:string size:integer "
    "created_at:time last_pull_at:time pulls:integer hits:integer last_outcome:string checked_at:time? state:string "
    "reason:string pinned:boolean",
    "EvictedImage": "tags:integer freed_bytes:integer shared:boolean pinned:array",
    "RefreshedTag": "upstream:string image:string tag:string old_digest:string? digest:string changed:boolean",
    "Savings": "from:string to:string total:PullFigures days:SavedDays",
    "PullFigures": _FIGURES,
    "SavedDay": f"day:string {_FIGURES}",
    "Namespace": f"{_PLACE} kind:string full_path:string parent_id:integer? avatar_url:string? web_url:string",
    "Member": f"{_PERSON} access_level:integer created_at:time expires_at:string? membership_state:string",
    "User": f"{_PERSON} created_at:time email:string? external:boolean is_admin:boolean*",
    "CleanupPolicy": "enabled:boolean cadence:string keep_n:integer? older_than:string? name_regex:string "
    "name_regex_delete:string name_regex_keep:string? next_run_at:time? completed_at:time? deleted:integer "
    "problem:string?",
    "RepositoryRule": "id:integer project_id:integer repository_path_pattern:string "
    "minimum_access_level_for_push:string? minimum_access_level_for_delete:string?",
    "TagRule": "id:integer project_id:integer tag_name_pattern:string minimum_access_level_for_push:string? "
    "minimum_access_level_for_delete:string? immutable:boolean",
    "Account": f"{_PERSON} locked:boolean* created_at:time* email:string?* external:boolean* is_admin:boolean* "
    "two_factor_enabled:boolean*",
    "PersonalToken": _PERSONAL_TOKEN,
    "NewPersonalToken": f"{_PERSONAL_TOKEN} token:string",
    "AccessToken": f"{_PERSONAL_TOKEN} access_level:integer?",
    "NewAccessToken": f"{_PERSONAL_TOKEN} access_level:integer? token:string",
    "DeployToken": _DEPLOY_TOKEN,
    "Job": _JOB,
    "NewJob": f"{_JOB} variables:object",
    "JobTokenScope": "inbound_enabled:boolean outbound_enabled:boolean",
    "AllowedProject": "id:integer name:string? path:string? path_with_namespace:string? web_url:string?",
    "AllowedGroup": "id:integer name:string? full_path:string? web_url:string?",
    "ProjectAllowance": "source_project_id:integer target_project_id:integer",
    "GroupAllowance": "source_project_id:integer target_group_id:integer",
    "NewDeployToken": f"{_DEPLOY_TOKEN} token:string",
    "AuditEvent": "id:integer author_id:integer entity_id:integer? entity_type:string? entity_path:string "
    "event_name:string details:AuditDetails created_at:time",
    "AuditDetails": "author_name:string? custom_message:string entity_path:string target_id:string target_type:string "
    "target_details:string from:string? to:string? tag:string? digest:string? surface:string ip_address:string? "
    "request_id:string?",
    "Webhook": "id:integer url:string name:string description:string project_id:integer* group_id:integer* "
    "created_at:time enable_ssl_verification:boolean registry_push_events:boolean registry_pull_events:boolean "
    "registry_delete_events:boolean registry_cache_fill_events:boolean* token_present:boolean "
    "signing_token_present:boolean alert_status:string disabled_until:time?",
    "WebhookEvent": "id:integer trigger:string status:string attempts:integer response_status:string? problem:string? "
    "message_id:string request_data:string created_at:time next_attempt_at:time? ended_at:time?",
    "VirtualRegistry": _VIRTUAL_REGISTRY,
    "VirtualRegistryDetails": f"{_VIRTUAL_REGISTRY} registry_upstreams:array",
    "RegistryUpstream": "id:integer registry_id:integer upstream_id:integer position:integer",
    "VirtualUpstream": "id:integer group_id:integer url:string name:string description:string? "
    "cache_validity_hours:integer username:string? created_at:time updated_at:time registry_upstream:object*",
    "VirtualCacheEntry": "id:string group_id:integer upstream_id:integer upstream_checked_at:time? file_md5:string? "
    "file_sha1:string? size:integer relative_path:string content_type:string upstream_etag:string",
    "Version": "version:string revision:string",
    "Metadata": "version:string revision:string kas:object enterprise:boolean",
    "Refusal": "message:any* error:string* error_description:string* scope:string*",
}

_LISTS: Mapping[str, str] = {
    "Repositories": "Repository",
    "DeletedRepositories": "DeletedRepository",
    "Tags": "Tag",
    "TagEvents": "TagEvent",
    "JudgedTags": "JudgedTag",
    "Projects": "Project",
    "Groups": "Group",
    "CachedImages": "CachedImage",
    "SavedDays": "SavedDay",
    "Namespaces": "Namespace",
    "Members": "Member",
    "RepositoryRules": "RepositoryRule",
    "TagRules": "TagRule",
    "Accounts": "Account",
    "PersonalTokens": "PersonalToken",
    "AccessTokens": "AccessToken",
    "DeployTokens": "DeployToken",
    "Jobs": "Job",
    "AllowedProjects": "AllowedProject",
    "AllowedGroups": "AllowedGroup",
    "AuditEvents": "AuditEvent",
    "Webhooks": "Webhook",
    "WebhookEvents": "WebhookEvent",
    "VirtualRegistries": "VirtualRegistry",
    "VirtualUpstreams": "VirtualUpstream",
    "VirtualCacheEntries": "VirtualCacheEntry",
}
"""Names of lists, and of what they hold."""

REFUSAL = "Refusal"
"""The document of every refusal: GitLab's clients read `message`, then `error`."""


def reference(name: str) -> Schema:
    """The schema of the document of a name: a reference, or an object of any kind where none is described."""
    if name in _LISTS:
        return {"type": "array", "items": reference(_LISTS[name])}
    return {"$ref": f"#/components/schemas/{name}"} if name in _FIELDS else {"type": "object"}


def is_described(name: str) -> bool:
    """Whether there is a schema of the document of a name."""
    return name in _FIELDS or name in _LISTS


def all_schemas() -> dict[str, Schema]:
    """Every schema by its name."""
    return {name: _object(fields) for name, fields in _FIELDS.items()}


def _object(fields: str) -> Schema:
    properties: dict[str, Schema] = {}
    required: list[str] = []
    for field in fields.split():
        name, _, kind = field.partition(":")
        is_optional, kind = kind.endswith("*"), kind.removesuffix("*")
        schema = _value(kind.removesuffix("?"))
        properties[name] = {"anyOf": [schema, {"type": "null"}]} if kind.endswith("?") else schema
        if not is_optional:
            required.append(name)
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _value(kind: str) -> Schema:
    if kind == "time":
        return {"type": "string", "format": "date-time"}
    if kind == "any":
        return {}
    return reference(kind) if kind[0].isupper() else {"type": kind}

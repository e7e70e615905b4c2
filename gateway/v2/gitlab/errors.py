"""Errors that the API of GitLab's registry has beside those of the distribution specification, by their codes there."""

from cache.oci.errors import RefusalReason, RegistryError


class QueryValueInvalid(RegistryError):
    """A parameter of the query has a value that it may not have."""

    code, status, message = "INVALID_QUERY_PARAMETER_VALUE", 400, "invalid query parameter value"
    counted_as = RefusalReason.INVALID


class QueryTypeInvalid(RegistryError):
    """A parameter of the query is no number, or no boolean."""

    code, status, message = "INVALID_QUERY_PARAMETER_TYPE", 400, "invalid query parameter type"
    counted_as = RefusalReason.INVALID


class BodyTypeInvalid(RegistryError):
    """A member of the body is no text, or none that it may be."""

    code, status, message = "INVALID_BODY_PARAMETER_TYPE", 400, "invalid body parameter type"
    counted_as = RefusalReason.INVALID


class BodyInvalid(RegistryError):
    """The body is no JSON object with what the request needs."""

    code, status, message = "INVALID_JSON_BODY", 400, "invalid JSON body"
    counted_as = RefusalReason.INVALID


class ProjectClaimMissing(RegistryError):
    """The Bearer token does not say which project the repository belongs to."""

    code, status, message = "UNKNOWN_PROJECT_PATH_CLAIM", 400, "the token names no project path"
    counted_as = RefusalReason.INVALID


class ProjectClaimMismatch(RegistryError):
    """The repository is not the one at the path of its project."""

    code, status, message = "MISMATCH_PROJECT_PATH_CLAIM", 400, "the path is not that of the project"
    counted_as = RefusalReason.INVALID


class RenameConflict(RegistryError):
    """The path that is wanted is not free."""

    code, status, message = "RENAME_CONFLICT", 409, "the path is already taken"
    counted_as = RefusalReason.INVALID

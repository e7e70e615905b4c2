"""CI variables of a job: the ones of GitLab's user guide that concern a registry, with the same names and values."""

import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from gateway.namespaces.credential_rules import direct_group
from gateway.namespaces.credentials import JOB_USERNAME, DeployToken, Job
from gateway.namespaces.errors import CredentialInvalid
from gateway.namespaces.node import NodeKind, PathEntry
from gateway.namespaces.paths import proxied_name
from gateway.namespaces.project import Project, RegistryAccess

SLUG_LIMIT = 63
"""Bytes of a slug: the limit of a label in DNS, as in GitLab."""

_DEFAULT_PORTS = {"http": 80, "https": 443}


def registry_host(url: str) -> str:
    """Write the host of a server as all variables spell it: HOST:PORT, with the port also where it is the default.

    GitLab writes the port in CI_DEPENDENCY_PROXY_SERVER always. Docker looks a login up by the text before the first
    slash of an image's name, for which `host` and `host:443` are two registries. With one spelling for the registry and
    the dependency proxy, a job that logs in to either is logged in to both.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    return f"{f'[{host}]' if ':' in host else host}:{parts.port or _DEFAULT_PORTS[parts.scheme]}"


def job_variables(
    host: str,
    job: Job,
    secret: str,
    project: Project,
    way: Sequence[PathEntry],
    deploy: tuple[DeployToken, str] | None,
) -> dict[str, str]:
    """Make the variables of a job. Raises CredentialInvalid where the job's ref has no slug.

    `host`: see `registry_host`. `secret`: the job token. `way`: the nodes from the top of the tree to the project.
    `deploy`: the deploy token for which a further secret of the job stands, and that secret.

    The password is the job token at both places, because docker keeps one login for a host.
    """
    variables = {"CI_JOB_ID": str(job.id), "CI_JOB_TOKEN": secret}
    variables |= access_variables(host, project, way, (JOB_USERNAME, secret))
    if job.ref is not None:
        variables["CI_PROJECT_PATH"] = project.path
        variables["CI_COMMIT_REF_NAME"] = job.ref
        variables["CI_COMMIT_REF_SLUG"] = ref_slug(job.ref)
    if deploy is not None:
        token, deploy_secret = deploy
        variables |= {"CI_DEPLOY_USER": token.username, "CI_DEPLOY_PASSWORD": deploy_secret}
    return variables


def access_variables(
    host: str, project: Project, way: Sequence[PathEntry], login: tuple[str, str] | None
) -> dict[str, str]:
    """Make the variables by which jobs reach a project's registry and the dependency proxies of the groups above it.

    `host`: see `registry_host`. `way`: the nodes from the top of the tree to the project. `login`: user name and secret
    with which jobs log in; without it their variables are left out.
    """
    variables = {"CI_REGISTRY": host}
    if project.registry is not RegistryAccess.DISABLED:
        variables["CI_REGISTRY_IMAGE"] = f"{host}/{project.path.lower()}"
    variables |= _login_variables("CI_REGISTRY", login)
    variables["CI_DEPENDENCY_PROXY_SERVER"] = host
    return variables | _group_prefixes(host, way) | _login_variables("CI_DEPENDENCY_PROXY", login)


def ref_slug(ref: str) -> str:
    """Turn the name of a branch or tag into a text that is fit for a tag of an image. Raises CredentialInvalid.

    Lower case, a dash for each character that is no ASCII letter or digit, 63 bytes at most, no dash at either end:
    https://docs.gitlab.com/ci/variables/predefined_variables/ (CI_COMMIT_REF_SLUG).
    """
    slug = re.sub(r"[^a-z0-9]", "-", ref.lower())[:SLUG_LIMIT].strip("-")
    if not slug:
        raise CredentialInvalid(f"the ref {ref!r} has no letter or digit for CI_COMMIT_REF_SLUG: use another name")
    return slug


def _login_variables(name: str, login: tuple[str, str] | None) -> dict[str, str]:
    return {} if login is None else {f"{name}_USER": login[0], f"{name}_PASSWORD": login[1]}


def _group_prefixes(host: str, way: Sequence[PathEntry]) -> dict[str, str]:
    """The variables of the group's dependency proxies; none for a project in a user's namespace, which has none."""
    top, direct = way[0], direct_group(way)
    if direct is None or top.key.kind is not NodeKind.GROUP:
        return {}
    return {
        "CI_DEPENDENCY_PROXY_GROUP_IMAGE_PREFIX": _image_prefix(host, top.path),
        "CI_DEPENDENCY_PROXY_DIRECT_GROUP_IMAGE_PREFIX": _image_prefix(host, direct.path),
    }


def _image_prefix(host: str, group: str) -> str:
    return f"{host}/{proxied_name(group.lower(), '')}".removesuffix("/")

"""CI variables of a job."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from gateway.namespaces.ci_variables import job_variables, ref_slug, registry_host
from gateway.namespaces.credentials import DeployToken, Job, Scope
from gateway.namespaces.errors import CredentialInvalid
from gateway.namespaces.node import NodeKey, NodeKind, PathEntry, Visibility
from gateway.namespaces.project import Project, RegistryAccess

NOW = datetime(2025, 3, 4, 5, 6, 7, tzinfo=UTC)
HOST = "registry.example.com:443"
APP = Project(2, "a/b/app", Visibility.PRIVATE, RegistryAccess.ENABLED, NOW)
WAY = [
    PathEntry("a", NodeKey(NodeKind.GROUP, 1)),
    PathEntry("a/b", NodeKey(NodeKind.GROUP, 2)),
    PathEntry("a/b/app", NodeKey(NodeKind.PROJECT, 2)),
]
OWN_WAY = [PathEntry("ann", NodeKey(NodeKind.USER, 7)), PathEntry("ann/app", NodeKey(NodeKind.PROJECT, 2))]
JOB = Job(9, 2, 7, None, NOW, NOW + timedelta(hours=1))
TOKEN = DeployToken(4, WAY[1].key, "gitlab-deploy-token", "puller", frozenset({Scope.READ_REGISTRY}), NOW)

BASE = {
    "CI_JOB_ID": "9",
    "CI_JOB_TOKEN": "s3cret",
    "CI_REGISTRY": HOST,
    "CI_REGISTRY_USER": "gitlab-ci-token",
    "CI_REGISTRY_PASSWORD": "s3cret",
    "CI_REGISTRY_IMAGE": f"{HOST}/a/b/app",
    "CI_DEPENDENCY_PROXY_SERVER": HOST,
    "CI_DEPENDENCY_PROXY_USER": "gitlab-ci-token",
    "CI_DEPENDENCY_PROXY_PASSWORD": "s3cret",
    "CI_DEPENDENCY_PROXY_GROUP_IMAGE_PREFIX": f"{HOST}/a/dependency_proxy/containers",
    "CI_DEPENDENCY_PROXY_DIRECT_GROUP_IMAGE_PREFIX": f"{HOST}/a/b/dependency_proxy/containers",
}
REF = {"CI_PROJECT_PATH": "a/b/app", "CI_COMMIT_REF_NAME": "Feature/1", "CI_COMMIT_REF_SLUG": "feature-1"}
DEPLOY = {"CI_DEPLOY_USER": "puller", "CI_DEPLOY_PASSWORD": "other"}


def test_a_job_has_the_variables_of_the_user_guide() -> None:
    assert job_variables(HOST, JOB, "s3cret", APP, WAY, None) == BASE


def test_a_ref_adds_the_variables_that_name_it() -> None:
    assert job_variables(HOST, replace(JOB, ref="Feature/1"), "s3cret", APP, WAY, None) == BASE | REF


def test_a_deploy_token_adds_its_user_name_and_the_secret_that_stands_for_it() -> None:
    assert job_variables(HOST, JOB, "s3cret", APP, WAY, (TOKEN, "other")) == BASE | DEPLOY


def test_a_disabled_registry_has_no_image() -> None:
    variables = job_variables(HOST, JOB, "s3cret", replace(APP, registry=RegistryAccess.DISABLED), WAY, None)
    assert variables == {name: value for name, value in BASE.items() if name != "CI_REGISTRY_IMAGE"}


def test_a_project_in_a_namespace_of_a_user_has_no_group_whose_images_are_pulled() -> None:
    variables = job_variables(HOST, JOB, "s3cret", replace(APP, path="ann/app"), OWN_WAY, None)
    assert {name for name in BASE if name not in variables} == {
        "CI_DEPENDENCY_PROXY_GROUP_IMAGE_PREFIX",
        "CI_DEPENDENCY_PROXY_DIRECT_GROUP_IMAGE_PREFIX",
    }


def test_references_are_lower_case_also_where_paths_are_not() -> None:
    way = [replace(entry, path=entry.path.upper()) for entry in WAY]
    variables = job_variables(HOST, JOB, "s3cret", replace(APP, path="A/B/APP"), way, None)
    assert variables == BASE


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://registry.example.com", "registry.example.com:443"),
        ("http://registry.example.com", "registry.example.com:80"),
        ("https://Registry.example.com:5000/below", "registry.example.com:5000"),
        ("http://127.0.0.1:8080", "127.0.0.1:8080"),
        ("http://[::1]:8080", "[::1]:8080"),
    ],
)
def test_a_host_is_spelled_with_its_port_always(url: str, host: str) -> None:
    assert registry_host(url) == host


@pytest.mark.parametrize(
    ("ref", "slug"),
    [
        ("main", "main"),
        ("Feature/ABC_1.2", "feature-abc-1-2"),
        ("--x--", "x"),
        ("ü-x", "x"),
        ("a" * 70, "a" * 63),
        ("a" * 62 + "/b", "a" * 62),
        ("/" * 3 + "a" * 70, "a" * 60),
        ("renovate/k8s", "renovate-k8s"),
    ],
)
def test_a_slug_is_fit_for_a_tag(ref: str, slug: str) -> None:
    assert ref_slug(ref) == slug


@pytest.mark.parametrize("ref", ["-", "ü", "/" * 70, "日本", "-" * 63 + "a"])
def test_a_ref_without_a_slug_is_refused(ref: str) -> None:
    with pytest.raises(CredentialInvalid, match="has no letter or digit for CI_COMMIT_REF_SLUG"):
        job_variables(HOST, replace(JOB, ref=ref), "s3cret", APP, WAY, None)

"""The chart: helm renders it, each manifest follows Kubernetes' schema, and the gateway reads the settings in it."""

import itertools
import json
import shlex
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from gateway.cli.example import Example
from gateway.settings.load import load
from gateway.settings.tables import Settings
from tests.parts.go_clients import HELM, build_go_client
from tests.parts.pages import PAGES, ROOT, blocks

CHART = ROOT / "helm"
DOCUMENTED = [yaml.safe_load(block) for block in blocks(PAGES["helm"], "yaml")]
"""Values that the page shows."""

OF_AN_OPERATOR = ("ServiceMonitor", "PrometheusRule")
"""Kinds whose schemas belong to the Prometheus operator, and not to Kubernetes."""

pytestmark = pytest.mark.usefixtures("processes")

LEAST = {"settings": {"external_url": "https://registry.example.com"}}


def helm(command: str, values: dict[str, Any], *words: str) -> "subprocess.CompletedProcess[str]":
    argv = [str(build_go_client(HELM)), command, *words, "--kube-version", "1.31", "--values", "-", str(CHART)]
    return subprocess.run(argv, input=json.dumps(values), check=False, capture_output=True, text=True, timeout=120)


def rendered(values: dict[str, Any]) -> list[dict[str, Any]]:
    """The manifests for some values, each of which Kubernetes accepts."""
    done = helm("template", values, "--namespace", "registry", "--name-template", "release")
    assert done.returncode == 0, done.stderr
    manifests = [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]
    for manifest in manifests:
        if manifest["kind"] not in OF_AN_OPERATOR:
            kubernetes_validate.validate(manifest, "1.31", strict=True)
    return manifests


def refused(values: dict[str, Any]) -> str:
    done = helm("template", values)
    assert done.returncode != 0, done.stdout
    return done.stderr


def only(manifests: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    [found] = [
        manifest
        for manifest in manifests
        if manifest["kind"] == kind and "dashboard" not in manifest["metadata"]["name"]
    ]
    return found


def pod(manifests: list[dict[str, Any]]) -> dict[str, Any]:
    template: dict[str, Any] = only(manifests, "StatefulSet")["spec"]["template"]["spec"]
    return template


def settings_of(manifests: list[dict[str, Any]], folder: Path) -> Settings:
    """What the gateway reads from its file and the environment of its container."""
    file = folder / "config.toml"
    file.write_text(only(manifests, "ConfigMap")["data"]["config.toml"])
    [container] = pod(manifests)["containers"]
    return load(file, {entry["name"]: entry["value"] for entry in container["env"]}, {}).settings


@cache
def merged(*numbers: int) -> str:
    """Several of the values that the page shows in one, as JSON."""
    values: dict[str, Any] = {}
    for number in numbers:
        for key, value in DOCUMENTED[number].items():
            old = values.get(key)
            values[key] = {**old, **value} if isinstance(old, dict) else old + value if old else value
    return json.dumps(values)


SINGLE = [(number,) for number in range(len(DOCUMENTED))]
PAIRS = [*itertools.combinations(range(len(DOCUMENTED)), 2)]


def test_the_page_shows_values() -> None:
    assert len(DOCUMENTED) >= 6


def test_helm_finds_nothing_wrong_with_the_chart() -> None:
    done = helm("lint", LEAST, "--strict")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[WARNING]" not in done.stdout


@pytest.mark.parametrize("numbers", [*SINGLE, *PAIRS, tuple(range(len(DOCUMENTED)))], ids=str)
def test_documented_values_alone_and_together_are_manifests_that_kubernetes_accepts(
    numbers: tuple[int, ...], tmp_path: Path
) -> None:
    values = json.loads(merged(*numbers))
    manifests = rendered(values)
    settings = settings_of(manifests, tmp_path)
    assert settings.external_url == "https://registry.example.com"
    assert (settings.host, str(settings.data)) == ("0.0.0.0", "/var/lib/registry-gateway/data")
    assert [entry.port for entry in settings.listener] == [entry["port"] for entry in values.get("listeners", [])]
    assert [entry.name for entry in settings.virtual_host] == [
        entry["name"] for entry in values.get("virtualHosts", [])
    ]
    fits_together(manifests)


def fits_together(manifests: list[dict[str, Any]]) -> None:
    """Every name that one manifest uses is one that another has; what they select is the pod."""
    template = only(manifests, "StatefulSet")["spec"]["template"]
    labels = template["metadata"]["labels"]
    [container] = template["spec"]["containers"]
    ports = {port["name"] for port in container["ports"]}
    service = only(manifests, "Service")
    assert service["spec"]["selector"].items() <= labels.items()
    assert {port["targetPort"] for port in service["spec"]["ports"]} == ports
    claims = only(manifests, "StatefulSet")["spec"].get("volumeClaimTemplates", [])
    volumes = [entry["name"] for entry in template["spec"]["volumes"]] + [c["metadata"]["name"] for c in claims]
    assert sorted(mount["name"] for mount in container["volumeMounts"]) == sorted(volumes)
    accounts = [m["metadata"]["name"] for m in manifests if m["kind"] == "ServiceAccount"]
    assert template["spec"]["serviceAccountName"] in [*accounts, "default"]
    for manifest in manifests:
        spec = manifest.get("spec", {})
        match manifest["kind"]:
            case "PodDisruptionBudget":
                assert spec["maxUnavailable"] == 1
                assert spec["selector"]["matchLabels"].items() <= labels.items()
            case "NetworkPolicy":
                assert spec["podSelector"]["matchLabels"].items() <= labels.items()
                assert {port["port"] for port in spec["ingress"][0]["ports"]} == ports
            case "ServiceMonitor":
                assert spec["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
                assert {entry["port"] for entry in spec["endpoints"]} <= {p["name"] for p in service["spec"]["ports"]}
            case "Ingress":
                backends = [path["backend"]["service"] for rule in spec["rules"] for path in rule["http"]["paths"]]
                assert {backend["name"] for backend in backends} == {service["metadata"]["name"]}


def test_the_pod_may_do_nothing_that_the_gateway_does_not_need() -> None:
    spec = pod(rendered(LEAST))
    [container] = spec["containers"]
    assert spec["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "fsGroup": 65532,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False, "a Service named gateway would set GATEWAY_PORT"


def test_the_pod_is_probed_and_given_time_to_stop() -> None:
    spec = pod(rendered(LEAST))
    [container] = spec["containers"]
    probed = {name: container[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert {name: get["path"] for name, get in probed.items()} == {
        "startupProbe": "/-/health",
        "livenessProbe": "/-/health",
        "readinessProbe": "/-/ready",
    }
    assert {get["scheme"] for get in probed.values()} == {"HTTP"}
    assert spec["terminationGracePeriodSeconds"] > 60
    with_tls = pod(rendered(LEAST | {"tls": {"secret": "certificate"}}))["containers"][0]
    assert with_tls["readinessProbe"]["httpGet"]["scheme"] == "HTTPS"


def test_other_settings_are_another_pod() -> None:
    def checksum(values: dict[str, Any]) -> str:
        template = only(rendered(values), "StatefulSet")["spec"]["template"]
        return str(template["metadata"]["annotations"]["checksum/settings"])

    changed = {"settings": LEAST["settings"] | {"cache": {"ttl": "7m"}}}
    assert checksum(LEAST) == checksum(LEAST | {"podLabels": {"a": "b"}}) != checksum(changed)


def test_every_kind_of_value_reaches_the_gateway_as_it_was_written(tmp_path: Path) -> None:
    upstream = {
        "headers": {"X-Team": 'a "quoted" <text>'},
        "allow": ["library/*", "acme/*"],
        "private_addresses": True,
    }
    rules = [{"tags": "v*", "ttl": "1d"}, {"tags": "[0-9]*", "fresh_only": True}]
    settings = {"workers": 3, "cache": {"rules": rules, "prefetch": False}, "upstreams": {"quay.io": upstream}}
    found = settings_of(rendered({"settings": LEAST["settings"] | settings}), tmp_path)
    assert found.workers == 3
    assert found.cache.prefetch is False
    assert [(rule.tags, rule.fresh_only) for rule in found.cache.rules] == [("v*", False), ("[0-9]*", True)]
    assert found.upstreams["quay.io"].headers == upstream["headers"]
    assert found.upstreams["quay.io"].allow == tuple(upstream["allow"])
    assert found.upstreams["quay.io"].private_addresses


def test_an_ingress_passes_large_bodies_and_has_every_host() -> None:
    hosts = {"virtualHosts": [{"name": "docker.mirror.example.com"}], "ingress": {"enabled": True, "tlsSecret": "c"}}
    urls = {"external_url": "https://registry.example.com:8443", "registry_url": "https://images.example.com"}
    ingress = only(rendered({"settings": urls} | hosts), "Ingress")
    expected = ["registry.example.com", "images.example.com", "docker.mirror.example.com"]
    assert [rule["host"] for rule in ingress["spec"]["rules"]] == expected
    assert ingress["spec"]["tls"] == [{"secretName": "c", "hosts": expected}]
    prefix = "nginx.ingress.kubernetes.io"
    assert ingress["metadata"]["annotations"].items() >= {
        (f"{prefix}/proxy-body-size", "0"),
        (f"{prefix}/proxy-buffering", "off"),
        (f"{prefix}/proxy-request-buffering", "off"),
        (f"{prefix}/proxy-http-version", "1.1"),
    }


def test_no_policy_lets_the_gateway_reach_the_credentials_of_a_cloud() -> None:
    policy = only(rendered(LEAST | {"networkPolicy": {"enabled": True}}), "NetworkPolicy")
    blocks = [peer["ipBlock"] for rule in policy["spec"]["egress"] for peer in rule.get("to", [])]
    assert {block["cidr"]: block["except"] for block in blocks} == {
        "0.0.0.0/0": ["169.254.0.0/16"],
        "::/0": ["fe80::/10", "fd00:ec2::254/128"],
    }


def test_alerts_and_dashboard_are_those_of_the_program() -> None:
    assert (CHART / "files" / "alerts.yaml").read_text() == Example.ALERTS.text
    assert (CHART / "files" / "dashboard.json").read_text() == Example.DASHBOARD.text
    manifests = rendered(LEAST | {"alerts": {"enabled": True}, "dashboard": {"enabled": True}})
    assert only(manifests, "PrometheusRule")["spec"] == yaml.safe_load(Example.ALERTS.text)
    [dashboard] = [m for m in manifests if m["metadata"]["name"].endswith("-dashboard")]
    assert json.loads(dashboard["data"]["registry-gateway.json"]) == json.loads(Example.DASHBOARD.text)
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({}, "external_url"),
        (LEAST | {"replicas": 2}, "replicas"),
        (LEAST | {"replica": 1}, "replica"),
        ({"settings": LEAST["settings"] | {"port": 80}}, "port"),
        ({"settings": LEAST["settings"] | {"cash": {}}}, "cash"),
        (LEAST | {"secrets": ["../other"]}, "secrets"),
        (LEAST | {"listeners": [{"name": "registry", "port": 8081, "external_url": "http://a"}]}, "listeners"),
        (LEAST | {"listeners": [{"name": "hub", "port": 8080, "external_url": "http://a"}]}, "listeners"),
        (LEAST | {"listeners": [{"name": "hub", "port": 8081}]}, "external_url"),
        (LEAST | {"serviceMonitor": {"enabled": True}}, "metrics.token.secret"),
        (LEAST | {"serviceMonitor": {"enabled": True}, "metrics": {"access": "off"}}, "metrics.access is off"),
    ],
)
def test_values_that_cannot_work_are_refused(values: dict[str, Any], reason: str) -> None:
    assert reason in refused(values)


def test_prometheus_sends_the_token_to_the_port_of_the_registry() -> None:
    """The fields are those of the Prometheus operator's API, https://prometheus-operator.dev/docs/api-reference/api/."""
    metrics = {"metrics": {"token": {"secret": "token-of-metrics", "key": "t"}}, "serviceMonitor": {"enabled": True}}
    endpoint = {
        "port": "registry",
        "path": "/-/metrics",
        "interval": "30s",
        "authorization": {"credentials": {"name": "token-of-metrics", "key": "t"}},
    }
    [plain] = only(rendered(LEAST | metrics), "ServiceMonitor")["spec"]["endpoints"]
    assert plain == endpoint
    [over_tls] = only(rendered(LEAST | metrics | {"tls": {"secret": "c"}}), "ServiceMonitor")["spec"]["endpoints"]
    assert over_tls == endpoint | {"scheme": "https", "tlsConfig": {"serverName": "registry.example.com"}}


def test_the_commands_of_the_page_install_the_chart() -> None:
    lines = [shlex.split(line) for line in "".join(blocks(PAGES["helm"], "sh")).splitlines()]
    assert [line[:2] for line in lines] == [["helm", "install"]]
    for _, _, *words in lines:
        argv = [str(build_go_client(HELM)), "template", *words, "--kube-version", "1.31"]
        done = subprocess.run(argv, cwd=ROOT, check=False, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        assert pod(list(yaml.safe_load_all(done.stdout)))["containers"][0]["image"].endswith("registry-gateway:0.1.0")


def test_a_change_of_version_is_one_of_the_chart_too() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert f'version = "{chart["appVersion"]}"' in (ROOT / "pyproject.toml").read_text()

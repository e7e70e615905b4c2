"""The files that `example` prints, each judged by the program that reads it."""

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.cli.example import Example
from gateway.observability.metrics import Metrics
from gateway.settings.load import load
from tests.gateway.cli.terminal import Terminal
from tests.gateway.cli.test_help import HEAVY
from tests.parts.pages import PAGES, ROOT, blocks
from tests.parts.processes import binary

ALERTS: list[dict[str, Any]] = yaml.safe_load(Example.ALERTS.text)["groups"][0]["rules"]
DASHBOARD: dict[str, Any] = json.loads(Example.DASHBOARD.text)
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]


@pytest.mark.parametrize("name", Example)
def test_a_file_is_printed_as_it_is_without_settings_and_without_a_data_folder(name: Example, tmp_path: Path) -> None:
    terminal = Terminal(tmp_path)
    terminal.config.write_text("this is no TOML")
    text = (ROOT / "gateway" / "examples" / name.file_name).read_text()
    assert terminal.done("example", name.value) == text
    assert terminal.json("example", name.value) == {"example": name.value, "file": name.file_name, "text": text}
    assert not terminal.data.exists()


@pytest.mark.usefixtures("processes")
def test_it_is_printed_without_the_modules_of_other_commands(tmp_path: Path) -> None:
    program = f"""
import sys
from gateway.__main__ import main
try:
    main()
except SystemExit as end:
    assert end.code == 0, end.code
print([name for name in {HEAVY!r} if name in sys.modules])
"""
    environment = {"PYTHONPATH": str(ROOT), "GATEWAY_PORT": "no port"}
    argv = [sys.executable, "-c", program, "example", "alerts"]
    done = subprocess.run(argv, cwd=tmp_path, env=environment, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", f"{Example.ALERTS.text}[]\n")


def test_each_example_on_the_page_of_installing_is_one(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path)
    lines = "".join(blocks(PAGES["installing"], "sh")).splitlines()
    printed = [line.partition(" > ")[0].split()[1:] for line in lines if line.startswith("registry-gateway example ")]
    assert len(printed) >= 4
    for words in printed:
        assert terminal.done(*words)


def test_the_wheel_holds_every_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = pytest.importorskip("hatchling.build")
    monkeypatch.chdir(ROOT)
    with zipfile.ZipFile(tmp_path / build.build_wheel(str(tmp_path))) as wheel:
        names = set(wheel.namelist())
    assert {f"gateway/examples/{name.file_name}" for name in Example} <= names


def test_the_settings_are_valid(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path)
    terminal.config.write_text(Example.SETTINGS.text)
    assert terminal.done("config", "check").startswith("the settings are valid: ")


# systemd


@pytest.fixture
def unit(tmp_path: Path, processes: None) -> Path:
    """The root of a machine with the unit, and the program where the unit expects it."""
    root = tmp_path / "root"
    (root / "usr/lib/systemd").mkdir(parents=True)
    subprocess.run(["cp", "-r", "/usr/lib/systemd/system", root / "usr/lib/systemd"], check=True)
    (root / "lib").symlink_to("usr/lib")
    for program in (root / "opt/registry-gateway/bin/registry-gateway", root / "bin/kill"):
        program.parent.mkdir(parents=True)
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    (root / "etc/systemd/system").mkdir(parents=True)
    (root / "etc/systemd/system/registry-gateway.service").write_text(Example.SYSTEMD.text)
    return root


def analyze(root: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    argv = [binary("systemd-analyze", "systemd"), *words, f"--root={root}", "registry-gateway.service"]
    return subprocess.run(argv, check=False, capture_output=True, text=True, timeout=120)


def complaints(root: Path) -> list[str]:
    """What systemd says about the unit; those that come with the machine are not ours."""
    done = analyze(root, "verify")
    return [line for line in (done.stdout + done.stderr).splitlines() if "registry-gateway" in line]


def test_systemd_finds_nothing_wrong_with_the_unit(unit: Path) -> None:
    assert complaints(unit) == []
    file = unit / "etc/systemd/system/registry-gateway.service"
    file.write_text(Example.SYSTEMD.text.replace("ProtectHome", "ProtectHomes"))
    assert len(complaints(unit)) == 1


def test_the_unit_takes_away_what_the_server_does_not_need(unit: Path) -> None:
    done = analyze(unit, "security", "--offline=yes", "--threshold=16")
    assert done.returncode == 0, done.stdout


def test_a_stop_by_systemd_waits_longer_than_one_by_the_server() -> None:
    """A stop waits up to 60 s for responses in progress."""
    assert "TimeoutStopSec=90s" in Example.SYSTEMD.text.splitlines()


def test_a_reload_by_systemd_tells_the_first_process() -> None:
    assert "ExecReload=/bin/kill -HUP $MAINPID" in Example.SYSTEMD.text.splitlines()


def test_the_unit_reads_the_settings_where_the_settings_say_they_belong() -> None:
    start = re.search(r"^ExecStart=(.*)$", Example.SYSTEMD.text, re.MULTILINE)
    assert start is not None
    file = start[1].split()[-1]
    assert f"# {file}\n" in Example.SETTINGS.text
    assert 'data = "/var/lib/registry-gateway"' in Example.SETTINGS.text
    assert "StateDirectory=registry-gateway" in Example.SYSTEMD.text.splitlines()


# Compose


def test_the_variables_of_the_compose_file_are_settings() -> None:
    [service] = yaml.safe_load(Example.COMPOSE.text)["services"].values()
    settings = load(None, service["environment"] | {"GATEWAY_EXTERNAL_URL": "https://r.example.com"}, {}).settings
    assert (settings.host, settings.trusted_proxies) == ("0.0.0.0", ("172.16.0.0/12",))


# Prometheus and Grafana


def test_every_metric_of_alerts_and_dashboard_exists() -> None:
    def named(texts: list[str]) -> set[str]:
        found = {name for text in texts for name in re.findall(r"\bgateway_[a-z_]+", text)}
        return {re.sub("_(bucket|sum|count)$", "", name) for name in found}

    assert named([rule["expr"] for rule in ALERTS]) <= set(Metrics().names())
    assert len(named(QUERIES)) > 20
    assert named(QUERIES) <= set(Metrics().names())


def promtool(*words: str | Path) -> None:
    argv = [binary("promtool", "prometheus"), *map(str, words)]
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_accepts_every_query_of_the_dashboard(tmp_path: Path, processes: None) -> None:
    known = QUERIES[0].replace("$__rate_interval", "5m")
    rules = [{"record": f"query:{n}", "expr": q.replace("$__rate_interval", "5m")} for n, q in enumerate(QUERIES)]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    promtool("check", "rules", file)
    file.write_text(yaml.safe_dump({"groups": [{"name": "d", "rules": [{"record": "q:1", "expr": f"{known} +"}]}]}))
    with pytest.raises(AssertionError):
        promtool("check", "rules", file)


HEALTHY = {
    "gateway_workers": "2x120",
    'gateway_upstream_circuit_open{upstream="docker.io"}': "0x120",
    'gateway_upstream_credential_refusals_total{upstream="quay.io"}': "3x120",
    'gateway_upstream_quota_remaining{upstream="docker.io"}': "60x120",
    'gateway_upstream_quota_limit{upstream="docker.io"}': "100x120",
    'gateway_miss_queue{upstream="docker.io"}': "3x120",
    'gateway_responses_total{surface="registry",status="2xx"}': "0+1000x120",
    'gateway_responses_total{surface="registry",status="5xx"}': "0+1x120",
    "gateway_disk_free_bytes": "20e9x120",
    "gateway_cache_bytes": "80e9x120",
    "gateway_cache_other_bytes": "1e9x120",
    "gateway_worker_restarts_total": "1x120",
    'gateway_cache_damaged_total{damage="size"}': "4x120",
    'gateway_refusals_total{reason="gate"}': "0+10x120",
    'gateway_refusals_total{reason="loop"}': "2x120",
    'gateway_build_info{job="gateway",instance="a",version="1.0"}': "1x120",
    'gateway_build_info{job="gateway",instance="b",version="1.0"}': "1x120",
}
"""Samples, one a minute, of a server that needs nobody; what was wrong once and is over does not count."""

TROUBLE = {
    "Down": {"gateway_workers": "2x10 _x110"},
    "CircuitOpen": {'gateway_upstream_circuit_open{upstream="docker.io"}': "0x10 1x110"},
    "CredentialRefused": {'gateway_upstream_credential_refusals_total{upstream="docker.io"}': "_x115 1x5"},
    "QuotaLow": {'gateway_upstream_quota_remaining{upstream="docker.io"}': "60x10 9x110"},
    "PullsWait": {'gateway_miss_queue{upstream="docker.io"}': "101x120"},
    "Errors": {'gateway_responses_total{surface="registry",status="5xx"}': "0+100x120"},
    "Misconfigured": {'gateway_refusals_total{reason="open_proxy"}': "_x115 1x5"},
    "VersionsDiffer": {
        'gateway_build_info{job="gateway",instance="a",version="1.0"}': "1x120",
        'gateway_build_info{job="gateway",instance="b",version="1.1"}': "1x120",
    },
    "DiskLow": {"gateway_disk_free_bytes": "3e9x120"},
    "DiskFull": {"gateway_disk_free_bytes": "2e8x120", "gateway_cache_bytes": "2e9x120"},
    "WorkerRestarts": {"gateway_worker_restarts_total": "0x95 0+1x25"},
    "CacheDamaged": {'gateway_cache_damaged_total{damage="digest"}': "_x100 1x20"},
    "CollectionStopped": {"gateway_gc_stopped": "1x120"},
    "AuditEventsDropped": {'gateway_audit_events_total{result="dropped"}': "0x110 1+1x10"},
    "ContentDamaged": {'gateway_native_damaged_total{damage="digest"}': "_x100 1x20"},
}
"""By the alert that must fire, and no other: the samples that differ."""


def test_each_alert_fires_for_its_own_trouble_and_none_on_a_healthy_server(tmp_path: Path, processes: None) -> None:
    def case(alert: str) -> dict[str, Any]:
        series = HEALTHY | TROUBLE.get(alert, {})
        fired = [{"labels": f'{{alertname="RegistryGateway{alert}"}}', "value": 1}] if alert else []
        query = 'group by (alertname) (ALERTS{alertstate="firing"})'
        return {
            "interval": "1m",
            "name": alert or "healthy",
            "input_series": [{"series": name, "values": values} for name, values in series.items()],
            "promql_expr_test": [{"expr": query, "eval_time": "2h", "exp_samples": fired}],
        }

    assert [rule["alert"].removeprefix("RegistryGateway") for rule in ALERTS] == list(TROUBLE)
    (tmp_path / "alerts.yaml").write_text(Example.ALERTS.text)
    tests = {"rule_files": ["alerts.yaml"], "tests": [case(alert) for alert in ["", *TROUBLE]]}
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump(tests))
    promtool("test", "rules", tmp_path / "tests.yaml")

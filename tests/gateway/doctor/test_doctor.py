"""`doctor`: a good installation, and one with each single fault; every failure says what to do."""

import asyncio
import base64
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from cache.oci.names import Tag
from gateway.cli.doctor import examine
from gateway.cli.session import Session
from gateway.doctor.check import Check
from gateway.doctor.clients import PROFILES, ClientProfile, PullTarget, replay
from gateway.doctor.machine import check_descriptors, check_file_system, examine_machine, file_system_of
from gateway.settings.tables import Settings
from tests.conftest import GatewayFactory, Publish
from tests.gateway.made import make
from tests.parts import raw
from tests.parts.canaries import CANARY, found_in
from tests.parts.certs import Authority
from tests.parts.gateway import Gateway, toml
from tests.parts.guarded import EXPIRED_AT_ECR, Guarded
from tests.parts.hub import Hub
from tests.parts.images import Images
from tests.parts.liar import Liar
from tests.parts.lies import (
    Lie,
    answered,
    digest_header,
    encoded,
    flipped,
    html,
    media_type,
    redirected,
    refused,
    short,
    stalled,
)
from tests.parts.processes import wait_until

PULLS = [f"pull as {name}" for name in ("docker", "containerd", "podman", "buildkit")]
NAME = "upstream docker.io"
STAGES = [f"{NAME}: {stage}" for stage in ("name", "address", "connection", "answer")]

Doctor = Callable[..., dict[str, Check]]


@pytest.fixture
def doctor(tmp_path: Path) -> Doctor:
    """Examine a new data folder without a server; every failure must have a remedy, and no secret may be shown."""
    data = tmp_path / "data"

    def run(upstream: dict[str, Any], image: str | None = "library/tiny", **settings: Any) -> dict[str, Check]:
        asyncio.run(make(Settings(data=data)))
        config = tmp_path / "gateway.toml"
        config.write_text(toml({**settings, "upstreams": {"docker.io": upstream}}))
        return by_name(examine_with(config, data, image))

    return run


def by_name(checks: list[Check]) -> dict[str, Check]:
    assert len({check.name for check in checks}) == len(checks)
    for check in checks:
        assert check.detail
        assert check.remedy or check.ok is not False
        assert found_in(f"{check.detail} {check.remedy}".encode()) == []
    return {check.name: check for check in checks}


def examine_with(config: Path | None, data: Path, image: str | None = None) -> list[Check]:
    return examine(Session(config, str(data), False), image, "hub")


def examined(server: Gateway, image: str | None = None) -> dict[str, Check]:
    return by_name(examine_with(server.config_file, server.data, image))


def verdicts(checks: dict[str, Check], *names: str) -> list[bool | None]:
    return [checks[name].ok for name in names]


# Everything in order.


def pull(server: Gateway, images: Images, name: str) -> None:
    accept = [("Accept", "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json")]
    assert raw.get(server.proxied_url(f"library/{name}/manifests/latest"), accept).status == 200
    for digest in images[name].blobs:
        kind = "manifests" if digest in images[name].manifests else "blobs"
        assert raw.get(server.proxied_url(f"library/{name}/{kind}/{digest}"), accept).complete


def test_a_good_server_passes_all_and_each_client_is_served(
    hub: Hub, published: Publish, images: Images, gateway: GatewayFactory, scratch: Path
) -> None:
    published("tiny")
    published("multi")
    (scratch / "password").write_text(CANARY)
    hub.tokens.users["ada"] = CANARY
    login = {"username": "ada", "password_file": str(scratch / "password"), "groups": ["hub"]}
    server = gateway({"upstreams": {"docker.io": hub.settings(**login)}})
    server.cli("user", "create", "somebody")  # so that a ping is challenged, and clients request a token
    pull(server, images, "tiny")
    for words, responses in (((), 6), (("--image", "library/multi:latest"), 7)):
        completed = server.cli("doctor", *words, "--json")
        checks = by_name([Check(**entry) for entry in json.loads(completed.stdout)])
        assert {name: check.detail for name, check in checks.items() if not check.ok} == {}
        assert completed.returncode == 0
        assert {"settings", "data folder", "free space", "inodes", "file descriptors", "clock", "server"} < set(checks)
        assert verdicts(checks, *STAGES, *PULLS) == [True] * 8
        assert "200 of 200 pulls" not in checks[f"{NAME}: quota of ada"].detail  # some were pulled
        assert "of 200 pulls are left" in checks[f"{NAME}: quota of ada"].detail
        assert f"{responses} responses" in checks["pull as docker"].detail

    def is_logged(client: str) -> bool:
        lines = [line for line in server.log_text().splitlines() if "library/tiny/manifests" in line]
        return any(f"user_agent='{client}" in line or f"user_agent={client}" in line for line in lines)

    for client in ("docker/", "containerd/2", "containers/", "containerd/1"):
        wait_until(lambda client=client: is_logged(client), what=f"{client} is not logged")  # type: ignore[misc]
    assert found_in(completed.stdout.encode()) == []


def test_a_check_that_cannot_be_made_is_no_failure(hub: Hub, published: Publish, doctor: Doctor) -> None:
    published("tiny")
    checks = doctor(hub.settings())
    assert [check.name for check in checks.values() if check.ok is False] == []
    assert verdicts(checks, "server", *PULLS) == [None] * 5
    assert "no server runs" in checks["server"].detail
    assert verdicts(checks, *STAGES, f"{NAME}: anonymous login", f"{NAME}: anonymous quota") == [True] * 6


def test_with_nothing_cached_the_replayed_pulls_need_an_image(
    hub: Hub, published: Publish, gateway: GatewayFactory
) -> None:
    published("tiny", repository="library/alpine")
    server = gateway({"upstreams": {"docker.io": hub.settings()}})
    checks = examined(server)
    assert verdicts(checks, "server", *PULLS) == [True, None, None, None, None]
    assert "--image" in checks[PULLS[0]].detail


# One thing broken.


def test_invalid_settings_are_listed_one_by_one(doctor: Doctor, tmp_path: Path) -> None:
    config = tmp_path / "bad.toml"
    config.write_text('host = 7\nprot = 8080\n[upstreams."docker.io"]\nurl = "ftp://x"\n')
    checks = examine_with(config, tmp_path)
    assert [(check.name, check.ok) for check in checks] == [("settings", False)] * 3
    assert all(check.remedy for check in checks)


def test_without_a_data_folder_nothing_else_is_checked(tmp_path: Path) -> None:
    checks = by_name(examine_with(None, tmp_path / "absent"))
    assert verdicts(checks, "settings", "data folder") == [True, False]
    assert len(checks) == 2


def test_a_folder_that_takes_no_files_and_has_no_space_fails() -> None:
    checks = by_name(examine_machine(Path("/sys")))
    assert verdicts(checks, "data folder", "free space") == [False, False]


def test_an_upstream_that_is_down_fails_at_the_connection(hub: Hub, doctor: Doctor) -> None:
    hub.refuse()
    checks = doctor(hub.settings())
    assert verdicts(checks, *STAGES) == [True, True, False, None]
    assert "firewall" in checks[f"{NAME}: connection"].remedy
    assert checks["clock"].ok is None


def test_an_upstream_in_a_private_network_fails_at_the_address(hub: Hub, doctor: Doctor) -> None:
    checks = doctor(hub.settings(private_addresses=False))
    assert verdicts(checks, *STAGES) == [True, False, None, None]
    assert "private_addresses = true" in checks[f"{NAME}: address"].detail
    assert hub.log.select() == []


def test_an_unknown_authority_fails_at_tls(
    tls_hub: Hub, published: Publish, authority: Authority, doctor: Doctor
) -> None:
    published("tiny")
    stages = [*STAGES[:3], f"{NAME}: tls", STAGES[3]]
    checks = doctor(tls_hub.settings(ca_file=""))
    assert verdicts(checks, *stages) == [True, True, True, False, None]
    assert "ca_file" in checks[f"{NAME}: tls"].remedy
    assert verdicts(doctor(tls_hub.settings(ca_file="/nowhere.pem")), *stages) == [True, True, True, False, None]
    assert verdicts(doctor(tls_hub.settings()), *stages, f"{NAME}: anonymous pull") == [True] * 6


@pytest.mark.parametrize("lie", [refused(503), html(404), answered(302, b"", Location="/login")])
def test_what_is_no_registry_fails_at_the_answer(liar: Liar, doctor: Doctor, lie: Lie) -> None:
    liar.behave("/v2/", lie)
    checks = doctor(liar.settings())
    assert verdicts(checks, *STAGES) == [True, True, True, False]
    assert f"{NAME}: anonymous login" not in checks


def test_a_wrong_password_fails_at_the_login(hub: Hub, published: Publish, doctor: Doctor, tmp_path: Path) -> None:
    published("tiny")
    hub.tokens.users["ada"] = CANARY
    (tmp_path / "password").write_text("wrong-" + CANARY)
    login = {"username": "ada", "password_file": str(tmp_path / "password"), "groups": ["hub"]}
    checks = doctor(hub.settings(**login))
    assert verdicts(checks, *STAGES) == [True] * 4
    assert verdicts(checks, *(f"{NAME}: {what} of ada" for what in ("login", "pull", "quota"))) == [False, None, None]
    assert "401" in checks[f"{NAME}: login of ada"].detail
    assert "password_file" in checks[f"{NAME}: login of ada"].remedy
    (tmp_path / "password").unlink()
    assert "cannot be read" in doctor(hub.settings(**login))[f"{NAME}: login of ada"].detail


@pytest.mark.parametrize("expired", [None, EXPIRED_AT_ECR])
def test_a_password_that_ran_out_fails_at_the_login(
    expired: Lie | None, images: Images, doctor: Doctor, tmp_path: Path
) -> None:
    password_file = tmp_path / "password"
    password_file.write_text(CANARY)
    with Guarded("Basic", ada=CANARY) as registry:
        registry.offer(images.tiny)
        registry.expired = expired
        upstream = registry.settings(username="ada", password_file=str(password_file), groups=["hub"])
        checks = doctor(upstream)
        assert checks[f"{NAME}: login of ada"].ok
        assert checks[f"{NAME}: pull of ada"].ok
        registry.users = {"ada": "next"}
        login = doctor(upstream)[f"{NAME}: login of ada"]
    assert login.ok is False
    assert "refuses user ada" in login.detail
    assert "password_file" in str(login.remedy)


def test_a_token_service_that_is_not_named_fails_at_the_login(
    hub: Hub, published: Publish, doctor: Doctor, tmp_path: Path
) -> None:
    published("tiny")
    (tmp_path / "password").write_text(CANARY)
    login = {"username": "ada", "password_file": str(tmp_path / "password"), "groups": ["hub"]}
    checks = doctor(hub.settings(token_hosts=[], **login))
    assert checks[f"{NAME}: login of ada"].ok is False
    assert "token_hosts" in checks[f"{NAME}: login of ada"].detail
    assert hub.log.count("token") == 0


def test_an_exhausted_quota_fails(hub: Hub, published: Publish, doctor: Doctor) -> None:
    published("tiny")
    hub.exhausted = True
    checks = doctor(hub.settings())
    assert verdicts(checks, f"{NAME}: anonymous pull", f"{NAME}: anonymous quota") == [True, False]
    assert "0 of 100 pulls" in checks[f"{NAME}: anonymous quota"].detail
    hub.limit = None
    assert "no limit" in doctor(hub.settings())[f"{NAME}: anonymous quota"].detail


def test_an_image_that_is_not_there_fails_at_the_pull(hub: Hub, doctor: Doctor) -> None:
    checks = doctor(hub.settings(), "library/never-there")
    assert checks[f"{NAME}: anonymous pull"].ok is False
    assert "--image" in checks[f"{NAME}: anonymous pull"].remedy


@pytest.mark.parametrize("image", ["UPPER", "quay.io/a/b", "tiny@sha256:12"])
def test_a_name_that_is_none_fails_as_image(hub: Hub, doctor: Doctor, image: str) -> None:
    checks = doctor(hub.settings(), image)
    assert checks["image"].ok is False


@pytest.mark.parametrize(("minutes", "ok"), [(-5, False), (5, False), (0, True)])
def test_a_clock_that_is_wrong_fails(liar: Liar, images: Images, doctor: Doctor, minutes: int, ok: bool) -> None:
    liar.offer(images.tiny)
    date = format_datetime(datetime.now(UTC) + timedelta(minutes=minutes), usegmt=True)
    liar.behave("/v2/", Lie(headers={"Date": date}))
    checks = doctor(liar.settings())
    assert checks["clock"].ok is ok
    if minutes:
        assert {5: "behind", -5: "before"}[minutes] in checks["clock"].detail


def test_a_clock_that_one_upstream_agrees_with_is_right(
    liar: Liar, hub: Hub, published: Publish, gateway: GatewayFactory
) -> None:
    published("tiny", repository="library/alpine")
    wrong = format_datetime(datetime.now(UTC) - timedelta(days=1), usegmt=True)
    liar.behave("/v2/", Lie(headers={"Date": wrong}))
    server = gateway({"upstreams": {"docker.io": hub.settings(), "odd.example": liar.settings()}}, start=False)
    asyncio.run(make(Settings(data=server.data)))
    checks = examined(server)
    assert checks["clock"].ok is True
    assert checks["upstream odd.example: anonymous login"].ok is None  # no image of it is known


# The machine.


def test_few_descriptors_fail() -> None:
    assert check_descriptors(1024).ok is False


MOUNTS = """\
22 1 0:20 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:21 / /srv rw - xfs /dev/sdb rw
24 23 0:22 / /srv/with\\040space rw shared:3 master:1 - nfs4 server:/x rw
nonsense
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [("/", "ext4"), ("/srv/data", "xfs"), ("/srvx", "ext4"), ("/srv/with space/data", "nfs4")],
)
def test_a_folder_lies_on_the_nearest_mount(folder: str, kind: str) -> None:
    assert file_system_of(Path(folder), MOUNTS) == kind


def test_a_network_file_system_fails() -> None:
    assert check_file_system(Path("/srv/with space/data"), MOUNTS).ok is False
    assert check_file_system(Path("/srv/data"), MOUNTS).ok is True


# The pulls, against a server whose responses are wrong.

GOOD = Lie(headers={"X-Cache": "HIT"})


@pytest.fixture
def served(liar: Liar, images: Images) -> Liar:
    """Responds as our server would, until it is told to lie."""
    liar.offer(images.multi)
    liar.behave("", GOOD)
    return liar


TARGET = PullTarget("hub/dependency_proxy/containers/docker.io/library/multi", "docker.io", Tag("latest"))


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
def test_each_client_pulls_as_its_profile_says(served: Liar, images: Images, profile: ClientProfile) -> None:
    check = replay(profile, served.url, None, TARGET)
    assert check.ok, check.detail
    asked = served.requests.select()
    kinds = [(r.method, r.path.partition("/containers/docker.io/library/multi/")[2].partition("/")[0]) for r in asked]
    ping, head = [("GET", "")], [("HEAD", "manifests")]
    rest = [("GET", "manifests")] * 2 + [("GET", "blobs")] * 2
    assert kinds == (ping if profile.pings else []) + (head if profile.sends_head else []) + rest
    first = next(r for r in asked if "manifests" in r.path)
    accepts = [value for key, value in first.values if key.lower() == "accept"]
    assert len(accepts) == (1 if profile.name in ("containerd", "buildkit") else len(profile.accept))
    assert len(accepts) == 1 or len(accepts) > 3
    closing = profile.name in ("docker", "podman")
    assert served.connections == (len(asked) if closing else 1)
    assert {r.header("connection") for r in asked} == {"close" if closing else None}
    assert {r.query for r in asked} == {"ns=docker.io" if profile.name == "containerd" else ""}
    assert {r.header("accept-encoding") for r in asked if "/blobs/" in r.path} == {"gzip"}
    named = [r for r in asked if images.multi.digest in r.path]
    assert bool(named) == (profile.name != "podman")  # a tag that was resolved by HEAD is pulled by digest


@pytest.mark.parametrize(
    ("path", "lie", "said"),
    [
        ("/v2/", refused(503), "503"),
        (
            "/v2/",
            Lie(headers={"Docker-Distribution-API-Version": None, "Docker-Distribution-Api-Version": None}),
            "API",
        ),
        ("/manifests/", refused(403, "DENIED"), "DENIED, told so"),
        ("/manifests/latest", refused(404), "404"),
        ("/manifests/", redirected("/elsewhere"), "307"),
        ("/manifests/", Lie(), "X-Cache"),
        ("/manifests/", media_type("text/html"), "text/html"),
        ("/manifests/", digest_header(), "MANIFEST_UNKNOWN"),
        ("/manifests/", digest_header("sha256:1"), "specification"),
        ("/manifests/", Lie(headers={"Docker-Content-Digest": None}), "Docker-Content-Digest"),
        ("/manifests/sha256", flipped(5), "digest"),
        ("/blobs/", flipped(-1), "digest"),
        ("/blobs/", short(3), "3 bytes came"),
        ("/blobs/", encoded(), "Content-Encoding"),
        ("/blobs/", refused(404, "BLOB_UNKNOWN"), "BLOB_UNKNOWN"),
        ("/blobs/", Lie(), "X-Cache"),
    ],
)
def test_a_response_that_a_client_would_refuse_is_named(served: Liar, path: str, lie: Lie, said: str) -> None:
    headers = dict(lie.headers) if lie == Lie() else {**GOOD.headers, **lie.headers}
    served.behave(path, replace(lie, headers=headers))
    check = replay(PROFILES[0], served.url, None, TARGET)
    assert check.ok is False
    assert said in check.detail
    assert check.remedy


def test_a_server_that_does_not_respond_is_given_up(served: Liar) -> None:
    served.behave("/manifests/", stalled(-1))
    check = replay(PROFILES[1], served.url, None, TARGET, timeout=0.3)
    assert (check.ok, "timed out" in check.detail) == (False, True)


def test_a_server_that_run_json_announces_but_that_cannot_be_reached_fails(
    hub: Hub, published: Publish, gateway: GatewayFactory
) -> None:
    published("tiny", repository="library/alpine")
    server = gateway({"upstreams": {"docker.io": hub.settings()}}, start=False)
    asyncio.run(make(Settings(data=server.data)))
    mine = json.dumps({"pid": 1, "addresses": [server.url]})
    (server.data / "run.json").write_text(mine)
    completed = server.cli("doctor")
    assert completed.returncode == 1
    lines = {line.split("\t")[1]: line for line in completed.stdout.splitlines()}
    assert lines["server"].startswith("FAILED")
    assert "log" in lines["server"]
    assert all(lines[name].startswith("not run") for name in PULLS)


def test_accounts_by_which_everybody_may_pull_are_reported_by_serve_and_doctor(
    liar: Liar, gateway: GatewayFactory
) -> None:
    lent = {**liar.settings(), "username": "ours", "password_file": "/nowhere", "groups": ["hub"]}
    server = gateway({"upstreams": {"docker.io": liar.settings(), "lent.test": lent}}, start=False)
    (server.directory / "password").write_text(CANARY)
    password = f"--upstream-password-file={server.directory / 'password'}"
    opened = ["--visibility=public", "--anonymous-pull"]
    assert server.cli("group", "create", "open", *opened, "--upstream-username=theirs", password).returncode == 0
    assert server.cli("group", "create", "closed", "--upstream-username=a", password).returncode == 0
    server.start()
    warned = [line for line in server.log_text().splitlines() if "account_open_to_all" in line]
    assert len(warned) == 2
    assert "groups of upstreams" in warned[0]
    assert "upstream_username of group open" in warned[1]
    found = {name: check for name, check in examined(server).items() if name.startswith("account of group")}
    assert list(found) == ["account of group hub at lent.test", "account of group open at docker.io"]
    assert all(check.ok and "anonymous_pull" in str(check.remedy) for check in found.values())
    assert all("groups of" in check.detail or "upstream_username" in check.detail for check in found.values())


def test_what_an_account_reads_is_not_expected_of_others(
    liar: Liar, images: Images, gateway: GatewayFactory, scratch: Path
) -> None:
    (scratch / "password").write_text("a long secret")
    account = {"username": "ada", "password_file": str(scratch / "password")}
    server = gateway({"upstreams": {"docker.io": liar.settings(), "odd.example": liar.settings(**account)}})
    for words in ("group create ci", "user create bob --password-file {}", "member add ci bob guest"):
        assert server.cli(*words.format(scratch / "password").split()).returncode == 0
    liar.offer(images["tiny"])
    path = "/v2/ci/dependency_proxy/containers/odd.example/app/tiny/manifests/latest"
    login = [("Authorization", f"Basic {base64.b64encode(b'bob:a long secret').decode()}")]
    assert raw.get(f"{server.url}{path}", login).status == 200
    checks = examined(server)
    assert verdicts(checks, "upstream odd.example: pull of ada", "upstream odd.example: anonymous pull") == [True, None]
    closed = by_name(examine(Session(server.config_file, str(server.data), False), "odd.example/app/tiny", "ci"))
    assert verdicts(closed, "upstream odd.example: pull of ada", "server", *PULLS) == [True, True, *[None] * 4]
    assert "with a login alone" in closed[PULLS[0]].detail and "access explain" in closed[PULLS[0]].detail
    assert "was pulled without an account" in checks["upstream odd.example: anonymous pull"].detail


def test_a_gate_of_another_group_fails_no_client(
    hub: Hub, published: Publish, images: Images, gateway: GatewayFactory
) -> None:
    published("tiny")
    server = gateway({"upstreams": {"docker.io": hub.settings()}})
    for path, gate in (("cooled", "--cooldown=3d"), ("denied", "--deny=library/*"), ("open", "--allow=library/*")):
        assert server.cli("group", "create", path, "--visibility=public", "--anonymous-pull", gate).returncode == 0
    assert server.cli("group", "delete", "hub").returncode == 0
    image = server.proxied_url("library/tiny/manifests/latest").replace("/hub/", "/open/")
    assert raw.get(image, [("Accept", "application/vnd.oci.image.manifest.v1+json")]).status == 200
    checks = examined(server)
    assert verdicts(checks, "server", *PULLS) == [True] * 5
    assert "open/dependency_proxy" in checks["pull as docker"].detail
    completed = server.cli("doctor", "--group", "cooled")
    assert (completed.returncode, "not run\tpull as docker" in completed.stdout) == (0, True)
    completed = server.cli("doctor", "--group", "nowhere")
    assert (completed.returncode, "there is no group 'nowhere'" in completed.stdout) == (1, True)


def test_a_group_without_anonymous_pull_fails_every_client(
    hub: Hub, published: Publish, gateway: GatewayFactory
) -> None:
    published("tiny")
    server = gateway({"upstreams": {"docker.io": hub.settings()}})
    assert server.cli("group", "update", "hub", "--no-anonymous-pull").returncode == 0
    checks = examined(server, "tiny")
    assert verdicts(checks, "server", *PULLS) == [True, False, False, False, False]
    assert all("UNAUTHORIZED" in checks[name].detail and "--anonymous-pull" in checks[name].remedy for name in PULLS)

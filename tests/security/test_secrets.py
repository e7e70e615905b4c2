"""Tests that no secret shows anywhere: not in responses, logs, files, or the output of commands.

In addition, the fixture `gateway` searches the log and the data folder of every server of the whole test run.
"""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.parts import raw
from tests.parts.canaries import CANARY, found_below, found_in
from tests.parts.echo import PLACES, Echo
from tests.parts.gateway import Gateway
from tests.parts.hub import Hub
from tests.parts.images import Images

ACCEPT = [("Accept", "application/vnd.oci.image.manifest.v1+json")]


@pytest.fixture
def lent(gateway: Callable[..., Gateway], hub: Hub, published: Callable[..., str], scratch: Path) -> Gateway:
    """Starts a server with an account of its own upstream, which its group may use."""
    published("tiny")
    hub.tokens.users["ada"] = CANARY
    (scratch / "password").write_text(f"{CANARY}\n")
    settings = hub.settings(username="ada", password_file=str(scratch / "password"), groups=["hub"])
    return gateway({"upstreams": {"docker.io": settings}, "cache": {"ttl": "1s"}})


def test_a_whole_life_shows_no_secret(lent: Gateway, hub: Hub, images: Images) -> None:
    answers = [raw.get(lent.proxied_url("tiny/manifests/latest"), ACCEPT)]
    answers += [raw.get(lent.proxied_url(f"tiny/blobs/{digest}")) for digest in images.tiny.blobs]
    hub.tokens.revoke_all()
    for knob in ("exhausted", "down"):
        setattr(hub, knob, True)
        answers.append(raw.get(lent.proxied_url("other/manifests/latest"), ACCEPT))
        setattr(hub, knob, False)
    hub.cdn.down = True
    answers.append(raw.get(lent.proxied_url(f"tiny/blobs/sha256:{'0' * 64}")))
    for answer in answers:
        assert found_in(answer.body) == []
        assert found_in(repr(answer.headers).encode()) == []
    lent.stop()
    assert hub.tokens.users["ada"] == CANARY
    assert hub.count("token") > 0
    assert found_in(lent.log_text().encode()) == []
    assert found_below(lent.data) == {}


def test_commands_show_no_secret(lent: Gateway, scratch: Path) -> None:
    words = ["--upstream-username", "ada", "--upstream-password-file", str(scratch / "password")]
    outputs = [
        lent.cli("group", "create", "team", *words),
        lent.cli("group", "show", "team", "--json"),
        lent.cli("group", "list", "--json"),
        lent.cli("config", "show", "--json"),
        lent.cli("cache", "list", "--json"),
    ]
    for output in outputs:
        assert output.returncode == 0, output.stderr
        assert found_in((output.stdout + output.stderr).encode()) == []
    assert found_below(lent.data) == {}


def test_a_wrong_password_is_not_told_either(lent: Gateway, hub: Hub) -> None:
    hub.tokens.users["ada"] = "another"
    answer = raw.get(lent.proxied_url("tiny/manifests/latest"), ACCEPT)
    assert answer.status == 503
    assert b"ada" in answer.body
    assert found_in(answer.body) == []


def test_the_search_would_find_one(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(f"password={CANARY}")
    assert found_below(tmp_path) == {str(tmp_path / "log"): [CANARY]}


def test_an_upstream_that_repeats_our_login_shows_it_to_nobody(
    gateway: Callable[..., Gateway], scratch: Path, images: Images
) -> None:
    (scratch / "password").write_text(f"{CANARY}\n")
    login = {"username": "ada", "password_file": str(scratch / "password"), "groups": ["hub"]}
    digest, answers = next(iter(images.tiny.blobs)), []
    paths = ["manifests/latest", f"manifests/{digest}", f"blobs/{digest}", "tags/list", f"referrers/{digest}"]
    with ExitStack() as running:
        echoes = {place: running.enter_context(Echo(response)) for place, response in PLACES.items()}
        names = {place: f"{place.replace(' ', '-').replace(chr(39), '')}.example" for place in PLACES}
        upstreams = {names[place]: echo.settings(**login) for place, echo in echoes.items()}
        server = gateway({"upstreams": upstreams, "log_format": "json"})
        for place, echo in echoes.items():
            for path in paths:
                answers.append(raw.get(server.proxied_url(f"{names[place]}/acme/app/{path}"), ACCEPT))
                answers.append(raw.head(server.proxied_url(f"{names[place]}/acme/app/{path}"), ACCEPT))
            assert echo.echoed, place
    assert {answer.status for answer in answers} <= {200, 404, 502, 503}
    for answer in answers:
        assert found_in(answer.body) == []
        assert found_in(repr(answer.headers).encode()) == []
        assert len(answer.body) < 600
    server.stop()
    assert found_in(server.log_text().encode()) == []
    assert found_below(server.data) == {}

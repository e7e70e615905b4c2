"""Upstreams: which images may be pulled, and with whose credential."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from cache.oci.names import RepositoryName, Tag
from cache.upstream.errors import Corrupt, Unavailable
from cache.values import Origin
from gateway.keys.sealing import Sealer
from gateway.keys.upstream_login import seal_login
from gateway.namespaces.group import Group, Login
from gateway.namespaces.node import Visibility
from gateway.upstreams import Upstream, Upstreams, open_accounts
from tests.parts.images import Images
from tests.parts.liar import Liar
from tests.parts.lies import Lie, refused

IMAGE = RepositoryName("library/tiny")
LATEST = Tag("latest")
OPEN = Group(
    id=1,
    path="hub",
    visibility=Visibility.PUBLIC,
    proxy_enabled=True,
    anonymous_pull=True,
    default_upstream="docker.io",
    upstream_username=None,
    upstream_password_sealed=None,
    created_at=datetime(2025, 1, 2, tzinfo=UTC),
)
CLOSED = replace(OPEN, id=2, path="team", anonymous_pull=False, visibility=Visibility.PRIVATE)
HUB = Upstream("docker.io", "https://registry-1.docker.io")
ACCOUNT = replace(HUB, username="ours", password_file=Path("/nowhere"))


# Which images.


@pytest.mark.parametrize(
    ("allow", "deny", "image", "expected"),
    [
        (("*",), (), "library/tiny", True),
        (("*",), (), "a/b/c/d", True),
        ((), (), "library/tiny", False),
        (("library/*",), (), "library/tiny", True),
        (("library/*",), (), "library/a/b", True),
        (("library/*",), (), "librarys/tiny", False),
        (("library/*",), (), "other/library/tiny", False),
        (("acme/*", "library/*"), (), "library/tiny", True),
        (("library/tin?",), (), "library/tiny", True),
        (("library/tin?",), (), "library/tin", False),
        (("library/[a-t]iny",), (), "library/tiny", True),
        (("library/[!t]iny",), (), "library/tiny", False),
        (("tiny",), (), "library/tiny", False),
        (("*",), ("library/tiny",), "library/tiny", False),
        (("*",), ("library/tiny",), "library/tiny2", True),
        (("library/tiny",), ("library/*",), "library/tiny", False),
        (("*",), ("*",), "library/tiny", False),
    ],
)
def test_an_upstream_permits(allow: tuple[str, ...], deny: tuple[str, ...], image: str, expected: bool) -> None:
    assert replace(HUB, allow=allow, deny=deny).permits(RepositoryName(image)) is expected


# Whose credential.


@pytest.mark.parametrize(
    ("upstream", "group", "expected"),
    [
        (HUB, OPEN, False),
        (HUB, CLOSED, False),
        (ACCOUNT, OPEN, False),
        (ACCOUNT, CLOSED, True),
        (replace(ACCOUNT, groups=frozenset({"hub"})), OPEN, True),
        (replace(ACCOUNT, groups=frozenset({"hub"})), CLOSED, False),
        (replace(ACCOUNT, groups=frozenset({"team"})), OPEN, False),
        (replace(ACCOUNT, groups=frozenset({"team"})), CLOSED, True),
        (replace(ACCOUNT, groups=frozenset({"team"})), replace(CLOSED, path="team/below"), False),
        (replace(ACCOUNT, groups=frozenset({"elsewhere"})), CLOSED, False),
        (replace(HUB, groups=frozenset({"hub"})), OPEN, False),
        (replace(HUB, client_cert=Path("/nowhere")), OPEN, False),
        (replace(HUB, client_cert=Path("/nowhere")), CLOSED, True),
        (replace(HUB, headers=(("X-Key", "k"),), groups=frozenset({"hub"})), OPEN, True),
    ],
)
def test_the_configured_credential_serves(upstream: Upstream, group: Group, expected: bool) -> None:
    assert upstream.lends_to(group) is expected


OWN = {"upstream_username": "theirs", "upstream_password_sealed": "sealed"}


@pytest.mark.parametrize(
    ("group", "upstream", "expected"),
    [
        (OPEN, HUB, []),
        (OPEN, ACCOUNT, []),
        (CLOSED, ACCOUNT, []),
        (replace(CLOSED, **OWN), HUB, []),
        (replace(OPEN, **OWN), HUB, [("theirs", "upstream_username of group hub")]),
        (replace(OPEN, **OWN), ACCOUNT, [("theirs", "upstream_username of group hub")]),
        (replace(OPEN, **OWN, proxy_enabled=False), HUB, []),
        (replace(OPEN, **OWN), replace(HUB, name="quay.io"), []),
        (
            OPEN,
            replace(HUB, client_cert=Path("/nowhere"), groups=frozenset({"hub"})),
            [("client certificate", 'groups of upstreams."docker.io"')],
        ),
        (OPEN, replace(ACCOUNT, groups=frozenset({"hub"})), [("ours", 'groups of upstreams."docker.io"')]),
        (CLOSED, replace(ACCOUNT, groups=frozenset({"team"})), []),
    ],
)
def test_an_account_is_open_to_all(group: Group, upstream: Upstream, expected: list[tuple[str, str]]) -> None:
    accounts = open_accounts([group], [upstream])
    assert [(account.username, account.setting) for account in accounts] == expected
    assert all((account.group, account.upstream) == (group.path, upstream.name) for account in accounts)


@pytest.fixture
def sealer(tmp_path: Path) -> Sealer:
    return Sealer(tmp_path / "keys")


Make = Callable[..., Upstreams]


@pytest.fixture
async def make(sealer: Sealer) -> AsyncIterator[Make]:
    made: list[Upstreams] = []

    def upstreams(*configured: Upstream) -> Upstreams:
        made.append(Upstreams(configured, sealer))
        return made[-1]

    yield upstreams
    for each in made:
        await each.close()


async def test_names_are_sorted(make: Make) -> None:
    assert make(replace(HUB, name="quay.io"), HUB).names == ["docker.io", "quay.io"]


async def test_a_source_is_the_origin_and_whose_credential_is_shown(make: Make) -> None:
    origin = Origin("https", "registry-1.docker.io", 443)
    plain, lent = make(HUB), make(ACCOUNT)
    own = replace(CLOSED, upstream_username="theirs", upstream_password_sealed="sealed")
    found = {
        "nobody": plain.source(CLOSED, "docker.io"),
        "open group": lent.source(OPEN, "docker.io"),
        "account": lent.source(CLOSED, "docker.io"),
        "group's own": lent.source(own, "docker.io"),
        "group's own, open": lent.source(replace(own, anonymous_pull=True), "docker.io"),
        "group's own elsewhere": make(ACCOUNT, replace(ACCOUNT, name="quay.io")).source(own, "quay.io"),
    }
    assert {source.origin for source in found.values()} == {origin}
    assert {name: str(source.credential) for name, source in found.items()} == {
        "nobody": "",
        "open group": "",
        "account": "upstream:docker.io:ours",
        "group's own": "group:2:theirs",
        "group's own, open": "group:2:theirs",
        "group's own elsewhere": "upstream:quay.io:ours",
    }


@pytest.mark.parametrize(
    ("account", "other"),
    [
        ({"headers": (("X-Key", "one"),)}, {"headers": (("X-Key", "two"),)}),
        ({"client_cert": Path("/one")}, {"client_cert": Path("/two")}),
        (
            {"username": "$oauthtoken", "password_file": Path("/one")},
            {"username": "$oauthtoken", "password_file": Path("/two")},
        ),
    ],
)
async def test_accounts_of_two_upstreams_at_one_registry_are_two_sources(
    account: dict[str, Any], other: dict[str, Any], make: Make
) -> None:
    """All accounts of some registries have one user name (https://docs.nvidia.com/ngc/latest/ngc-catalog-user-guide.html);
    certificates and headers have none."""
    upstreams = make(replace(HUB, **account), replace(HUB, name="second.example", **other))
    assert upstreams.source(CLOSED, "docker.io") != upstreams.source(CLOSED, "second.example")
    assert upstreams.source(OPEN, "docker.io") == upstreams.source(OPEN, "second.example")


async def test_two_groups_with_one_user_name_are_two_sources(make: Make) -> None:
    own = replace(CLOSED, upstream_username="theirs", upstream_password_sealed="sealed")
    upstreams = make(HUB)
    assert upstreams.source(own, "docker.io") != upstreams.source(replace(own, id=3, path="else"), "docker.io")


async def test_a_user_name_cannot_be_taken_for_a_group_login(make: Make) -> None:
    own = replace(CLOSED, upstream_username="theirs", upstream_password_sealed="sealed")
    posing = make(replace(ACCOUNT, username="group:2:theirs")).source(CLOSED, "docker.io")
    assert posing != make(HUB).source(own, "docker.io")


async def test_a_renamed_group_keeps_its_source_and_another_upstream_under_the_name_does_not(make: Make) -> None:
    own = replace(CLOSED, upstream_username="theirs", upstream_password_sealed="sealed")
    upstreams = make(HUB)
    assert upstreams.source(own, "docker.io") == upstreams.source(replace(own, path="moved"), "docker.io")
    moved = make(replace(HUB, url="https://elsewhere.example"))
    assert upstreams.source(own, "docker.io") != moved.source(own, "docker.io")


async def test_groups_that_show_the_same_credential_share_a_client(make: Make, sealer: Sealer) -> None:
    upstreams = make(ACCOUNT)
    also_closed = replace(CLOSED, id=3, path="other")
    assert upstreams.client(CLOSED, "docker.io") is upstreams.client(also_closed, "docker.io")
    assert upstreams.client(CLOSED, "docker.io") is not upstreams.client(OPEN, "docker.io")


async def test_a_new_password_of_a_group_makes_a_new_client(make: Make, sealer: Sealer) -> None:
    upstreams = make(HUB)
    first = upstreams.client(seal_login(CLOSED, Login("theirs", "one"), sealer), "docker.io")
    second = upstreams.client(seal_login(CLOSED, Login("theirs", "two"), sealer), "docker.io")
    assert first is not second
    assert first.source == second.source


@pytest.mark.parametrize(
    "listed", [b'["a", "\\ud800"]', b'["\\u00e9"]', b'["a", 1]', b'[["a"]]', b'{"a": 1}', b'"a"', b"7"]
)
@pytest.mark.parametrize("paged", [True, False])
async def test_a_list_of_tags_that_is_none_is_a_wrong_answer(
    listed: bytes, paged: bool, liar: Liar, make: Make
) -> None:
    more = {"Link": '</v2/library/tiny/tags/list?last=a>; rel="next"'} if paged else {}
    body = b'{"name": "library/tiny", "tags": %b}' % listed
    liar.behave("/tags/list", Lie(body=body, headers={"Content-Type": "application/json", **more}))
    with pytest.raises(Corrupt, match="invalid tag list"):
        await make(of(liar)).client(OPEN, "docker.io").tags(IMAGE)


# What the upstream sees of it. The credential goes out when it is asked for by a challenge.


@pytest.fixture
def guarded(liar: Liar, images: Images) -> Liar:
    """An upstream that asks for Basic, and never takes it."""
    liar.offer(images.tiny)
    challenge = refused(401, "UNAUTHORIZED")
    liar.behave("/manifests/", replace(challenge, headers=challenge.headers | {"WWW-Authenticate": 'Basic realm="x"'}))
    return liar


def of(liar: Liar, **more: Any) -> Upstream:
    return Upstream("docker.io", liar.url, private_addresses=True, **more)


async def shown(upstreams: Upstreams, group: Group, liar: Liar) -> list[str]:
    """The credentials that reach the upstream during one pull that it refuses."""
    liar.requests.clear()
    with pytest.raises(Exception, match="refuse"):
        await upstreams.client(group, "docker.io").get_manifest(IMAGE, LATEST)
    sent = (record.header("authorization") for record in liar.requests.select())
    return [value for value in sent if value is not None]


async def test_a_group_that_is_lent_nothing_shows_nothing(guarded: Liar, make: Make, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("ours-secret")
    upstreams = make(of(guarded, username="ours", password_file=tmp_path / "password"))
    assert await shown(upstreams, OPEN, guarded) == []


async def test_a_password_file_is_read_again_when_it_changes(guarded: Liar, make: Make, tmp_path: Path) -> None:
    file = tmp_path / "password"
    upstreams = make(of(guarded, username="ours", password_file=file))
    file.write_text("one\n")
    assert "Basic b3VyczpvbmU=" in await shown(upstreams, CLOSED, guarded)
    file.write_text("two\r\n")
    assert set(await shown(upstreams, CLOSED, guarded)) >= {"Basic b3Vyczp0d28="}


async def test_a_password_keeps_spaces_and_loses_only_the_line_end(guarded: Liar, make: Make, tmp_path: Path) -> None:
    (tmp_path / "password").write_text(" a b \n")
    upstreams = make(of(guarded, username="ours", password_file=tmp_path / "password"))
    assert "Basic b3VyczogYSBiIA==" in await shown(upstreams, CLOSED, guarded)


@pytest.mark.parametrize(("content", "reason"), [(None, "No such file"), (b"\xff\xfe", "not text")])
async def test_a_password_that_cannot_be_read_is_an_outage_that_names_the_upstream(
    content: bytes | None, reason: str, guarded: Liar, make: Make, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    if content is not None:
        file.write_bytes(content)
    upstreams = make(of(guarded, username="ours", password_file=file))
    with pytest.raises(Unavailable, match=rf"password_file of upstream docker\.io .*{reason}"):
        await upstreams.client(CLOSED, "docker.io").get_manifest(IMAGE, LATEST)


async def test_a_group_shows_its_own_login_instead_of_the_configured_one(
    guarded: Liar, make: Make, tmp_path: Path, sealer: Sealer
) -> None:
    (tmp_path / "password").write_text("ours-secret")
    configured = of(guarded, username="ours", password_file=tmp_path / "password", groups=frozenset({"team"}))
    group = seal_login(CLOSED, Login("theirs", "own-secret"), sealer)
    assert set(await shown(make(configured), group, guarded)) == {"Basic dGhlaXJzOm93bi1zZWNyZXQ="}


async def test_a_login_that_does_not_open_is_an_outage_whose_cause_is_for_the_log_alone(
    guarded: Liar, make: Make, sealer: Sealer
) -> None:
    of_another = replace(seal_login(CLOSED, Login("theirs", "own-secret"), sealer), id=7)
    client = make(of(guarded)).client(of_another, "docker.io")
    with capture_logs() as events, pytest.raises(Unavailable, match="login of group team cannot be opened") as refusal:
        await client.get_manifest(IMAGE, LATEST)
    assert [event["event"] for event in events] == ["login_not_opened"]
    assert "altered" in events[0]["reason"]
    assert "altered" not in refusal.value.reason
    assert not any(record.header("authorization") for record in guarded.requests.select())

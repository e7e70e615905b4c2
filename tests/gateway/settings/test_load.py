"""Loading of settings: precedence of sources, refused values and their messages, and the source of each value."""

import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gateway.known_registries import KNOWN_REGISTRIES
from gateway.settings.load import SettingsError, descriptions, load, rows, setting_names
from gateway.settings.tables import Settings, UpstreamSettings
from gateway.settings.units import Size, format_duration, parse_duration, parse_size


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "gateway.toml"


def refused(
    config: Path | None = None, environ: Mapping[str, str] | None = None, flags: Mapping[str, object] | None = None
) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(config, environ or {}, flags or {})
    assert str(caught.value).splitlines() == list(caught.value.problems)
    return list(caught.value.problems)


def refused_text(config: Path, text: str) -> list[str]:
    config.write_text(text)
    return refused(config)


# --- sizes


@pytest.mark.parametrize(
    ("text", "size", "of_a_thousand"),
    [
        ("0", Size(0), 0),
        ("80%", Size(80, percent=True), 800),
        ("100%", Size(100, percent=True), 1000),
        ("64KiB", Size(65536), 65536),
        ("1536MiB", Size(1536 << 20), 1536 << 20),
        ("10GiB", Size(10 << 30), 10 << 30),
        ("2TiB", Size(2 << 40), 2 << 40),
    ],
)
def test_a_size_reads_and_writes_the_same(text: str, size: Size, of_a_thousand: int) -> None:
    assert parse_size(text) == size
    assert str(size) == text
    assert size.of(1000) == of_a_thousand


@given(st.integers(0, 10**9))
def test_any_size_survives_the_round_trip(number: int) -> None:
    assert parse_size(str(Size(number << 10))) == Size(number << 10)


@pytest.mark.parametrize("text", ["", "5", "1.5GiB", "-1KiB", "1kib", "1KB", "101%", "1 KiB", "\u0661KiB", "GiB", "%"])
def test_what_is_not_one_number_and_one_unit_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="not a size"):
        parse_size(text)


@pytest.mark.parametrize(("name", "text"), [("max_size", "lots"), ("max_size", "101%"), ("scrub_rate", "5%")])
def test_a_wrong_size_is_refused_with_what_is_allowed(config: Path, name: str, text: str) -> None:
    [problem] = refused_text(config, f'[cache]\n{name} = "{text}"\n')
    assert f"cache.{name}" in problem
    assert "64KiB" in problem


# --- defaults


def test_nothing_given_means_the_defaults() -> None:
    loaded = load(None, {}, {})
    assert loaded.settings == Settings()
    assert set(loaded.sources.values()) == {"default"}
    settings = loaded.settings
    assert (settings.host, settings.port, settings.data) == ("127.0.0.1", 8080, Path("registry-data"))
    assert (settings.tls_cert, settings.log_format, settings.workers) == (None, "console", 0)
    assert (settings.cache.ttl, settings.cache.grace) == (timedelta(seconds=60), timedelta(days=30))


def test_docker_hub_is_built_in() -> None:
    assert load(None, {}, {}).settings.upstreams == {
        "docker.io": UpstreamSettings(
            url="https://registry-1.docker.io",
            token_hosts=("auth.docker.io",),
            redirect_hosts=KNOWN_REGISTRIES[0].redirect_hosts,
        )
    }
    assert list(Settings(upstreams={"ghcr.io": UpstreamSettings(url="https://ghcr.io")}).upstreams) == [
        "docker.io",
        "ghcr.io",
    ]


def test_a_table_overrides_single_keys_of_docker_hub(config: Path) -> None:
    config.write_text('[upstreams."docker.io"]\nurl = "https://hub.example.com/"\n')
    hub = load(config, {}, {}).settings.upstreams["docker.io"]
    assert (hub.url, hub.token_hosts) == ("https://hub.example.com", ("auth.docker.io",))


def test_settings_cannot_change_and_take_no_further_name() -> None:
    settings = Settings()
    with pytest.raises(ValidationError):
        settings.port = 1
    with pytest.raises(ValidationError):
        Settings.model_validate({"prot": 1})


# --- precedence and provenance


@pytest.mark.parametrize(
    ("in_file", "in_environ", "in_flag", "port", "source"),
    [
        (None, None, None, 8080, "default"),
        (1, None, None, 1, "file {config}"),
        (1, "2", None, 2, "environment GATEWAY_PORT"),
        (1, "2", 3, 3, "flag --port"),
        (None, "2", 3, 3, "flag --port"),
        (1, None, 3, 3, "flag --port"),
        (None, None, 0, 0, "flag --port"),
    ],
)
def test_flag_over_environment_over_file_over_default(
    config: Path, in_file: int | None, in_environ: str | None, in_flag: int | None, port: int, source: str
) -> None:
    config.write_text("" if in_file is None else f"port = {in_file}\n")
    loaded = load(config, {} if in_environ is None else {"GATEWAY_PORT": in_environ}, {"port": in_flag})
    assert loaded.settings.port == port
    assert loaded.sources["port"] == source.format(config=config)


def test_an_overridden_value_is_not_judged(config: Path) -> None:
    config.write_text("port = 99999\n")
    assert load(config, {}, {"port": 1}).settings.port == 1


def test_every_setting_has_its_own_source(config: Path) -> None:
    config.write_text(
        '[upstreams."ghcr.io"]\nurl = "https://ghcr.io"\n[upstreams.localhost]\nurl = "http://localhost"\n'
    )
    environ = {"GATEWAY_UPSTREAMS__GHCR_IO__DENY": '["*"]', "gateway_cache__ttl": "5m", "PATH": "/bin"}
    loaded = load(config, environ, {"allow_open_proxy": True, "host": None})
    assert {name: source for name, source in loaded.sources.items() if source != "default"} == {
        "allow_open_proxy": "flag --allow-open-proxy",
        "cache.ttl": "environment gateway_cache__ttl",
        'upstreams."ghcr.io".url': f"file {config}",
        'upstreams."ghcr.io".deny': "environment GATEWAY_UPSTREAMS__GHCR_IO__DENY",
        "upstreams.localhost.url": f"file {config}",
    }


# --- environment


@pytest.mark.parametrize(
    ("variable", "text", "name", "value"),
    [
        ("GATEWAY_HOST", "::1", "host", "::1"),
        ("GATEWAY_PORT", "0", "port", 0),
        ("gateway_Port", "81", "port", 81),
        ("GATEWAY_DATA", "/srv/data", "data", "/srv/data"),
        ("GATEWAY_ALLOW_OPEN_PROXY", "true", "allow_open_proxy", True),
        ("GATEWAY_ALLOW_OPEN_PROXY", "False", "allow_open_proxy", False),
        ("GATEWAY_EXTERNAL_URL", "", "external_url", ""),
        ("GATEWAY_EXTERNAL_URL", "HTTPS://R.example/Up/", "external_url", "https://r.example/Up"),
        ("GATEWAY_LOG_FORMAT", "json", "log_format", "json"),
        ("GATEWAY_CACHE__TTL", "90s", "cache.ttl", "90s"),
        ("GATEWAY_UPSTREAMS__DOCKER_IO__URL", "http://[::1]:5000", 'upstreams."docker.io".url', "http://[::1]:5000"),
        ("GATEWAY_UPSTREAMS__DOCKER_IO__TOKEN_HOSTS", "[]", 'upstreams."docker.io".token_hosts', []),
        ("GATEWAY_UPSTREAMS__DOCKER_IO__ALLOW", '["a/*", "b"]', 'upstreams."docker.io".allow', ["a/*", "b"]),
        ("GATEWAY_UPSTREAMS__QUAY_IO__URL", "https://quay.io", 'upstreams."quay.io".url', "https://quay.io"),
        (
            "GATEWAY_UPSTREAMS__LOCALHOST__URL",
            "http://localhost:5000",
            "upstreams.localhost.url",
            "http://localhost:5000",
        ),
    ],
)
def test_a_variable_sets(variable: str, text: str, name: str, value: object) -> None:
    row = next(row for row in rows(load(None, {variable: text}, {})) if row.name == name)
    assert (row.value, row.source) == (value, f"environment {variable}")


@pytest.mark.parametrize(
    ("upstream", "segment"),
    [("my-mirror.example.com", "MY_MIRROR_EXAMPLE_COM"), ("xn--80ak6aa.example", "XN__80AK6AA_EXAMPLE")],
)
def test_a_variable_finds_the_upstream_of_the_file(config: Path, upstream: str, segment: str) -> None:
    config.write_text(f'[upstreams."{upstream}"]\nurl = "https://a.example"\n')
    loaded = load(config, {f"GATEWAY_UPSTREAMS__{segment}__PRIVATE_ADDRESSES": "true"}, {})
    assert list(loaded.settings.upstreams) == ["docker.io", upstream]
    assert loaded.settings.upstreams[upstream].private_addresses


def test_a_variable_that_means_two_upstreams_is_refused(config: Path) -> None:
    config.write_text('[upstreams]\n"a-b.c" = {url = "https://a.example"}\n"a.b.c" = {url = "https://b.example"}\n')
    [problem] = refused(config, {"GATEWAY_UPSTREAMS__A_B_C__URL": "https://c.example"})
    assert 'upstreams."a-b.c".url' in problem
    assert 'upstreams."a.b.c".url' in problem


# --- refusals


@pytest.mark.parametrize(
    ("text", "name", "nearest"),
    [
        ("prot = 1", "prot", "port"),
        ("external-url = ''", "external-url", "external_url"),
        ("[cache]\ntl = '1s'", "cache.tl", "cache.ttl"),
        ("[cach]\nttl = '1s'", "cach.ttl", "cache.ttl"),
        ("[upstreams.'docker.io']\nurls = 'x'", 'upstreams."docker.io".urls', 'upstreams."docker.io".url'),
        ("[upstreams.docker.io]\nurl = 'x'", "upstreams.docker.io.url", 'upstreams."docker.io".url'),
        ("[port]\nnumber = 1", "port.number", "port"),
    ],
)
def test_an_unknown_name_in_the_file_suggests_the_nearest(config: Path, text: str, name: str, nearest: str) -> None:
    assert refused_text(config, text) == [f"{name} (file {config}): there is no such setting; the nearest is {nearest}"]


@pytest.mark.parametrize(
    ("variable", "nearest"),
    [
        ("GATEWAY_PROT", "GATEWAY_PORT"),
        ("GATEWAY_CACHE_TTL", "GATEWAY_CACHE__TTL"),
        ("GATEWAY_UPSTREAMS__DOCKER_IO__PASSWORD", "GATEWAY_UPSTREAMS__DOCKER_IO__PASSWORD_FILE"),
    ],
)
def test_an_unknown_variable_suggests_the_nearest_and_hides_its_value(variable: str, nearest: str) -> None:
    assert refused(environ={variable: "s3cret"}) == [
        f"{variable} (environment): there is no such setting; the nearest is {nearest}"
    ]


def test_an_unknown_flag_is_refused() -> None:
    assert refused(flags={"hots": "::1"}) == ["hots (flag --hots): there is no such setting; the nearest is host"]


WRONG: list[tuple[str, Any, str]] = [
    ("host", "", "an IP address or a host name"),
    ("host", "0", "an IP address or a host name"),
    ("host", "127.0.0.1:80", "without a port"),
    ("port", 65536, "a whole number from 0 to 65535"),
    ("port", -1, "a whole number from 0 to 65535"),
    ("port", "80", "a whole number from 0 to 65535"),
    ("port", True, "a whole number from 0 to 65535"),
    ("data", "", "a path"),
    ("external_url", "registry.example.com", "an http(s) URL like https://registry.example.com"),
    ("external_url", "ftp://r.example", "an http(s) URL like https://registry.example.com"),
    ("external_url", "https://r.example/?a=b", "no user or query"),
    ("external_url", "https://r.example:65536", "an http(s) URL like https://registry.example.com"),
    ("workers", 257, "a whole number from 0 to 256"),
    ("allow_open_proxy", "yes", "true or false"),
    ("allow_open_proxy", 1, "true or false"),
    ("tls_key", "key.pem", "tls_cert and tls_key go together"),
    ("log_format", "xml", "console or json"),
    ("cache.ttl", "1 day", "30s 5m 12h 30d"),
    ("cache.ttl", 60, "30s 5m 12h 30d"),
    ("cache.grace", "36501d", "at most 36500d"),
    ('upstreams."docker.io".url', "https://hub.example/v2/", "before its repository names, without /v2"),
    ('upstreams."docker.io".url', "https://hub.example?x", "no user or query"),
    *(
        (f'upstreams."docker.io".{key}', value, "before its repository names, without /v2")
        for path in ("/a/../b", "/..", "/%2e%2e/b", "/a%2Fb", "/Upper", "/a//b", "/v2/a", "/-a", "/a~b")
        for key, value in (("url", f"https://hub.example{path}"), ("mirrors", [f"https://hub.example{path}"]))
    ),
    ('upstreams."docker.io".url', "https://", "an http(s) URL like https://registry.example.com"),
    ('upstreams."docker.io".url', "https://hub\n.example", "an http(s) URL like https://registry.example.com"),
    ('upstreams."docker.io".token_hosts', "auth.docker.io", 'a list of host or host:port like ["auth.example.com"]'),
    ('upstreams."docker.io".token_hosts', ["https://auth.docker.io"], "a list of host or host:port"),
    ('upstreams."docker.io".token_hosts', ["auth.docker.io:99999"], "a list of host or host:port"),
    *(
        ('upstreams."docker.io".redirect_hosts', [host], "a list of host, host:port or *.host")
        for host in ("*", "*.", "cdn*.example.com", "*.example.com:443", "https://cdn.example.com", "**.example.com")
    ),
    ('upstreams."docker.io".private_addresses', "no", "true or false"),
    ('upstreams."docker.io".password_file', "/run/password", "username and password_file go together"),
    *(
        ('upstreams."docker.io".password_command', value, "a list of a program and its arguments")
        for value in ("aws ecr get-login-password", [""], ["a\u0000b"], [1])
    ),
    ('upstreams."docker.io".client_key', "/run/key", "client_cert and client_key go together"),
    ('upstreams."docker.io".groups', ["/hub"], "a list of group paths"),
    ('upstreams."docker.io".proxy', "proxy.example:3128", "an http(s) URL like http://proxy.example.com:3128"),
    ('upstreams."docker.io".allow', ["library/alpine:3"], "globs on lower-case image names without tag"),
    ('upstreams."docker.io".allow', ["/library/*"], "globs on lower-case image names without tag"),
    ('upstreams."docker.io".deny', ["lib[rary"], "globs on lower-case image names without tag"),
    ('upstreams."docker.io".deny', [""], "globs on lower-case image names without tag"),
]


@pytest.mark.parametrize(("name", "value", "allowed"), WRONG)
def test_a_wrong_value_is_refused_with_name_value_source_and_what_is_allowed(
    config: Path, name: str, value: Any, allowed: str
) -> None:
    [problem] = refused_text(config, f"{name} = {json.dumps(value)}\n")
    assert problem.startswith(f"{name} = {json.dumps(value)} (file {config}): ")
    assert allowed in problem


@pytest.mark.parametrize(
    ("variable", "text", "allowed"),
    [
        ("GATEWAY_PORT", "http", "a whole number from 0 to 65535"),
        ("GATEWAY_ALLOW_OPEN_PROXY", "1", "true or false"),
        ("GATEWAY_UPSTREAMS__DOCKER_IO__ALLOW", "a,b", "a list of globs"),
        ("GATEWAY_UPSTREAMS__DOCKER_IO__ALLOW", '{"a": 1}', "a list of globs"),
        ("GATEWAY_UPSTREAMS__DOCKER_IO__GROUPS", "[1]", "a list of group paths"),
    ],
)
def test_a_wrong_variable_is_refused_under_its_own_name(variable: str, text: str, allowed: str) -> None:
    [problem] = refused(environ={variable: text})
    assert f"(environment {variable}): must be {allowed}" in problem


@pytest.mark.parametrize("name", ["registry", "Quay.io", "quay.io:443", "a..b", "-a.b", "a_b.c", "https://quay.io"])
def test_an_upstream_is_named_by_a_host_name_with_a_dot(config: Path, name: str) -> None:
    [problem] = refused_text(config, f'[upstreams."{name}"]\nurl = "https://quay.io"\n')
    assert name in problem
    assert f"(file {config}): the name of an upstream must be a lower-case host name with a dot" in problem


@pytest.mark.parametrize("table", ["", "token_hosts = ['a.example']\n", "url = ''\n"])
def test_an_upstream_needs_nothing_but_its_name(config: Path, table: str) -> None:
    config.write_text(f'[upstreams."registry.example"]\n{table}')
    loaded = load(config, {}, {})
    assert loaded.settings.upstreams["registry.example"].url == "https://registry.example"


def test_a_url_may_have_a_path(config: Path) -> None:
    text = (
        '[upstreams."jfrog.example"]\nurl = "https://jfrog.example/docker-remote/"\nmirrors = ["https://b.example/a/b"]'
    )
    config.write_text(text)
    upstream = load(config, {}, {}).settings.upstreams["jfrog.example"]
    assert (upstream.url, upstream.mirrors) == ("https://jfrog.example/docker-remote", ("https://b.example/a/b",))


@pytest.mark.parametrize("text", ["cache = 1", "[[cache]]\nttl = '1s'"])
def test_a_table_is_not_a_value(config: Path, text: str) -> None:
    [problem] = refused_text(config, text)
    assert problem.endswith(f"(file {config}): must be a table, [cache]")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "::ffff:0.0.0.0"])
def test_a_wildcard_bind_needs_an_external_url(host: str) -> None:
    [problem] = refused(flags={"host": host})
    assert problem.startswith('external_url = "" (default): must be the URL that clients use')
    assert f"host = {host}" in problem
    assert load(None, {}, {"host": host, "external_url": "https://r.example"}).settings.host == host


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        ({"tls_cert": Path("c.pem")}, 'tls_key = "" (default): tls_cert and tls_key go together: set both or neither'),
        ({"tls_cert": Path("c.pem"), "tls_key": Path("k.pem")}, None),
        ({"tls_cert": "", "tls_key": ""}, None),
    ],
)
def test_certificate_and_key_go_together(flags: dict[str, object], problem: str | None) -> None:
    if problem is None:
        load(None, {}, flags)
    else:
        assert refused(flags=flags) == [problem]


def test_user_name_and_password_file_go_together(config: Path) -> None:
    [problem] = refused_text(config, '[upstreams."docker.io"]\nusername = "bob@example.com"\n')
    assert problem.startswith('upstreams."docker.io".password_file = "" (default): username and password_file go')
    environ = {"GATEWAY_UPSTREAMS__DOCKER_IO__PASSWORD_FILE": "/run/password"}
    hub = load(config, environ, {}).settings.upstreams["docker.io"]
    assert (hub.username, hub.password_file) == ("bob@example.com", Path("/run/password"))


def test_all_problems_are_told_at_once(config: Path) -> None:
    config.write_text('prot = 1\nworkers = -1\n[upstreams.x]\nallow = [":"]\n[upstreams."docker.io"]\nusername = "u"\n')
    problems = refused(config, {"GATEWAY_PORT": "x", "GATEWAY_CASH": ""}, {"log_format": "xml", "host": "::"})
    assert sorted(problem.split(" ")[0] for problem in problems) == [
        "GATEWAY_CASH",
        "external_url",
        "log_format",
        "port",
        "prot",
        'upstreams."docker.io".password_file',
        "upstreams.x",
        "upstreams.x.allow",
        "workers",
    ]


# --- secrets


@pytest.mark.parametrize("name", ["external_url", 'upstreams."docker.io".url', 'upstreams."docker.io".proxy'])
@pytest.mark.parametrize("value", ["https://u:p@ss/w@h.example/?", "u:p@ss/w@h", "https://p@ss@h/a?", "//u:p@ss w@h"])
def test_a_credential_in_a_url_is_never_shown(config: Path, name: str, value: str) -> None:
    [problem] = refused_text(config, f"{name} = {json.dumps(value)}\n")
    assert "p@" not in problem
    assert "ss" not in problem.removeprefix(f"{name} = ").split(" (file")[0]


def test_a_proxy_keeps_its_credential_and_hides_it(config: Path) -> None:
    config.write_text('[upstreams."docker.io"]\nproxy = "http://bob:hush@proxy.example:3128/"\n')
    loaded = load(config, {}, {})
    assert loaded.settings.upstreams["docker.io"].proxy == "http://bob:hush@proxy.example:3128"
    assert "hush" not in repr(loaded) + repr(rows(loaded))
    assert "http://***@proxy.example:3128" in [row.value for row in rows(loaded)]


HEADERS = {"X-Api-Key": "hush", "X-From-File": "file:/run/key"}


def test_fixed_headers_are_read_and_their_values_hidden(config: Path) -> None:
    config.write_text('[upstreams."docker.io"]\nheaders = {X-Api-Key = "hush", X-From-File = "file:/run/key"}\n')
    for loaded in (
        load(config, {}, {}),
        load(None, {"GATEWAY_UPSTREAMS__DOCKER_IO__HEADERS": json.dumps(HEADERS)}, {}),
    ):
        assert loaded.settings.upstreams["docker.io"].headers == HEADERS
        assert "hush" not in repr(loaded) + repr(rows(loaded))
        assert {"X-Api-Key": "***", "X-From-File": "file:/run/key"} in [row.value for row in rows(loaded)]


@pytest.mark.parametrize(
    "headers",
    [
        *(
            {name: "hush"}
            for name in ("Authorization", "host", "Range", "Proxy-Authorization", "X Y", "X:", "", "\u00e9")
        ),
        *({"X-Key": value} for value in ("", "hush\r\nX: y", " hush", "hush\u00e9", "file:")),
        {"X-Key": "hush", "x-key": "hush"},
        {"X-Key": ["hush"]},
        "hush",
    ],
)
def test_a_wrong_header_is_refused_and_its_value_hidden(headers: object) -> None:
    [problem] = refused(environ={"GATEWAY_UPSTREAMS__DOCKER_IO__HEADERS": json.dumps(headers)})
    assert "must be a table like" in problem
    assert "hush" not in problem


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('username = "AWS"\npassword_command = ["aws"]', None),
        ('username = "AWS"\npassword_command = ["aws"]\npassword_file = "/run/p"', "password_command stands for"),
        ('password_command = ["aws"]', "username and password_file go together"),
    ],
)
def test_a_command_stands_for_a_file(config: Path, text: str, problem: str | None) -> None:
    config.write_text(f'[upstreams."registry.example"]\n{text}\n')
    if problem is None:
        assert load(config, {}, {}).settings.upstreams["registry.example"].password_command == ("aws",)
    else:
        [told] = refused_text(config, config.read_text())
        assert problem in told


def test_a_client_certificate_needs_tls(config: Path) -> None:
    text = 'url = "http://registry.example"\nclient_cert = "/run/cert"\nclient_key = "/run/key"\n'
    [problem] = refused_text(config, f'[upstreams."docker.io"]\n{text}')
    assert "a client certificate needs a url with https" in problem


# --- the file


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert refused(tmp_path / "none.toml") == [
        f"{tmp_path / 'none.toml'}: cannot be read (No such file or directory); name a readable TOML file"
    ]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"port = 1\nhost =\n", 2),
        (b"port = 1\nport = 2\n", 2),
        (b'port = 1\n\nhost = """x', 3),
        (b'port = 1\nhost = "\xff"\n', 2),
    ],
)
def test_broken_toml_is_named_with_its_line(config: Path, content: bytes, line: int) -> None:
    config.write_bytes(content)
    [problem] = refused(config)
    assert problem.startswith(f"{config}, line {line}: not ")


# --- arrays of tables


LISTENER = {"host": "127.0.0.1", "port": 8081, "group": "hub", "upstream": "docker.io", "external_url": ""}


def test_arrays_of_tables_are_read_from_file_and_environment_and_shown(config: Path) -> None:
    config.write_text('[[listener]]\nport = 8081\n[[virtual_host]]\nname = "Docker.Example.com"\ngroup = "team"\n')
    shown = {row.name: row for row in rows(load(config, {}, {}))}
    assert (shown["listener"].value, shown["listener"].source) == ([LISTENER], f"file {config}")
    host = {"name": "docker.example.com", "group": "team", "upstream": "docker.io"}
    assert shown["virtual_host"].value == [host]
    environ = {"GATEWAY_LISTENER": json.dumps([LISTENER, LISTENER | {"port": 8082}])}
    loaded = load(config, environ, {})
    assert [listener.port for listener in loaded.settings.listener] == [8081, 8082]
    assert loaded.sources["listener"] == "environment GATEWAY_LISTENER"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[[listener]]\nhost = '127.0.0.1'", "listener[1].port ({source}): is missing; it must be a whole number"),
        ("[[listener]]\nport = 1\n[[listener]]\nport = 'x'", 'listener[2].port = "x" ({source}): must be a whole'),
        ("[[listener]]\nport = 1\nprot = 2", "listener[1].prot ({source}): there is no such setting; the nearest is"),
        ("[[listener]]\nport = 1\nhost = '0.0.0.0'", 'listener[1].external_url = "" ({source}): must be the URL that'),
        ("[[listener]]\nport = 1\nupstream = 'ghcr.io'", 'upstream "ghcr.io" is not configured: configured are'),
        ("[listener]\nport = 1", "({source}): must be an array of tables, [[listener]], each with a port"),
        ("listener = [1]", "listener[1] ({source}): must be a table, [[listener]]"),
        ("[[virtual_host]]\nname = 'a:1'", 'virtual_host[1].name = "a:1" ({source}): must be a host name'),
        ("[[virtual_host]]\nname = 'a'\n[[virtual_host]]\nname = 'A'", '"a" is listed twice'),
        ("external_url = 'http://a:1'\n[[virtual_host]]\nname = 'a'", '"a" is the host of external_url'),
        ("registry_url = 'http://a:1'\n[[virtual_host]]\nname = 'a'", '"a" is the host of registry_url'),
    ],
)
def test_what_is_wrong_inside_an_array_of_tables_is_named(config: Path, text: str, problem: str) -> None:
    [told] = refused_text(config, text)
    assert problem.replace("{source}", f"file {config}") in told


# --- rows, names, durations


def test_rows_cover_every_setting_and_are_json() -> None:
    loaded = load(None, {}, {})
    table = rows(loaded)
    whole = [name for name in setting_names() if not name.startswith(("listener.", "virtual_host.", "oidc."))]
    assert sorted(row.name for row in table) == sorted(name.replace("NAME", '"docker.io"') for name in whole)
    assert [row.name for row in table] == list(loaded.sources)
    values = json.loads(json.dumps({row.name: row.value for row in table}))
    assert values["cache.ttl"] == "60s"
    assert values["cache.grace"] == "30d"
    assert values["tls_cert"] == ""
    assert values['upstreams."docker.io".token_hosts'] == ["auth.docker.io"]


def test_every_setting_says_what_it_is_for_in_one_sentence() -> None:
    assert "upstreams.NAME.url" in setting_names()
    for name, description in descriptions().items():
        assert description.endswith("."), name
        assert description[0].isupper(), name
        assert "\n" not in description, name


@pytest.mark.parametrize(
    ("text", "seconds"), [("0s", 0), ("60s", 60), ("5m", 300), ("12h", 43200), ("24h", 86400), ("30d", 2592000)]
)
def test_a_duration_reads_and_writes_the_same(text: str, seconds: int) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)
    assert format_duration(timedelta(seconds=seconds)) == text


@given(st.integers(min_value=0, max_value=36500 * 86400))
def test_any_duration_survives_the_round_trip(seconds: int) -> None:
    assert parse_duration(format_duration(timedelta(seconds=seconds))) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "s", "9", "1.5h", "-1s", "1h30m", "1w", " 1s", "1s\n", "1S", "\u0661s", "36501d"])
def test_what_is_not_one_number_and_one_unit_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(text)


# --- rules for tags


def test_rules_for_tags_are_read_in_their_order(config: Path) -> None:
    config.write_text(
        """
        [[cache.rules]]
        tags = "v*"
        ttl = "1d"
        [[cache.rules]]
        tags = "*"
        images = "library/*"
        upstream = "docker.io"
        fresh_only = true
        """
    )
    loaded = load(config, {}, {})
    assert [(rule.tags, rule.images, rule.upstream, rule.fresh_only) for rule in loaded.settings.cache.rules] == [
        ("v*", "*", None, False),
        ("*", "library/*", "docker.io", True),
    ]
    assert [rule.ttl for rule in loaded.settings.cache.rules] == [timedelta(days=1), None]
    [row] = [row for row in rows(loaded) if row.name == "cache.rules"]
    assert json.loads(json.dumps(row.value))[0] == {"tags": "v*", "ttl": "24h", "images": "*", "fresh_only": False}


def test_rules_for_tags_come_from_the_environment_as_json() -> None:
    loaded = load(None, {"GATEWAY_CACHE__RULES": '[{"tags": "v*", "ttl": "1d"}]'}, {})
    assert [rule.tags for rule in loaded.settings.cache.rules] == ["v*"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[cache.rules]]\nttl = "1d"', "with tags and any of"),
        ('[[cache.rules]]\ntags = "v*"\nttl = "1x"', "with tags and any of"),
        ('[[cache.rules]]\ntags = ""', "with tags and any of"),
        ('[[cache.rules]]\ntags = "v*"\nage = "1d"', "with tags and any of"),
        ('[cache]\nrules = "v*"', "with tags and any of"),
        ('[[cache.rules]]\ntags = "v*"\nupstream = "quay.io"', "there is no upstream quay.io"),
    ],
)
def test_a_rule_that_is_none_is_refused(config: Path, text: str, said: str) -> None:
    [problem] = refused_text(config, text)
    assert problem.startswith("cache.rules = ")
    assert said in problem

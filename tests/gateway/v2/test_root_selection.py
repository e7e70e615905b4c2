"""What the names of a request mean, as a table: by address, Host and `ns`; and what the response then states."""

import pytest
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from cache.oci.errors import NameUnknown, RegistryError, Unsupported
from gateway.namespaces.locate import Root
from gateway.v2.root_selection import (
    ChosenRoot,
    RootSelection,
    at_listener,
    choose_root,
    chosen_root,
    hosts_of,
    namespaces_of,
    root_table,
    url_with_host,
)
from tests.gateway.asgi import Client, scope_of

MAIN = "https://registry.example.com"
LISTENER = "http://10.0.0.1:5001"
HOST = "mirror.example.com"
VIRTUAL = f"https://{HOST}"
UPSTREAMS = {
    "docker.io": "https://registry-1.docker.io",
    "quay.io": "https://quay.io:8443",
    "alias.io": "https://quay.io",
}
TABLE = root_table(MAIN, UPSTREAMS, "hub", {HOST: Root("team", "docker.io")}, [(LISTENER, Root("team", "quay.io"))])

MANIFEST = "/v2/library/x/manifests/latest"
BELOW_A_GROUP = "/v2/hub/dependency_proxy/containers/x/manifests/latest"


def choose(target: str, method: str = "GET", host: str = "registry.example.com", listener: int = 0) -> ChosenRoot:
    scope = scope_of(method, target, [("Host", host)])
    if listener:
        scope["gateway.address"] = listener
    return choose_root(scope, TABLE)


OWN = ChosenRoot(MAIN)
BY_HOST = ChosenRoot(VIRTUAL, Root("team", "docker.io"))
BY_LISTENER = ChosenRoot(LISTENER, Root("team", "quay.io"))


def by_namespace(namespace: str, upstream: str) -> ChosenRoot:
    return ChosenRoot(MAIN, Root("hub", upstream), namespace, upstream)


@pytest.mark.parametrize(
    ("target", "chosen"),
    [
        (MANIFEST, OWN),
        (f"{MANIFEST}?", OWN),
        (f"{MANIFEST}?n=1", OWN),
        (f"{MANIFEST}?ns=", OWN),
        (f"{MANIFEST}?ns=registry.example.com", OWN),
        (f"{MANIFEST}?ns=registry.example.com:443", OWN),
        (f"{MANIFEST}?ns=docker.io", by_namespace("docker.io", "docker.io")),
        (f"{MANIFEST}?ns=DOCKER.io", by_namespace("docker.io", "docker.io")),
        (f"{MANIFEST}?ns=docker.io&ns=docker.io", by_namespace("docker.io", "docker.io")),
        (f"{MANIFEST}?ns=index.docker.io", by_namespace("index.docker.io", "docker.io")),
        (f"{MANIFEST}?ns=registry-1.docker.io", by_namespace("registry-1.docker.io", "docker.io")),
        (f"{MANIFEST}?ns=registry-1.docker.io:443", by_namespace("registry-1.docker.io:443", "docker.io")),
        (f"{MANIFEST}?ns=quay.io", by_namespace("quay.io", "quay.io")),
        (f"{MANIFEST}?ns=quay.io:8443", by_namespace("quay.io:8443", "quay.io")),
        (f"{MANIFEST}?ns=quay.io:443", by_namespace("quay.io:443", "alias.io")),
        (f"{BELOW_A_GROUP}?ns=quay.io", OWN),
        (f"{BELOW_A_GROUP}?ns=evil.example", OWN),
        ("/v2/?ns=evil.example", OWN),
        ("/v2?ns=evil.example", OWN),
    ],
)
def test_on_the_main_address_a_namespace_chooses_among_the_upstreams(target: str, chosen: ChosenRoot) -> None:
    assert choose(target) == chosen
    assert choose(target, "HEAD") == chosen


@pytest.mark.parametrize("namespace", ["evil.example", "quay.io:1", "127.0.0.1", "*", "team", "x" * 1000])
def test_a_namespace_that_is_not_configured_is_unknown(namespace: str) -> None:
    with pytest.raises(NameUnknown, match=r"is not served: configured are alias\.io, docker\.io, quay\.io$"):
        choose(f"{MANIFEST}?ns={namespace}")


@pytest.mark.parametrize(
    ("target", "method", "error"),
    [
        (f"{MANIFEST}?ns=docker.io&ns=quay.io", "GET", NameUnknown),
        (f"{MANIFEST}?ns=docker.io&ns=quay.io", "PUT", NameUnknown),
        (f"{BELOW_A_GROUP}?ns=docker.io&ns=quay.io", "GET", NameUnknown),
        (f"{MANIFEST}?ns=docker.io", "PUT", Unsupported),
        (f"{MANIFEST}?ns=evil.example", "DELETE", Unsupported),
    ],
)
def test_a_contradiction_or_a_write_by_a_namespace_is_refused(
    target: str, method: str, error: type[RegistryError]
) -> None:
    with pytest.raises(error):
        choose(target, method)


@pytest.mark.parametrize("host", [HOST, HOST.upper(), f"{HOST}:5000"])
def test_a_virtual_host_is_chosen_by_its_name(host: str) -> None:
    assert choose(MANIFEST, host=host) == BY_HOST
    assert choose(f"{MANIFEST}?ns=docker.io", host=host) == ChosenRoot(VIRTUAL, BY_HOST.root, "docker.io")


@pytest.mark.parametrize("host", ["", "evil.example", f"evil.{HOST}", f"{HOST}.evil.example"])
def test_any_other_host_means_the_main_address(host: str) -> None:
    assert choose(MANIFEST, host=host) == OWN


def test_a_listener_goes_before_the_host() -> None:
    assert choose(MANIFEST, host=HOST, listener=1) == BY_LISTENER


@pytest.mark.parametrize("namespace", ["10.0.0.1:5001", ""])
def test_an_address_of_one_upstream_has_one_root_for_all_names(namespace: str) -> None:
    assert choose(f"{BELOW_A_GROUP}?ns={namespace}", listener=1) == BY_LISTENER
    assert choose(f"{MANIFEST}?ns=quay.io", listener=1) == ChosenRoot(LISTENER, BY_LISTENER.root, "quay.io")


@pytest.mark.parametrize("target", [MANIFEST, BELOW_A_GROUP, "/v2/"])
@pytest.mark.parametrize("namespace", ["docker.io", "alias.io", "quay.io:443", "registry.example.com", "evil.example"])
def test_an_address_of_one_upstream_serves_no_other(target: str, namespace: str) -> None:
    with pytest.raises(NameUnknown, match=r"is not served: configured are quay\.io$"):
        choose(f"{target}?ns={namespace}", listener=1)


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE", "BREW"])
def test_a_write_to_an_address_of_one_upstream_is_left_to_the_registry(method: str) -> None:
    for query in ("", "?ns=quay.io", "?ns=evil.example", "?ns=a&ns=b"):
        assert choose(f"{MANIFEST}{query}", method, listener=1) == BY_LISTENER


# The middleware


async def state(scope: Scope, receive: Receive, send: Send) -> None:
    """Respond with the upstream that was chosen."""
    root = chosen_root(scope).root
    await Response(root.upstream if root else "own")(scope, receive, send)


async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
    raise NameUnknown("no such image")


async def test_a_response_states_the_namespace_that_was_named() -> None:
    app = RootSelection(state, TABLE)
    named = await Client(scope_of("GET", f"{MANIFEST}?ns=INDEX.docker.io")).request(app)
    assert (named.body, named.headers["oci-namespace"]) == (b"docker.io", "index.docker.io")
    own = await Client(scope_of("GET", MANIFEST)).request(app)
    assert (own.body, "oci-namespace" in own.headers) == (b"own", False)
    listener = await Client(scope_of("GET", MANIFEST)).request(at_listener(app, 1))
    assert (listener.body, "oci-namespace" in listener.headers) == (b"quay.io", False)


async def test_a_refusal_states_the_namespace_unless_it_is_of_the_namespace() -> None:
    app = RootSelection(refuse, TABLE)
    for target, stated in ((f"{MANIFEST}?ns=quay.io", {"OCI-Namespace": "quay.io"}), (MANIFEST, {})):
        with pytest.raises(NameUnknown) as refused:
            await Client(scope_of("GET", target)).request(app)
        assert refused.value.headers == stated
    with pytest.raises(NameUnknown) as refused:
        await Client(scope_of("GET", f"{MANIFEST}?ns=evil.example")).request(app)
    assert refused.value.headers == {}


# The parts of the table


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("https://a.example", ["a.example:443", "a.example"]),
        ("http://a.example", ["a.example:80", "a.example"]),
        ("http://a.example:443/base", ["a.example:443"]),
        ("http://[::1]:80", ["[::1]:80", "[::1]"]),
    ],
)
def test_a_client_writes_the_host_of_a_url_with_or_without_its_port(url: str, hosts: list[str]) -> None:
    assert hosts_of(url) == hosts


def test_a_name_of_an_upstream_goes_before_the_host_of_another_ones_url() -> None:
    assert namespaces_of({"a.example": "https://b.example", "b.example": "https://c.example"}) == {
        "a.example": "a.example",
        "b.example": "b.example",
        "b.example:443": "a.example",
        "c.example": "b.example",
        "c.example:443": "b.example",
    }


def test_a_url_with_a_path_gives_its_host_to_no_upstream() -> None:
    upstreams = {"a.example": "https://b.example/one", "c.example": "https://b.example"}
    assert {host: name for host, name in namespaces_of(upstreams).items() if host.startswith("b.")} == {
        "b.example": "c.example",
        "b.example:443": "c.example",
    }


@pytest.mark.parametrize(
    ("url", "expected"),
    [("https://a.example", "https://b.example"), ("http://a.example:5000/base", "http://b.example:5000/base")],
)
def test_a_virtual_host_keeps_scheme_port_and_path_of_the_main_url(url: str, expected: str) -> None:
    assert url_with_host(url, "b.example") == expected

"""The text forms of origins, credentials and sources, which databases and quota.json hold."""

import pytest

from cache.oci.names import RepositoryName
from cache.upstream.errors import Unavailable
from cache.values import ANONYMOUS, REASON_LIMIT, CredentialId, Origin, Registry, Source, safe_reason

ORIGIN = Origin("https", "registry.example", 443)


@pytest.mark.parametrize(
    ("credential", "text"),
    [
        (ANONYMOUS, ""),
        (CredentialId("ada"), "user:ada"),
        (CredentialId("group:2:ada"), "user:group:2:ada"),
        (CredentialId("ada:b#c"), "user:ada:b#c"),
        (CredentialId("ada", upstream="b.example"), "upstream:b.example:ada"),
        (CredentialId("b.example:ada"), "user:b.example:ada"),
        (CredentialId("a:b", upstream="b.example"), "upstream:b.example:a:b"),
        (CredentialId("ada", 2), "group:2:ada"),
        (CredentialId("a:b", 17), "group:17:a:b"),
        (CredentialId("", 2), "group:2:"),
    ],
)
def test_a_credential_has_one_text_form(credential: CredentialId, text: str) -> None:
    assert str(credential) == text
    assert CredentialId.parse(text) == credential
    assert credential.is_anonymous is (text == "")


@pytest.mark.parametrize(
    "text",
    [
        *("ada", "user:", "user", "group:2", "group:x:ada", "group:-1:ada", "group::ada", " "),
        *("upstream:", "upstream:b.example", "upstream:b.example:", "upstream::ada"),
    ],
)
def test_other_text_is_not_the_id_of_a_credential(text: str) -> None:
    with pytest.raises(ValueError, match="not the id of a credential"):
        CredentialId.parse(text)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (Source(ORIGIN), "https://registry.example:443"),
        (Source(ORIGIN, CredentialId("ada")), "https://registry.example:443#user:ada"),
        (Source(ORIGIN, CredentialId("a#b", 2)), "https://registry.example:443#group:2:a#b"),
        (Source(Origin("http", "::1", 80)), "http://[::1]:80"),
        (Source(ORIGIN, prefix="a/b"), "https://registry.example:443/a/b"),
        (Source(ORIGIN, CredentialId("a/b"), "c"), "https://registry.example:443/c#user:a/b"),
    ],
)
def test_a_source_has_one_text_form(source: Source, text: str) -> None:
    assert str(source) == text
    assert Source.parse(text) == source
    assert hash(Source.parse(text)) == hash(source)


def test_registries_of_one_host_are_different_sources() -> None:
    sources = {Source(ORIGIN), Source(ORIGIN, prefix="a"), Source(ORIGIN, prefix="a/b")}
    assert len(sources) == len({str(source) for source in sources}) == 3
    assert Registry(ORIGIN, "a/b").full_name(RepositoryName("c")) == "a/b/c"
    assert Registry(ORIGIN).full_name(RepositoryName("c")) == "c"


@pytest.mark.parametrize(
    ("origin", "shown"),
    [
        (ORIGIN, "registry.example"),
        (Origin("https", "registry.example", 5000), "registry.example:5000"),
        (Origin("https", "registry.example", 80), "registry.example:80"),
        (Origin("http", "registry.example", 80), "registry.example"),
        (Origin("http", "::1", 5000), "[::1]:5000"),
        (Origin("http", "::1", 80), "[::1]"),
    ],
)
def test_people_see_the_port_that_the_scheme_does_not_imply(origin: Origin, shown: str) -> None:
    assert origin.netloc == shown


@pytest.mark.parametrize(
    "text", ["", "registry.example", "https://registry.example", "//registry.example:443", "https://:4"]
)
def test_other_text_is_not_an_origin(text: str) -> None:
    with pytest.raises(ValueError, match="not an origin"):
        Origin.parse(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("it said no", "it said no"),
        ("two\r\nlines\x1b[31m", "two??lines?[31m"),
        ("näme\u202e", "n?me?"),
        ("x" * REASON_LIMIT, "x" * REASON_LIMIT),
        ("x" * 100_000, "x" * (REASON_LIMIT - 3) + "..."),
    ],
)
def test_a_reason_is_one_short_printable_line(text: str, shown: str) -> None:
    assert safe_reason(text) == shown
    assert Unavailable(text).reason == str(Unavailable(text)) == shown

"""Which settings of a running server change, and which wait for its next start."""

from typing import Any

import pytest

from gateway.settings.reload import reload
from gateway.settings.tables import Settings


def of(**given: Any) -> Settings:
    return Settings.model_validate(given)


def test_nothing_changes_without_a_change() -> None:
    reloaded = reload(of(), of())
    assert (reloaded.settings, reloaded.effective, reloaded.waiting) == (of(), (), ())


def test_values_and_upstreams_change() -> None:
    before = of(cache={"ttl": "1m"}, upstreams={"a.test": {}, "b.test": {}})
    new = of(cache={"ttl": "2m"}, upstreams={"b.test": {"deny": ["x"]}, "c.test": {}})
    reloaded = reload(before, new)
    assert reloaded.settings == new
    assert reloaded.effective == (
        "cache.ttl",
        'upstreams."b.test".deny',
        'upstreams."a.test"',
        'upstreams."c.test"',
    )
    assert reloaded.waiting == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [("port", 9), ("host", "127.0.0.2"), ("data", "/elsewhere"), ("workers", 3), ("admin_password_file", "/p")],
)
def test_what_a_start_alone_acts_on_stays_as_it_is(name: str, value: object) -> None:
    reloaded = reload(of(), of(**{name: value}, ns_group="other"))
    assert reloaded.settings == of(ns_group="other")
    assert reloaded.effective == ("ns_group",)
    assert reloaded.waiting == (name,)


def test_the_url_of_another_address_waits_with_it() -> None:
    before = of(host="0.0.0.0", external_url="https://one.test")
    assert reload(before, of(external_url="https://two.test")).waiting == ("host", "external_url")
    assert reload(before, of(host="0.0.0.0", external_url="https://two.test")).effective == ("external_url",)


def test_listeners_change_where_their_addresses_stay() -> None:
    before = of(listener=[{"port": 81, "group": "one"}])
    assert reload(before, of(listener=[{"port": 81, "group": "two"}])).effective == ("listener",)
    for others in ([], [{"port": 82}], [{"port": 81}, {"port": 82}]):
        reloaded = reload(before, of(listener=others))
        assert (reloaded.settings, reloaded.waiting) == (before, ("listener",))


def test_the_database_stays_and_the_rest_of_its_table_changes() -> None:
    before = of(database={"url": "postgresql://a@b.test/c"})
    reloaded = reload(before, of(database={"url": "postgresql://a@b.test/d", "password_file": "/p"}))
    assert reloaded.settings == of(database={"url": "postgresql://a@b.test/c", "password_file": "/p"})
    assert (reloaded.effective, reloaded.waiting) == (("database.password_file",), ("database.url",))

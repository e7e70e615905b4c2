"""Names of anonymous clients: one machine has one name."""

from pathlib import Path

import pytest

from gateway.client_name import client_name, is_loopback

ROOT = Path(__file__).parents[2]
READS_ADDRESSES = {
    *("gateway/client_name.py", "gateway/http/client_address.py"),
    *("gateway/auth/exposure.py", "gateway/settings/kinds.py", "gateway/wiring/app.py"),
    "gateway/webhooks/webhook.py",
}
"""Files that read addresses: of clients the first two, of settings and of webhooks the others."""


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:1:2:3", "2001:db8::/64"),
        ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("", ""),
        ("unix", "unix"),
    ],
)
def test_a_client_is_named_by_what_one_machine_has_for_itself(address: str, name: str) -> None:
    assert client_name(address) == name


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
def test_clients_on_loopback_may_be_anybody(address: str) -> None:
    assert is_loopback(address)
    assert not is_loopback("192.0.2.1")
    assert not is_loopback("unix")


def test_no_limit_names_clients_in_another_way() -> None:
    reading = {str(file.relative_to(ROOT)) for file in ROOT.glob("gateway/**/*.py") if "ipaddress" in file.read_text()}
    assert reading == READS_ADDRESSES

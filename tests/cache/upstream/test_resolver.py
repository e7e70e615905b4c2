"""Which addresses lie on the public internet."""

from ipaddress import ip_address, ip_network

import pytest

from cache.upstream.resolver import first_private, is_public

NOT_PUBLIC = {
    "this network": "0.0.0.0/8",
    "private 10": "10.0.0.0/8",
    "shared, carrier-grade NAT": "100.64.0.0/10",
    "loopback": "127.0.0.0/8",
    "link local, and the clouds' metadata": "169.254.0.0/16",
    "private 172": "172.16.0.0/12",
    "protocol assignments": "192.0.0.0/24",
    "documentation 1": "192.0.2.0/24",
    "6to4 relays": "192.88.99.0/24",
    "private 192": "192.168.0.0/16",
    "benchmarks": "198.18.0.0/15",
    "documentation 2": "198.51.100.0/24",
    "documentation 3": "203.0.113.0/24",
    "multicast": "224.0.0.0/4",
    "reserved, and broadcast": "240.0.0.0/4",
    "unspecified, loopback and IPv4-compatible": "::/96",
    "IPv4-mapped": "::ffff:0:0/96",
    "IPv4-translated": "::ffff:0:0:0/96",
    "NAT64": "64:ff9b::/96",
    "NAT64, local use": "64:ff9b:1::/48",
    "discard": "100::/64",
    "protocol assignments 6, Teredo among them": "2001::/23",
    "documentation 6": "2001:db8::/32",
    "6to4": "2002::/16",
    "documentation 6, the second": "3fff::/20",
    "segment routing": "5f00::/16",
    "unique local": "fc00::/7",
    "link local 6": "fe80::/10",
    "site local": "fec0::/10",
    "multicast 6": "ff00::/8",
}


@pytest.mark.parametrize("network", NOT_PUBLIC.values(), ids=NOT_PUBLIC)
def test_a_special_range_is_not_public_from_its_first_to_its_last_address(network: str) -> None:
    span = ip_network(network)
    for address in (span[0], span[span.num_addresses // 2], span[-1]):
        assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "1.1.1.1",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "169.253.255.255",
        "169.255.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.0",
        "192.167.255.255",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "2606:4700:4700::1111",
        "2a00:1450:4001:80b::200e",
        "2001:200::1",
        "2003::1",
    ],
)
def test_what_lies_beside_those_ranges_is_public(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    ("hidden", "address"),
    [
        ("mapped", "::ffff:127.0.0.1"),
        ("mapped metadata", "::ffff:169.254.169.254"),
        ("mapped public", "::ffff:8.8.8.8"),
        ("6to4 of 127.0.0.1", "2002:7f00:1::"),
        ("6to4 of 10.0.0.1", "2002:a00:1::1"),
        ("NAT64 of 127.0.0.1", "64:ff9b::7f00:1"),
        ("Teredo", "2001:0:4136:e378:8000:63bf:3fff:fdd2"),
        ("loopback", "::1"),
        ("unspecified", "::"),
        ("unspecified", "0.0.0.0"),
        ("broadcast", "255.255.255.255"),
    ],
)
def test_an_address_that_hides_in_another_is_not_public(hidden: str, address: str) -> None:
    assert not is_public(ip_address(address)), hidden


def test_one_private_answer_spoils_them_all() -> None:
    assert first_private(["8.8.8.8", "10.0.0.1", "127.0.0.1"]) == "10.0.0.1"
    assert first_private(["8.8.8.8", "2606:4700:4700::1111"]) is None
    assert first_private([]) is None


def test_a_zone_does_not_hide_an_address() -> None:
    assert first_private(["fe80::1%eth0"]) == "fe80::1%eth0"

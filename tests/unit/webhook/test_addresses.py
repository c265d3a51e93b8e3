"""The address guard's judgement."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certes_broker.webhook.addresses import AddressPolicy, Allowed, Refused

PUBLIC = AddressPolicy()
DEV = AddressPolicy(allow_loopback=True)

REFUSED = {
    "0.0.0.0": "unspecified",
    "0.1.2.3": "this network",
    "10.0.0.1": "private",
    "100.64.0.1": "CGNAT",
    "100.127.255.255": "CGNAT",
    "100.100.100.200": "metadata",
    "127.0.0.1": "loopback",
    "127.255.255.255": "loopback",
    "168.63.129.16": "metadata",
    "169.254.1.1": "link-local",
    "169.254.169.254": "metadata",
    "172.16.0.1": "private",
    "172.31.255.255": "private",
    "192.0.0.192": "protocol assignments",
    "192.0.2.1": "documentation",
    "192.88.99.1": "6to4",
    "192.168.255.255": "private",
    "198.18.0.1": "benchmarking",
    "198.19.255.255": "benchmarking",
    "198.51.100.7": "documentation",
    "203.0.113.7": "documentation",
    "224.0.0.1": "multicast",
    "239.255.255.255": "multicast",
    "240.0.0.1": "reserved",
    "255.255.255.255": "broadcast",
    "::": "unspecified",
    "::1": "loopback",
    "::7f00:1": "IPv4-compatible",
    "::8.8.8.8": "IPv4-compatible",
    "::ffff:127.0.0.1": "loopback",
    "::ffff:169.254.169.254": "metadata",
    "::ffff:0:10.0.0.1": "reserved",
    "64:ff9b::10.0.0.1": "private",
    "64:ff9b:1::8.8.8.8": "NAT64",
    "100::1": "discard",
    "100:0:0:1::1": "dummy",
    "2001:2::1": "benchmarking",
    "2001:10::1": "ORCHID",
    "2001:20::1": "ORCHID",
    "2001:1ff::1": "protocol assignments",
    "2001:db8::1": "documentation",
    "2002:7f00:1::": "loopback",
    "2002:a9fe:a9fe::1": "metadata",
    "3fff::1": "documentation",
    "4000::1": "reserved",
    "5f00::1": "segment routing",
    "fc00::1": "private",
    "fd00:ec2::254": "metadata",
    "fd12:3456::1": "private",
    "fe80::1": "link-local",
    "fe80::1%eth0": "link-local",
    "fec0::1": "site-local",
    "ff02::1": "multicast",
}


@pytest.mark.parametrize(("address", "kind"), REFUSED.items(), ids=REFUSED)
def test_a_special_address_is_refused_and_the_reason_says_what_it_is(address: str, kind: str) -> None:
    verdict = PUBLIC.judge(ip_address(address), 443)
    assert isinstance(verdict, Refused)
    assert kind in verdict.reason
    assert str(ip_address(address)) in verdict.reason


@pytest.mark.parametrize(
    "address",
    [
        "1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0",
        "169.253.255.255", "172.15.255.255", "172.32.0.0", "192.167.255.255", "192.169.0.0", "223.255.255.255",
        "2606:4700::1111", "2a00::1", "2003::1", "2001:4860:4860::8888", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1",
    ],
)  # fmt: skip
def test_a_public_address_is_allowed(address: str) -> None:
    assert PUBLIC.judge(ip_address(address), 443) == Allowed()


@pytest.mark.parametrize(("server", "client"), [("8.8.8.8", "10.0.0.1"), ("10.0.0.1", "8.8.8.8")])
def test_teredo_is_judged_by_its_server_and_by_its_client(server: str, client: str) -> None:
    assert isinstance(PUBLIC.judge(teredo(server, client), 443), Refused)
    assert PUBLIC.judge(teredo("8.8.8.8", "8.8.4.4"), 443) == Allowed()


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"])
def test_dev_allows_loopback_in_either_family(address: str) -> None:
    assert DEV.judge(ip_address(address), 443) == Allowed()


@pytest.mark.parametrize("address", [address for address, kind in REFUSED.items() if kind != "loopback"])
def test_dev_allows_nothing_but_loopback(address: str) -> None:
    assert isinstance(DEV.judge(ip_address(address), 443), Refused)


def test_an_allowed_range_overrides_what_is_special_about_it_and_nothing_around_it() -> None:
    policy = AddressPolicy(allow=(ip_network("10.1.0.0/16"), ip_network("fd00:1::/32")))
    assert policy.judge(IPv4Address("10.1.2.3"), 443) == Allowed()
    assert policy.judge(IPv6Address("::ffff:10.1.2.3"), 443) == Allowed()
    assert policy.judge(IPv6Address("fd00:1::1"), 443) == Allowed()
    assert isinstance(policy.judge(IPv4Address("10.2.0.1"), 443), Refused)
    assert isinstance(policy.judge(IPv6Address("fd00:2::1"), 443), Refused)


@given(st.ip_addresses(v=4))
def test_what_python_calls_not_global_is_refused(address: IPv4Address) -> None:
    if not address.is_global or address.is_multicast:
        assert isinstance(PUBLIC.judge(address, 443), Refused)


@given(st.ip_addresses(v=6))
def test_nothing_outside_global_unicast_is_allowed_but_what_carries_ipv4(address: IPv6Address) -> None:
    carrying = address.ipv4_mapped is not None or address in ip_network("64:ff9b::/96")
    if address not in ip_network("2000::/3") and not carrying:
        assert isinstance(PUBLIC.judge(address, 443), Refused)


@given(st.ip_addresses(v=4), st.booleans())
def test_every_way_to_carry_an_ipv4_address_is_judged_as_the_address_itself(inner: IPv4Address, dev: bool) -> None:
    policy = DEV if dev else PUBLIC
    allowed = policy.judge(inner, 443) == Allowed()
    number = int(inner)
    for carrying in (
        IPv6Address(0xFFFF << 32 | number),
        IPv6Address(0x64_FF9B << 96 | number),
        IPv6Address(0x2002 << 112 | number << 80 | 1),
        teredo("8.8.8.8", str(inner)),
    ):
        assert (policy.judge(carrying, 443) == Allowed()) is allowed


def teredo(server: str, client: str) -> IPv6Address:
    return IPv6Address(0x2001_0000 << 96 | int(IPv4Address(server)) << 64 | (int(IPv4Address(client)) ^ 0xFFFFFFFF))


@pytest.mark.parametrize("port", [22, 25, 53, 110, 143, 465, 587, 2049, 6000, 6667, 10080, 11211])
def test_the_port_of_another_protocol_is_refused_wherever_it_is(port):
    for address in ("8.8.8.8", "2606:4700::1111", "64:ff9b::808:808"):
        verdict = PUBLIC.judge(ip_address(address), port)
        assert isinstance(verdict, Refused)
        assert f"{port} is the port of another protocol" in verdict.reason
    assert isinstance(DEV.judge(IPv4Address("127.0.0.1"), port), Refused)
    assert AddressPolicy(allow=(ip_network("8.8.8.0/24"),)).judge(IPv4Address("8.8.8.8"), port) == Allowed()


@pytest.mark.parametrize("port", [80, 443, 3000, 8080, 8443, 9600, 49152])
def test_other_ports_are_no_matter(port):
    assert PUBLIC.judge(IPv4Address("8.8.8.8"), port) == Allowed()

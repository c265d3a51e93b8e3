"""The address guard's judgement: to which IP addresses a webhook may be sent.

Rules
-----
* An address is refused if it lies in one of the special ranges below. The list is explicit, each range with the document that
  sets it apart, rather than left to `ipaddress.is_private`, whose answers change with the version of Python.
* Some IPv6 addresses carry an IPv4 address, and the network hands their packets on to it. They are judged by what they carry.
* The operator's allow-list overrides the ranges, for an address as it stands or for the one that it carries.
* Ports at which servers of other protocols listen are refused wherever they are: what a subscriber may write into a request must not
  become a mail, or a command of a cache. The allow-list overrides that, too.

Names play no part: what is judged is the address to which a socket is about to be opened, after the name was resolved.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Allowed:
    """A socket may be opened to the address."""


@dataclass(frozen=True, slots=True)
class Refused:
    """No socket may be opened to the address; `reason` says for a person what the address is."""

    reason: str


Verdict = Allowed | Refused


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """What an operator permits: the ranges in `allow` whatever they are, and with `allow_loopback` (`--dev`) this machine."""

    allow: tuple[Network, ...] = ()
    allow_loopback: bool = False

    def judge(self, address: Address, port: int) -> Verdict:
        """Says whether a socket may be opened to `port` of `address`."""
        if any(address in network for network in self.allow):
            return _ALLOWED
        if port in _OTHERS_PORTS:
            return Refused(f"{port} is the port of another protocol (Fetch standard, 2.9)")
        if isinstance(address, IPv6Address):
            for carrier in _CARRIERS:
                if address in carrier.network:
                    return self._judge_carried(address, port, carrier)
        special = _special_range_of(address)
        if special is None or (special.loopback and self.allow_loopback):
            return _ALLOWED
        return Refused(f"{address} is {special.kind} ({special.source})")

    def _judge_carried(self, address: IPv6Address, port: int, carrier: _Carrier) -> Verdict:
        for inner in carrier.carried(int(address)):
            verdict = self.judge(inner, port)
            if isinstance(verdict, Refused):
                return Refused(f"{address} carries {verdict.reason}, as {carrier.kind} ({carrier.source})")
        return _ALLOWED


@dataclass(frozen=True, slots=True)
class _Special:
    """A range that is no place for a webhook, from `first` to `last` (as integers, which compare fastest)."""

    first: int
    last: int
    kind: str
    source: str

    @property
    def loopback(self) -> bool:
        return self.kind == "loopback"


@dataclass(frozen=True, slots=True)
class _Carrier:
    """A range of IPv6 whose addresses carry IPv4 addresses, to which the network hands on."""

    network: IPv6Network
    kind: str
    source: str
    carried: Callable[[int], tuple[IPv4Address, ...]]


def _special(cidr: str, kind: str, source: str) -> _Special:
    network = ip_network(cidr)
    return _Special(int(network.network_address), int(network.broadcast_address), kind, source)


def _special_range_of(address: Address) -> _Special | None:
    number = int(address)
    for special in _SPECIAL_V4 if isinstance(address, IPv4Address) else _SPECIAL_V6:
        if special.first <= number <= special.last:
            return special
    return None


def _last_bits(number: int) -> tuple[IPv4Address, ...]:
    return (IPv4Address(number & 0xFFFFFFFF),)


def _bits_after_6to4_prefix(number: int) -> tuple[IPv4Address, ...]:
    return (IPv4Address(number >> 80 & 0xFFFFFFFF),)


def _teredo_server_and_client(number: int) -> tuple[IPv4Address, ...]:
    # "The client's IPv4 address is obfuscated by reversing every bit" (RFC 4380, 4).
    return IPv4Address(number >> 64 & 0xFFFFFFFF), IPv4Address(~number & 0xFFFFFFFF)


_ALLOWED = Allowed()

# The bad ports of the Fetch standard, which browsers keep to, and that of memcached, which skips what it does not understand.
_OTHERS_PORTS = frozenset(
    (
        *(1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103, 104),
        *(109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514, 515),
        *(526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723, 2049),
        *(3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080),
        11211,
    )
)

_CARRIERS = (
    _Carrier(IPv6Network("::ffff:0:0/96"), "IPv4-mapped", "RFC 4291", _last_bits),
    _Carrier(IPv6Network("64:ff9b::/96"), "NAT64", "RFC 6052", _last_bits),
    _Carrier(IPv6Network("2002::/16"), "6to4", "RFC 3056", _bits_after_6to4_prefix),
    _Carrier(IPv6Network("2001::/32"), "Teredo", "RFC 4380", _teredo_server_and_client),
)

# The first range that holds an address names it, so the narrow ones stand before those around them.
_SPECIAL_V4 = (
    _special("0.0.0.0/32", "unspecified", "RFC 1122"),
    _special("0.0.0.0/8", "of this network", "RFC 791"),
    _special("10.0.0.0/8", "private", "RFC 1918"),
    _special("100.100.100.200/32", "a cloud's metadata service", "Alibaba Cloud"),
    _special("100.64.0.0/10", "a carrier's shared range (CGNAT)", "RFC 6598"),
    _special("127.0.0.0/8", "loopback", "RFC 1122"),
    _special("168.63.129.16/32", "a cloud's metadata service", "Azure"),
    _special("169.254.169.254/32", "a cloud's metadata service", "AWS, Azure, Google Cloud and others"),
    _special("169.254.0.0/16", "link-local", "RFC 3927"),
    _special("172.16.0.0/12", "private", "RFC 1918"),
    _special("192.0.0.0/24", "reserved for protocol assignments", "RFC 6890"),
    _special("192.0.2.0/24", "documentation", "RFC 5737"),
    _special("192.88.99.0/24", "a retired 6to4 relay", "RFC 7526"),
    _special("192.168.0.0/16", "private", "RFC 1918"),
    _special("198.18.0.0/15", "for benchmarking", "RFC 2544"),
    _special("198.51.100.0/24", "documentation", "RFC 5737"),
    _special("203.0.113.0/24", "documentation", "RFC 5737"),
    _special("224.0.0.0/4", "multicast", "RFC 5771"),
    _special("255.255.255.255/32", "broadcast", "RFC 919"),
    _special("240.0.0.0/4", "reserved", "RFC 1112"),
)

_SPECIAL_V6 = (
    _special("::/128", "unspecified", "RFC 4291"),
    _special("::1/128", "loopback", "RFC 4291"),
    _special("::/96", "an IPv4-compatible address, which nobody routes", "RFC 4291"),
    # Where in it an IPv4 address sits is the business of the network that uses it, so there is nothing to judge it by.
    _special("64:ff9b:1::/48", "a network's own NAT64", "RFC 8215"),
    _special("::/8", "reserved", "RFC 4291"),
    _special("100::/64", "discard-only", "RFC 6666"),
    _special("100:0:0:1::/64", "a dummy prefix", "RFC 9780"),
    _special("100::/8", "reserved", "RFC 4291"),
    _special("200::/7", "reserved", "RFC 4048"),
    _special("400::/6", "reserved", "RFC 4291"),
    _special("800::/5", "reserved", "RFC 4291"),
    _special("1000::/4", "reserved", "RFC 4291"),
    _special("2001:2::/48", "for benchmarking", "RFC 5180"),
    _special("2001:10::/28", "ORCHID", "RFC 4843"),
    _special("2001:20::/28", "ORCHID", "RFC 7343"),
    _special("2001::/23", "reserved for protocol assignments", "RFC 2928"),
    _special("2001:db8::/32", "documentation", "RFC 3849"),
    _special("3fff::/20", "documentation", "RFC 9637"),
    _special("5f00::/16", "for segment routing", "RFC 9602"),
    _special("4000::/3", "reserved", "RFC 4291"),
    _special("6000::/3", "reserved", "RFC 4291"),
    _special("8000::/3", "reserved", "RFC 4291"),
    _special("a000::/3", "reserved", "RFC 4291"),
    _special("c000::/3", "reserved", "RFC 4291"),
    _special("e000::/4", "reserved", "RFC 4291"),
    _special("f000::/5", "reserved", "RFC 4291"),
    _special("f800::/6", "reserved", "RFC 4291"),
    _special("fd00:ec2::254/128", "a cloud's metadata service", "AWS"),
    _special("fc00::/7", "private", "RFC 4193"),
    _special("fe00::/9", "reserved", "RFC 4291"),
    _special("fe80::/10", "link-local", "RFC 4291"),
    _special("fec0::/10", "site-local", "RFC 3879"),
    _special("ff00::/8", "multicast", "RFC 4291"),
)

"""Whose a certificate is, by the identities that it has."""

from __future__ import annotations

import pytest

from certes_broker.domain.access import Bindings, Caller, Role
from certes_broker.domain.certificate_grants import (
    CertificateGrant,
    Identity,
    IdentityKind,
    caller_of,
    parse_identity_pattern,
)
from certes_broker.domain.errors import Invalid
from certes_broker.domain.events import Micros

UNTIL = Micros(17)
READ, WRITE = frozenset({Role.EVENTS_READ}), frozenset({Role.EVENTS_WRITE})


def uri(text: str) -> Identity:
    return Identity(IdentityKind.URI, text)


def dns(text: str) -> Identity:
    return Identity(IdentityKind.DNS, text)


def common_name(text: str) -> Identity:
    return Identity(IdentityKind.COMMON_NAME, text)


def grant(identity: Identity, roles: frozenset[Role] = READ) -> CertificateGrant:
    return CertificateGrant(identity.kind, parse_identity_pattern(identity.kind, identity.text), roles)


def whose(*identities: Identity, grants: tuple[CertificateGrant, ...]) -> str | None:
    caller = caller_of(identities, grants, UNTIL)
    return None if caller is None else caller.id


def test_a_caller_is_called_by_its_identity_and_has_what_the_entry_says_until_the_certificate_ends() -> None:
    bindings = Bindings(frozenset({"org_1"}), frozenset({"//shop"}))
    entry = CertificateGrant(IdentityKind.URI, "spiffe://example.com/shop/*", WRITE, bindings)
    caller = caller_of([dns("a"), uri("spiffe://example.com/shop/eu")], [entry], UNTIL)
    assert caller == Caller("certificates/uri:spiffe://example.com/shop/eu", WRITE, bindings, UNTIL)


def test_uris_come_before_dns_names_and_these_before_the_common_name_whatever_the_order_of_entries() -> None:
    entries = tuple(map(grant, (common_name("c"), dns("b"), uri("x://a"))))
    assert whose(common_name("c"), dns("b"), uri("x://a"), grants=entries) == "certificates/uri:x://a"
    assert whose(common_name("c"), dns("b"), uri("x://z"), grants=entries) == "certificates/dns:b"
    assert whose(common_name("c"), dns("z"), grants=entries) == "certificates/common_name:c"
    assert whose(common_name("z"), grants=entries) is None
    assert whose(grants=entries) is None


def test_among_entries_of_one_kind_the_first_counts_and_nothing_is_added_up() -> None:
    entries = (grant(uri("x://a/b"), READ), grant(uri("x://a/*"), WRITE))
    for order, roles in ((entries, READ), (entries[::-1], WRITE)):
        caller = caller_of([uri("x://a/b")], order, UNTIL)
        assert caller is not None
        assert caller.roles == roles


def test_an_identity_of_one_kind_cannot_pass_for_one_of_another() -> None:
    entries = (grant(uri("spiffe://example.com/shop")), grant(dns("shop.example.com")))
    for impostor in (
        common_name("spiffe://example.com/shop"),
        dns("spiffe://example.com/shop"),
        common_name("shop.example.com"),
        uri("shop.example.com"),
    ):
        assert whose(impostor, grants=entries) is None


@pytest.mark.parametrize(
    ("pattern", "fitting", "others"),
    [
        (uri("x://a/b"), ["x://a/b"], ["x://a/b/", "x://a/B", "x://a/bc", "x://a/*"]),
        (uri("x://a/*"), ["x://a/b", "x://a/b/c"], ["x://a", "x://a/", "x://ab/c", "X://a/b", "x://a/*"]),
        (dns("A.example.com."), ["a.example.com", "A.EXAMPLE.COM", "a.example.com."], ["b.example.com", "example.com"]),
        (
            dns("*.example.com"),
            ["a.example.com", "B.Example.com"],
            ["example.com", ".example.com", "a.b.example.com", "a.example.com.evil", "*.example.com"],
        ),
        (common_name("Shop 1"), ["Shop 1"], ["shop 1", "Shop 1 ", "Shop 12", ""]),
    ],
)
def test_a_pattern_covers_what_it_says_and_nothing_more(
    pattern: Identity, fitting: list[str], others: list[str]
) -> None:
    entries = (grant(pattern),)
    assert [text for text in fitting if whose(Identity(pattern.kind, text), grants=entries) is None] == []
    assert [text for text in others if whose(Identity(pattern.kind, text), grants=entries) is not None] == []


def test_an_identity_that_would_break_a_line_of_the_log_is_nobodys() -> None:
    assert whose(uri("x://a/b\nc"), grants=(grant(uri("x://a/*")),)) is None
    assert whose(uri("x://a/" + "b" * 2_000), grants=(grant(uri("x://a/*")),)) is None


@pytest.mark.parametrize(
    "pattern",
    [
        uri("spiffe://example.com*"),
        uri("spiffe://*/shop"),
        uri("spiffe://*"),
        uri("shop"),
        uri(""),
        dns("*"),
        dns("*."),
        dns("a.*.com"),
        dns("shop*.example.com"),
        common_name("shop*"),
        common_name("a\nb"),
        common_name("x" * 2_000),
    ],
)
def test_a_pattern_that_would_cover_more_than_it_seems_is_refused(pattern: Identity) -> None:
    with pytest.raises(Invalid, match="wants"):
        parse_identity_pattern(pattern.kind, pattern.text)

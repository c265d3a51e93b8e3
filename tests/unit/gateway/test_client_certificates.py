"""Callers by their certificates, and which credential counts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from certes_broker.broker.system_clock import SystemClock
from certes_broker.domain.access import ALL_ROLES, Bindings, Caller, Role
from certes_broker.domain.api_keys import ApiKey, KeyId, digest_of, spell_key
from certes_broker.domain.certificate_grants import CertificateGrant, IdentityKind
from certes_broker.domain.errors import Reason, Unauthenticated
from certes_broker.gateway.authentication import Authenticator
from certes_broker.gateway.callers import Credentials
from certes_broker.gateway.client_certificates import CertificateCallers
from certes_broker.gateway.revocations import Revocations
from tests.certificates import Authority
from tests.fakes.manual_clock import ManualClock

OPERATOR = spell_key(KeyId("operator"), b"o" * 32)
BINDINGS = Bindings(frozenset({"org_1"}), frozenset({"//one"}))
READ = frozenset({Role.EVENTS_READ})
GRANTS = (
    CertificateGrant(IdentityKind.COMMON_NAME, "shop", ALL_ROLES),
    CertificateGrant(IdentityKind.URI, "spiffe://example.com/shop", READ, BINDINGS),
    CertificateGrant(IdentityKind.DNS, "reader", READ),
)


class NoKeys:
    def find(self, key_id: KeyId) -> ApiKey | None:
        return None

    async def look(self) -> None:
        pass


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "clients")


def certificate(authority: Authority, name: str, **said: str) -> bytes:
    return authority.issue(name, **said)[0].read_bytes()


def authenticator(clock: ManualClock) -> Authenticator:
    operator = ApiKey(KeyId("operator"), digest_of(OPERATOR), ALL_ROLES)
    return Authenticator(NoKeys(), clock, operator, certificates=CertificateCallers(GRANTS))


async def refused(who: Authenticator, credentials: Credentials) -> Unauthenticated:
    with pytest.raises(Unauthenticated) as raised:
        await who.caller(credentials)
    return raised.value


def test_a_certificate_makes_the_same_caller_as_a_key_with_its_roles_and_bindings_would(authority: Authority) -> None:
    caller = CertificateCallers(GRANTS).caller(certificate(authority, "shop", uri="spiffe://example.com/shop"))
    assert caller is not None
    assert replace(caller, certificate="") == Caller(caller.id, READ, BINDINGS, caller.until)
    assert caller.id == "certificates/uri:spiffe://example.com/shop"
    assert caller.is_bound


def test_each_kind_of_identity_is_read_where_it_stands(authority: Authority) -> None:
    callers = CertificateCallers(GRANTS)
    named = callers.caller(certificate(authority, "other", common_name="shop"))
    assert named is not None
    assert named.is_operator
    by_dns = callers.caller(certificate(authority, "reader", common_name="spiffe://example.com/shop"))
    assert by_dns is not None
    assert by_dns.id == "certificates/dns:reader"
    assert callers.caller(certificate(authority, "stranger", common_name="reader")) is None


def test_an_authority_without_other_names_is_read_too_and_rubbish_is_nobodys(authority: Authority) -> None:
    callers = CertificateCallers(GRANTS)
    assert callers.caller(authority.ca.read_bytes()) is None
    assert callers.caller(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n") is None
    assert callers.caller(b"") is None


def test_what_was_read_is_remembered_and_not_without_end(authority: Authority) -> None:
    callers = CertificateCallers(GRANTS, remembered=2)
    shown = [certificate(authority, name) for name in ("a", "b", "reader")]
    for one in (*shown, *shown):
        callers.caller(one)
    assert len(callers) == 2
    reader = callers.caller(shown[2])
    assert reader is not None
    assert callers.caller(shown[2]) is reader


async def test_a_certificate_that_no_entry_names_is_as_none_and_said_to_be(authority: Authority) -> None:
    who = authenticator(ManualClock())
    none = await refused(who, Credentials())
    unknown = await refused(who, Credentials((), certificate(authority, "stranger")))
    assert none.reason is unknown.reason is Reason.CREDENTIALS_MISSING
    assert "whose certificate this is" in unknown.message


async def test_what_a_call_says_of_itself_counts_before_the_certificate_and_also_if_it_is_wrong(
    authority: Authority,
) -> None:
    who, shown = authenticator(ManualClock()), certificate(authority, "reader")
    assert (await who.caller(Credentials((f"Bearer {OPERATOR}",), shown))).id == "apiKeys/operator"
    for wrong in ("", "Bearer certes_operator_" + "x" * 40, "Bearer a.b.c", "Basic x"):
        assert (await refused(who, Credentials((wrong,), shown))).reason is Reason.CREDENTIALS_INVALID


async def test_a_certificate_whose_time_is_over_is_refused_although_its_connection_lives(authority: Authority) -> None:
    shown = Credentials((), certificate(authority, "reader"))
    caller = CertificateCallers(GRANTS).caller(shown.certificate or b"")
    assert caller is not None
    assert caller.until is not None
    clock = ManualClock(caller.until - 1_000_000)
    who = authenticator(clock)
    assert (await who.caller(shown)).id == "certificates/dns:reader"
    clock.advance(1)
    assert (await refused(who, shown)).reason is Reason.CREDENTIALS_INVALID


async def test_a_certificate_that_was_taken_back_lets_nobody_in_and_opens_no_stream(
    authority: Authority, tmp_path: Path
) -> None:
    gone, good = authority.issue("reader"), authority.issue("shop")
    (tmp_path / "clients.crl").write_bytes(authority.revoke(gone[0]))
    callers = CertificateCallers(GRANTS, Revocations(tmp_path / "clients.crl", authority.ca))
    who = Authenticator(NoKeys(), SystemClock(), None, certificates=callers)
    assert (await who.caller(Credentials((), good[0].read_bytes()))).id == "certificates/common_name:shop"
    assert (await refused(who, Credentials((), gone[0].read_bytes()))).reason is Reason.CREDENTIALS_INVALID
    caller = callers.caller(gone[0].read_bytes())
    assert caller is not None
    assert not who.is_good(caller)

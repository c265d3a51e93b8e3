"""The tables `[[auth.certificates]]`."""

from __future__ import annotations

from pathlib import Path

import pytest

from certes_broker.config import Config
from certes_broker.domain.access import ROLE_SETS, Bindings
from certes_broker.domain.certificate_grants import CertificateGrant, IdentityKind
from certes_broker.domain.errors import Invalid
from certes_broker.domain.uris import parse_pattern

TLS = '[tls]\ncertificate = "c.pem"\nkey = "c.key"\nclient_ca = "ca.pem"\n'


def loaded(tmp_path: Path, text: str, tls: str = TLS) -> Config:
    file = tmp_path / "certes.toml"
    file.write_text(tls + text)
    return Config.load(file, {}, {})


def complaint(tmp_path: Path, text: str, tls: str = TLS) -> str:
    with pytest.raises(Invalid) as caught:
        loaded(tmp_path, text, tls)
    return str(caught.value)


def test_an_entry_says_whose_certificate_may_do_what(tmp_path: Path) -> None:
    auth = loaded(
        tmp_path,
        '[[auth.certificates]]\nuri = "spiffe://example.com/shop/*"\nroles = ["publisher"]\n'
        'subscribers = ["org_1"]\nsources = ["//shop/*"]\ntypes = ["events.example.com/**"]\n'
        '[[auth.certificates]]\ndns = "Reader.example.com"\nroles = ["subscriber"]\n',
    ).auth
    bindings = Bindings(
        frozenset({"org_1"}), frozenset({"//shop/*"}), frozenset({parse_pattern("events.example.com/**")})
    )
    assert auth.is_configured
    assert auth.certificates == (
        CertificateGrant(IdentityKind.URI, "spiffe://example.com/shop/*", ROLE_SETS["publisher"], bindings),
        CertificateGrant(IdentityKind.DNS, "reader.example.com", ROLE_SETS["subscriber"]),
    )


def test_an_empty_list_binds_to_nothing_and_an_absent_one_to_all(tmp_path: Path) -> None:
    (grant,) = loaded(
        tmp_path, '[[auth.certificates]]\ncommon_name = "a"\nroles = ["operator"]\nsubscribers = []\n'
    ).auth.certificates
    assert grant.bindings == Bindings(subscribers=frozenset())


def test_certificates_are_authentication_enough_to_listen_where_others_reach_it(tmp_path: Path) -> None:
    entry = '[[auth.certificates]]\ncommon_name = "a"\nroles = ["operator"]\n'
    where = '[http]\nlisten = "0.0.0.0:1"\n[grpc]\nlisten = "0.0.0.0:2"\n'
    assert loaded(tmp_path, where + entry).http.listen.port == 1
    assert "no authentication" in complaint(tmp_path, where)


def test_without_an_authority_of_clients_entries_are_refused_where_they_stand(tmp_path: Path) -> None:
    said = complaint(tmp_path, '[[auth.certificates]]\ncommon_name = "a"\nroles = ["operator"]\n', tls="")
    assert "certes.toml:1:1: auth.certificates is of no use without tls.client_ca" in said


def test_lists_of_revoked_certificates_are_of_no_use_where_none_is_a_credential(tmp_path: Path) -> None:
    said = complaint(tmp_path, '[auth]\nclient_crl = "clients.crl"\n')
    assert "auth.client_crl is of no use without [[auth.certificates]]" in said
    entry = '[auth]\nclient_crl = "clients.crl"\n[[auth.certificates]]\ncommon_name = "a"\nroles = ["operator"]\n'
    assert loaded(tmp_path, entry).auth.client_crl is not None


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ('roles = ["operator"]', "certes.toml:6:1: auth.certificates[0] has none of uri, dns and common_name"),
        ('uri = "x://a"\ndns = "a"\nroles = ["operator"]', "has uri and dns of uri, dns and common_name"),
        (
            'uri = "x://*"\nroles = ["operator"]',
            "certes.toml:7:1: auth.certificates[0].uri cannot be used: wants a URI",
        ),
        ('uri = 3\nroles = ["operator"]', "auth.certificates[0].uri wants a text in quotes"),
        ('dns = "a"', "auth.certificates[0].roles is missing"),
        ('dns = "a"\nroles = []', "auth.certificates[0].roles is missing, or lists nothing"),
        ('dns = "a"\nroles = ["king"]', "auth.certificates[0].roles cannot be used: 'king' is no role"),
        ('dns = "a"\nroles = "operator"', "auth.certificates[0].roles wants a list of texts"),
        ('dns = "a"\nroles = ["operator"]\nsubscribers = ["a/b"]', "auth.certificates[0].subscribers cannot be used"),
        ('dns = "a"\nroles = ["operator"]\nsources = ["*/a"]', "auth.certificates[0].sources cannot be used"),
        ('dns = "a"\nroles = ["operator"]\ntypes = ["*"]', "auth.certificates[0].types cannot be used"),
        ('dns = "a"\nrole = ["operator"]', "is no key of a certificate's entry. Did you mean roles?"),
        ('dns = "a"\nroles = ["operator"]\n[[auth.certificates]]\ndns = "A"\nroles = ["publisher"]', "is taken: 'a'"),
    ],
)
def test_what_is_wrong_with_an_entry_is_said_with_its_place(tmp_path: Path, entry: str, said: str) -> None:
    assert said in complaint(tmp_path, f"\n[[auth.certificates]]\n{entry}\n")


@pytest.mark.parametrize("tables", ['certificates = "a"', "certificates = [1]"])
def test_what_is_no_table_is_refused(tmp_path: Path, tables: str) -> None:
    assert "wants [[auth.certificates]] tables" in complaint(tmp_path, f"[auth]\n{tables}\n")

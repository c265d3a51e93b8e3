"""Certificates that their authorities have taken back."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from structlog.testing import capture_logs

from certes_broker.domain.errors import Invalid
from certes_broker.gateway.revocations import Revocations, number_of
from tests.certificates import Authority


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "clients")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "clients.crl"


def number(certificate: Path) -> str:
    read = x509.load_pem_x509_certificate(certificate.read_bytes())
    return number_of(read.issuer, read.serial_number)


def write(file: Path, content: bytes) -> None:
    """Writes a file so that it is another one, however coarse the clock of the file system is."""
    beside = file.with_suffix(".next")
    beside.write_bytes(content)
    beside.replace(file)


def test_what_is_on_the_list_was_taken_back_and_nothing_else(authority: Authority, file: Path) -> None:
    gone, good = authority.issue("gone")[0], authority.issue("good")[0]
    write(file, authority.revoke(gone))
    revocations = Revocations(file, authority.ca)
    assert (revocations.has(number(gone)), revocations.has(number(good))) == (True, False)


def test_a_number_of_one_authority_says_nothing_of_anothers(authority: Authority, file: Path, tmp_path: Path) -> None:
    other = Authority(tmp_path / "others")
    gone, kept = authority.issue("gone")[0], other.issue("kept")[0]
    authorities = tmp_path / "both.pem"
    authorities.write_bytes(authority.ca.read_bytes() + other.ca.read_bytes())
    write(file, b"All of them:\n" + authority.revoke(gone) + other.revoke())
    revocations = Revocations(file, authorities)
    serial = number(gone).partition(":")[2]
    assert revocations.has(number(gone))
    assert not revocations.has(f"{number(kept).partition(':')[0]}:{serial}")


def test_a_list_that_is_written_anew_holds_at_the_next_question(authority: Authority, file: Path) -> None:
    first, second = authority.issue("first")[0], authority.issue("second")[0]
    write(file, authority.revoke(first))
    revocations = Revocations(file, authority.ca)
    assert not revocations.has(number(second))
    write(file, authority.revoke(second))
    assert (revocations.has(number(first)), revocations.has(number(second))) == (False, True)


@pytest.mark.parametrize("how", ["gone", "rubbish", "of a stranger"])
def test_while_it_cannot_be_used_the_last_one_holds_and_that_is_said_once(
    authority: Authority, file: Path, tmp_path: Path, how: str
) -> None:
    gone = authority.issue("gone")[0]
    write(file, authority.revoke(gone))
    revocations = Revocations(file, authority.ca)
    if how == "gone":
        file.unlink()
    else:
        write(file, b"x" if how == "rubbish" else Authority(tmp_path / "strangers").revoke())
    with capture_logs() as logged:
        assert [revocations.has(number(gone)) for _ in range(3)] == [True] * 3
    assert [line["event"] for line in logged] == ["revocations_refused"]


def test_a_list_whose_next_one_is_overdue_goes_on_to_count(authority: Authority, file: Path) -> None:
    gone = authority.issue("gone")[0]
    write(file, authority.revoke(gone, age=timedelta(days=9)))
    assert Revocations(file, authority.ca).has(number(gone))


def test_a_list_that_pretends_to_be_of_an_authority_is_refused(
    authority: Authority, file: Path, tmp_path: Path
) -> None:
    namesake = Authority(tmp_path / "elsewhere" / "clients")
    write(file, namesake.revoke())
    with pytest.raises(Invalid, match=r"CN=authority clients is signed by no authority of tls\.client_ca"):
        Revocations(file, authority.ca)


@pytest.mark.parametrize(
    ("extension", "is_taken"),
    [
        (x509.DeltaCRLIndicator(1), False),
        (x509.IssuingDistributionPoint(None, None, False, False, None, True, False), False),
        (x509.IssuingDistributionPoint(None, None, True, False, None, False, False), True),
        (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.55555.1"), b"\5\0"), False),
    ],
)
def test_a_list_of_a_kind_that_is_not_understood_is_refused(
    authority: Authority, file: Path, extension: x509.ExtensionType, is_taken: bool
) -> None:
    write(file, authority.revoke(extension=extension))
    if is_taken:
        Revocations(file, authority.ca)
        return
    with pytest.raises(Invalid, match="of a kind that is not understood"):
        Revocations(file, authority.ca)


def test_a_file_that_is_missing_or_has_no_list_ends_the_start_with_its_name(authority: Authority, file: Path) -> None:
    with pytest.raises(Invalid, match=r"auth\.client_crl cannot be used: .*clients\.crl: No such file"):
        Revocations(file, authority.ca)
    for content in (b"", authority.ca.read_bytes(), b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"):
        write(file, content)
        with pytest.raises(Invalid, match=r"auth\.client_crl cannot be used: .*clients\.crl"):
            Revocations(file, authority.ca)

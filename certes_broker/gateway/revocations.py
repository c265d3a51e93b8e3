"""Knows which certificates their authorities have taken back, by lists in a file (RFC 5280, section 5).

Rules
-----
* Only lists that are signed by an authority of `tls.client_ca` count. They may have come over a network in clear, as they are made to.
* The file is followed: whoever asks is answered by what is in it now. While it cannot be used, the last lists that could are, and the
  log says so once: an outage of whoever renews it must not let those in that were taken back, nor keep all others out.
* For the same reason a list whose next one is overdue goes on to count. An authority without a list has taken nothing back.
* A list that says something critical that is not understood here is refused: "If a CRL contains a critical extension that the
  application cannot process, then the application MUST NOT use that CRL to determine the status of certificates."
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final

import structlog
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from certes_broker.domain.errors import Invalid, Reason
from certes_broker.gateway.certificates import stamp

log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)

_LIST: Final = re.compile(rb"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----", re.DOTALL)


def number_of(issuer: x509.Name, serial: int) -> str:
    """Returns what a certificate is known by: its issuer, however that is encoded, and the number that it has there."""
    return f"{_prefix(issuer)}{serial:x}"


class Revocations:
    """The certificates that were taken back, as the file says at each question."""

    def __init__(self, file: Path, authorities: Path) -> None:
        """Reads both files. Raises `Invalid` (SETTINGS_INVALID) if they cannot be used."""
        self._paths = (file, authorities)
        self._seen = self._stamps()
        try:
            self._revoked = _load(file, authorities)
        except (OSError, ValueError) as error:
            raise Invalid(Reason.SETTINGS_INVALID, f"auth.client_crl cannot be used: {_told(error, file)}") from error

    def has(self, number: str) -> bool:
        """Says whether the certificate of a number (`number_of`) was taken back."""
        stamps = self._stamps()
        if stamps != self._seen:
            self._seen = stamps
            self._renew()
        return number in self._revoked

    def _renew(self) -> None:
        file, authorities = self._paths
        try:
            self._revoked = _load(file, authorities)
        except (OSError, ValueError) as error:
            log.error("revocations_refused", error=_told(error, file), effect="the last ones hold")
        else:
            log.info("revocations_renewed", file=str(file), certificates=len(self._revoked))

    def _stamps(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(map(stamp, self._paths))


def _load(file: Path, authorities: Path) -> frozenset[str]:
    """Raises `OSError` and `ValueError`."""
    known = x509.load_pem_x509_certificates(authorities.read_bytes())
    found = [x509.load_pem_x509_crl(pem) for pem in _LIST.findall(file.read_bytes())]
    if not found:
        raise ValueError("it holds no list of revoked certificates in PEM (X509 CRL)")
    for one in found:
        _check(one, known)
    prefixes = [_prefix(one.issuer) for one in found]
    return frozenset(
        f"{prefix}{entry.serial_number:x}" for prefix, one in zip(prefixes, found, strict=True) for entry in one
    )


def _prefix(issuer: x509.Name) -> str:
    return f"{sha256(issuer.rfc4514_string().encode()).hexdigest()[:32]}:"


def _check(one: x509.CertificateRevocationList, known: Sequence[x509.Certificate]) -> None:
    issuer = one.issuer.rfc4514_string()
    if not any(_is_signed(one, authority) for authority in known):
        raise ValueError(f"the list of {issuer} is signed by no authority of tls.client_ca")
    try:
        strange = ", ".join(_strange(one))
    except x509.DuplicateExtension as error:
        strange = str(error)
    if strange:
        raise ValueError(f"the list of {issuer} is of a kind that is not understood ({strange})")


def _is_signed(one: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    try:
        # Keys that sign nothing are of no type that this takes.
        return authority.subject == one.issuer and one.is_signature_valid(authority.public_key())  # type: ignore[arg-type]
    except (TypeError, UnsupportedAlgorithm):
        return False


def _strange(one: x509.CertificateRevocationList) -> Iterator[str]:
    """Yields what a list says that is not understood: that it is a change to another list, or speaks for other issuers."""
    for extension in one.extensions:
        value = extension.value
        if isinstance(value, x509.IssuingDistributionPoint) and not value.indirect_crl:
            continue
        if extension.critical:
            yield extension.oid.dotted_string


def _told(error: Exception, file: Path) -> str:
    if isinstance(error, OSError):
        return f"{error.filename or file}: {error.strerror or error}"
    return f"{file}: {error}"

"""Knows callers by the certificates that TLS has verified.

Rules
-----
* That a certificate is one of an authority of `tls.client_ca` was seen to by the handshake. Here is only read whose it is.
* The handshake may be long past when a call comes. So the end of a certificate's time is judged again at each call, and streams
  end then.
* A certificate that cannot be read is nobody's, as is one with an identity that no entry names.
* One that its authority has taken back is refused at the next call, too, and the streams that it has opened end soon: `open_streams`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import NameOID

from certes_broker.domain.access import Caller
from certes_broker.domain.certificate_grants import CertificateGrant, Identity, IdentityKind, caller_of
from certes_broker.domain.events import Micros
from certes_broker.gateway.revocations import Revocations, number_of

REMEMBERED: Final = 1_000


class CertificateCallers:
    """Says whose a certificate is. What was read is remembered, as connections show the same one with every call."""

    def __init__(
        self,
        grants: Sequence[CertificateGrant],
        revocations: Revocations | None = None,
        *,
        remembered: int = REMEMBERED,
    ) -> None:
        self._grants = tuple(grants)
        self._revocations = revocations
        self._remembered = remembered
        self._known: OrderedDict[bytes, Caller | None] = OrderedDict()

    def __len__(self) -> int:
        """How many certificates are remembered."""
        return len(self._known)

    def caller(self, certificate: bytes) -> Caller | None:
        """Returns whose a certificate in PEM is, until its time is over; None if it is nobody's."""
        if certificate not in self._known:
            self._known[certificate] = _read(certificate, self._grants)
            if len(self._known) > self._remembered:
                self._known.popitem(last=False)
        return self._known[certificate]

    def is_revoked(self, caller: Caller) -> bool:
        """Says whether the certificate that a caller showed has been taken back."""
        return self._revocations is not None and self._revocations.has(caller.certificate)


def _read(pem: bytes, grants: Sequence[CertificateGrant]) -> Caller | None:
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        identities = tuple(_identities(certificate))
        until = Micros(int(certificate.not_valid_after_utc.timestamp() * 1_000_000))
    except (
        ValueError,
        UnsupportedAlgorithm,
        x509.DuplicateExtension,
        x509.InvalidVersion,
        x509.UnsupportedGeneralNameType,
    ):
        return None
    caller = caller_of(identities, grants, until)
    return caller and replace(caller, certificate=number_of(certificate.issuer, certificate.serial_number))


def _identities(certificate: x509.Certificate) -> Iterator[Identity]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        pass
    else:
        for uri in names.get_values_for_type(x509.UniformResourceIdentifier):
            yield Identity(IdentityKind.URI, uri)
        for name in names.get_values_for_type(x509.DNSName):
            yield Identity(IdentityKind.DNS, name)
    for attribute in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME):
        if isinstance(attribute.value, str):
            yield Identity(IdentityKind.COMMON_NAME, attribute.value)

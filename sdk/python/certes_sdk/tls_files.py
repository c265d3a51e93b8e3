"""What settings name for TLS: the authorities that are trusted, and the certificate that is shown with its key.

Rules
-----
* A client reads the files when it is made, so that a mistake is told where it was made, and again whenever it connects: others
  renew them.
* What does not fit together, or cannot be read, is refused with the setting that names it.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path

from certes_sdk.errors import invalid_field
from certes_sdk.settings import Settings


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """What is in the files, as PEM; None for those that are not named. Equal if that is."""

    authorities: bytes | None = None
    certificate: bytes | None = None
    key: bytes | None = field(default=None, repr=False)
    context: ssl.SSLContext | None = field(default=None, compare=False, repr=False)
    """Trusts and shows that; None where nothing is named."""


def read_tls_files(settings: Settings) -> TlsFiles:
    """Reads the files and tries them out. Blocks. Raises `FIELD_INVALID`, which names the setting."""
    ca_file, certificate, key = settings.ca_file, settings.certificate, settings.certificate_key
    found = TlsFiles(
        _content("ca_file", ca_file), _content("certificate", certificate), _content("certificate_key", key)
    )
    if found == TlsFiles():
        return found
    context = _trusting(ca_file)
    if certificate is not None and key is not None:
        _show(context, certificate, key)
        if (_content("certificate", certificate), _content("certificate_key", key)) != (found.certificate, found.key):
            raise invalid_field("certificate", f"{certificate} and its key are being written")
    return TlsFiles(found.authorities, found.certificate, found.key, context)


def _content(setting: str, path: str | None) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        raise invalid_field(setting, f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _trusting(ca_file: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError:
        raise invalid_field("ca_file", f"{ca_file} holds no certificate in PEM") from None


def _show(context: ssl.SSLContext, certificate: str, key: str) -> None:
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except ssl.SSLError as error:
        if "MISMATCH" in (error.reason or ""):
            raise invalid_field(
                "certificate_key", f"{key} is not the key of the certificate in {certificate}"
            ) from None
        if not _holds_certificates(certificate):
            raise invalid_field("certificate", f"{certificate} holds no certificate in PEM") from None
        raise invalid_field("certificate_key", f"{key} holds no private key in PEM") from None
    except OSError as error:
        raise invalid_field("certificate", f"{certificate} and its key cannot be read: {error}") from None


def _holds_certificates(path: str) -> bool:
    """OpenSSL does not say which of two files is at fault."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except OSError:
        return False
    return True


def _no_password() -> bytes:
    raise invalid_field("certificate_key", "the key is encrypted; one without a passphrase is wanted")

"""Where the certificate authorities are that receivers are checked against.

libcurl, as pycurl's wheels bring it, looks only where one family of distributions keeps them. So they are looked for here: where the
operator says (`SSL_CERT_FILE`, as every OpenSSL program reads it), where the system has them, else those that certifi ships.
"""

from __future__ import annotations

import ssl
from pathlib import Path

import certifi

_SYSTEM_FILES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Arch, Alpine
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # openSUSE
    "/etc/ssl/cert.pem",  # Alpine, macOS, the BSDs
)


def trusted_authorities() -> str:
    """Returns the path of a file of certificate authorities (PEM)."""
    configured = ssl.get_default_verify_paths().cafile
    if configured is not None:
        return configured
    return next((path for path in _SYSTEM_FILES if Path(path).is_file()), certifi.where())

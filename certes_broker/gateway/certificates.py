"""The certificates that both ports serve with, taken from their files anew when those have changed.

Theory of operation
-------------------
Certificates are renewed by others: a cron job, an agent, Kubernetes. So nobody need tell the broker: each handshake looks at the
files (`stat`), and where one has changed reads them all again. What has been read is tried out before it is served; while the
files do not fit together, as between the writing of a certificate and of its key, or cannot be read, the last ones that did are
served on, and the log says so once.

Connections keep what they began with. gRPC asks in threads of its own, hence the lock.

A resumed session brings the client's certificate along unverified, and sessions are known to the context that a handshake began
with, whichever one it is given later. So there is none that outlives the files: each handshake begins with the context of the
moment, and a new one knows no sessions. gRPC does the same with what it is given here.

gRPC takes over what is new under a lock, and begins handshakes outside of it: one that is about to begin with what has just been
let go ends the process (grpc/grpc#36693). So it is told of what is new only, and not before the handshakes that were about to
begin have begun, while the lock keeps others from it.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import grpc
import structlog

from certes_broker.domain.errors import Invalid, Reason

_TO_BEGIN: Final = 0.1
"""Seconds for handshakes of gRPC that are about to begin: they have microseconds of work to do until then."""

log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """Where the certificates are, as PEM: the chain, its key, and the authorities of clients' certificates if those are asked for.

    `http_clients_required` is whether an HTTP client without a certificate is turned away, as a gRPC client always is.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None
    http_clients_required: bool = True

    @property
    def paths(self) -> tuple[Path, ...]:
        """All files that there are."""
        return (self.certificate, self.key, *([] if self.client_ca is None else [self.client_ca]))


class Certificates:
    """Serves TLS with what is in the files, as they are at each handshake."""

    def __init__(self, files: CertificateFiles) -> None:
        """Reads the files. Raises `Invalid` (SETTINGS_INVALID) if one cannot be read, or they do not fit together."""
        self._files = files
        self._lock = threading.Lock()
        self._seen = self._stamps()
        try:
            self._loaded = _load(files)
        except (OSError, ValueError) as error:
            raise Invalid(Reason.SETTINGS_INVALID, f"TLS cannot be served: {_told(error, files)}") from error

    def context(self) -> ssl.SSLContext:
        """Returns a context for servers of HTTP/1.1 that follows the files at every handshake."""
        return _Following(lambda: self._current().context)

    def credentials(self) -> grpc.ServerCredentials:
        """Returns the credentials of a gRPC server, which follow the files at every handshake."""
        served = self._current()

        def renewed() -> Any:
            nonlocal served
            current = self._current()
            if current is served:
                return None
            configuration = current.configuration()
            time.sleep(_TO_BEGIN)
            served = current
            return configuration

        return grpc.dynamic_ssl_server_credentials(
            served.configuration(), renewed, require_client_authentication=self._files.client_ca is not None
        )

    def _current(self) -> _Loaded:
        with self._lock:
            stamps = self._stamps()
            if stamps != self._seen:
                self._seen = stamps
                try:
                    self._loaded = _load(self._files)
                except (OSError, ValueError) as error:
                    log.error(
                        "certificates_refused", error=_told(error, self._files), effect="the last ones are served on"
                    )
                else:
                    log.info("certificates_renewed", certificate=str(self._files.certificate))
            return self._loaded

    def _stamps(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(map(stamp, self._files.paths))


class _Following(ssl.SSLContext):
    """Begins each handshake with the context of the moment. Event loops ask a context for nothing else."""

    def __new__(cls, *_: object) -> Self:
        return super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)

    def __init__(self, current: Callable[[], ssl.SSLContext]) -> None:
        super().__init__()
        self._current = current

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,  # noqa: FBT001, FBT002 — as it is declared there
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        return self._current().wrap_bio(incoming, outgoing, server_side, server_hostname, session)


@dataclass(frozen=True, slots=True)
class _Loaded:
    """What was in the files, tried out."""

    certificate: bytes
    key: bytes
    client_ca: bytes | None
    context: ssl.SSLContext

    def configuration(self) -> Any:
        return grpc.ssl_server_certificate_configuration([(self.key, self.certificate)], self.client_ca)


def _load(files: CertificateFiles) -> _Loaded:
    """Raises `OSError` and `ValueError`; `ssl.SSLError` is both."""
    certificate, key = files.certificate.read_bytes(), files.key.read_bytes()
    client_ca = None if files.client_ca is None else files.client_ca.read_bytes()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(files.certificate, files.key, password=_no_password)
    if (certificate, key) != (files.certificate.read_bytes(), files.key.read_bytes()):
        raise ValueError("the files are being written")
    if client_ca is not None:
        context.load_verify_locations(cadata=client_ca.decode("ascii"))
        context.verify_mode = ssl.CERT_REQUIRED if files.http_clients_required else ssl.CERT_OPTIONAL
    return _Loaded(certificate, key, client_ca, context)


def _no_password() -> bytes:
    raise ValueError("the key is encrypted; give one without a passphrase, which only the broker may read")


def stamp(path: Path) -> tuple[int, int, int] | None:
    """Returns what tells that a file was written anew; None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _told(error: Exception, files: CertificateFiles) -> str:
    named = ", ".join(map(str, files.paths))
    if isinstance(error, ssl.SSLError):
        return f"{error.reason or error} in {named}; PEM files of a certificate and its own key are wanted"
    if isinstance(error, OSError):
        return f"{error.filename or named}: {error.strerror or error}"
    return f"{error} ({named})"

"""What the HTTP gateway is told: where it listens, who may talk to it, and its bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from certes_broker.gateway.limits import MAXIMUM_REQUEST_BYTES

LOOPBACK_NAMES: Final = ("localhost", "127.0.0.1", "[::1]")
DEFAULT_PORT: Final = 9600


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """Settings of the HTTP gateway. Times are seconds, sizes bytes.

    `allowed_hosts` are the names by which clients may call the gateway (`Host`) and from which web pages may call it
    (`Origin`): a name alone allows every port, `name:port` that one. `grpc_address` is what discovery answers; with an
    empty host, as in `:9601`, it is completed by the name under which the client found this gateway.
    """

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    allowed_hosts: tuple[str, ...] = LOOPBACK_NAMES
    grpc_address: str = ":9601"
    grpc_tls: bool = False
    grpc_client_certificate: bool = False
    """Whether gRPC turns away clients that show none."""
    version: str = ""
    max_payload_bytes: int = 1024 * 1024
    """Bodies of `POST /events/{source}`."""
    max_request_bytes: int = MAXIMUM_REQUEST_BYTES
    """Bodies of all else."""
    max_header_bytes: int = 32 * 1024
    """Request line and headers of one request together."""
    max_arriving_bytes: int = 128 * 1024 * 1024
    """All bodies together that have begun to arrive. Beyond it only small ones are let in, which are bounded by their number."""
    max_connections: int = 2_048
    backlog: int = 1_024
    keep_alive_timeout: float = 75.0
    """How long an idle connection is kept."""
    request_timeout: float = 30.0
    """How long a client may take to send a request's headers, and then its body."""

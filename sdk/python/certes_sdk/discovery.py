"""Finding the gateway: where it says that gRPC is, and whether that can be trusted with a token.

What was found over TLS is spoken to over TLS, and what was found on loopback without it is on loopback too. Anything else is
refused, so that no answer can send a token over the network in clear.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import time
from contextlib import closing
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from certes_sdk.errors import CertesError, failed_precondition, unavailable
from certes_sdk.uris import Gateway, parse_authority

PROTOCOL: Final = "certes.v1"
PATH: Final = "/.well-known/certes"
TIMEOUT: Final = 5.0
"""Seconds that finding a gateway may take."""
MAXIMUM_BYTES: Final = 64 << 10

_LOCALHOST: Final = "localhost"


@dataclass(frozen=True, slots=True)
class Found:
    """Where gRPC is. `domain` is the broker's own, empty where it does not say it.

    `asks_certificate` is whether clients are turned away that show none.
    """

    address: str
    tls: bool
    domain: str
    asks_certificate: bool = False


def discover(gateway: Gateway, context: ssl.SSLContext | None) -> Found:
    """Asks a gateway where gRPC is. Blocks, for 5 s at most. Without a context, the system's authorities are trusted.

    Raises `GATEWAY_UNREACHABLE`, `PROTOCOL_UNSUPPORTED`, `GATEWAY_INSECURE`.
    """
    deadline = time.monotonic() + TIMEOUT
    addresses = loopback_addresses(gateway.host)
    if not addresses:
        return check(judge(_fetch(gateway, None, context, deadline), found_on_loopback=False))
    for address in addresses[:-1]:
        try:
            return check(judge(_fetch(gateway, address, context, deadline), found_on_loopback=True))
        except CertesError as error:
            if not isinstance(error.__cause__, ConnectionRefusedError):
                raise
    return check(judge(_fetch(gateway, addresses[-1], context, deadline), found_on_loopback=True))


def check(found: Found) -> Found:
    """Refuses an address without TLS that is not this machine, and makes of a name the address that was judged.

    A name is looked up once: one that is this machine when it is judged and another when it is connected to would have the token in
    clear. Raises `GATEWAY_INSECURE`.
    """
    if found.tls:
        return found
    place = parse_authority(found.address)
    addresses = loopback_addresses(place.host)
    if not addresses:
        raise _insecure(found.address)
    # The broker listens on IPv4 unless it is told otherwise.
    address = next((one for one in addresses if ":" not in one), addresses[0])
    host = f"[{address}]" if ":" in address else address
    return replace(found, address=f"{host}:{place.port}")


def judge(body: bytes, *, found_on_loopback: bool) -> Found:
    """Reads the answer of a gateway. What it leaves to look up is whether the name of the address is one of loopback.

    Raises `PROTOCOL_UNSUPPORTED`, and `GATEWAY_INSECURE` if gRPC is without TLS, but where the gateway itself is on loopback.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise _unsupported("its answer is no JSON") from None
    if not isinstance(document, dict):
        raise _unsupported("its answer is no JSON object")
    protocols = document.get("protocolVersions")
    if not isinstance(protocols, list) or PROTOCOL not in protocols:
        raise _unsupported(f"it does not speak {PROTOCOL}")
    grpc = document.get("grpc")
    address, tls = (grpc.get("address"), grpc.get("tls")) if isinstance(grpc, dict) else (None, None)
    if not isinstance(address, str) or not isinstance(tls, bool) or not _has_port(address):
        raise _unsupported("it does not say where gRPC is, as host:port, and whether with TLS")
    if not tls and not found_on_loopback:
        raise _insecure(address)
    domain = document.get("domain")
    asks = tls and isinstance(grpc, dict) and grpc.get("clientCertificate") is True
    return Found(address, tls, domain.lower() if isinstance(domain, str) else "", asks)


def loopback_addresses(host: str) -> list[str]:
    """Returns the addresses of this machine that a host stands for; none where it is, or may be, another machine."""
    literal = loopback_literal(host)
    if literal is False:
        return []
    try:
        found = list(
            dict.fromkeys(str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))
        )
    except (OSError, UnicodeError):
        found = []
    own = [address for address in found if loopback_literal(address)]
    if literal:
        return own or ["127.0.0.1"]
    return own if len(own) == len(found) else []


def loopback_literal(host: str) -> bool | None:
    """Says whether a host is this machine, as far as its spelling says; None if only its addresses can."""
    try:
        address: IPv4Address | IPv6Address = ip_address(host.partition("%")[0])
    except ValueError:
        name = host.lower()
        return True if name == _LOCALHOST or name.endswith(f".{_LOCALHOST}") else None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback


def _fetch(gateway: Gateway, loopback: str | None, context: ssl.SSLContext | None, deadline: float) -> bytes:
    """Asks over TLS, or at an address of this machine without it."""
    try:
        with closing(_connection(gateway, loopback, context)) as connection:
            connection.request("GET", PATH, headers={"accept": "application/json", "host": gateway.authority})
            with connection.getresponse() as response:
                if response.status != http.HTTPStatus.OK:
                    raise _unreachable(gateway, f"it answered {response.status} to GET {PATH}")
                return _read(gateway, connection, response, deadline)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _unreachable(gateway, str(error) or type(error).__name__, tls=loopback is None) from error


def _read(
    gateway: Gateway, connection: http.client.HTTPConnection, response: http.client.HTTPResponse, deadline: float
) -> bytes:
    """Reads an answer in pieces, for a time-out of the socket is one of each piece alone."""
    body = b""
    while len(body) <= MAXIMUM_BYTES:
        left = deadline - time.monotonic()
        if left <= 0:
            raise _unreachable(gateway, f"its answer took more than {TIMEOUT:g} s")
        if connection.sock is not None:
            connection.sock.settimeout(left)
        piece = response.read1(MAXIMUM_BYTES)
        if not piece:
            if response.length:
                raise _unreachable(gateway, "its answer ended too early")
            return body
        body += piece
    raise _unreachable(gateway, f"its answer has more than {MAXIMUM_BYTES} bytes")


def _connection(gateway: Gateway, loopback: str | None, context: ssl.SSLContext | None) -> http.client.HTTPConnection:
    if loopback is not None:
        return http.client.HTTPConnection(loopback, gateway.port, timeout=TIMEOUT)
    context = context or ssl.create_default_context()
    return http.client.HTTPSConnection(gateway.host, gateway.port, timeout=TIMEOUT, context=context)


def _has_port(address: str) -> bool:
    """Says whether an address is `host:port`, both spelled out."""
    try:
        parse_authority(address)
    except ValueError:
        return False
    return address.rpartition(":")[2].isdigit() and not address.endswith("]")


def _unreachable(gateway: Gateway, why: str, *, tls: bool = False) -> CertesError:
    return unavailable(
        "GATEWAY_UNREACHABLE",
        f"The gateway at {gateway.authority} could not be found: {why}.",
        hint="Is it running, and is the URI that of its HTTP port?"
        # A server of TLS 1.3 turns a client away once it has begun to speak, and what it says of it may be lost.
        + (" If it asks clients for certificates, name one by certificate and certificate_key." if tls else ""),
        gateway=gateway.authority,
    )


def _unsupported(why: str) -> CertesError:
    return failed_precondition("PROTOCOL_UNSUPPORTED", f"What answers is no gateway for this SDK: {why}.")


def _insecure(address: str) -> CertesError:
    return failed_precondition(
        "GATEWAY_INSECURE",
        f"The gateway says that gRPC is at {address} without TLS, where a token would travel in clear.",
        hint="Whoever runs the broker has to configure TLS.",
        address=address,
    )

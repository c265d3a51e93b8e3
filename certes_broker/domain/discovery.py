"""What another gateway is asked for: `events://host[:port][/namespace]`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from certes_broker.domain.errors import Invalid, Reason
from certes_broker.domain.uris import MAXIMUM_NAMESPACE_SEGMENTS, GatewayUri, parse_gateway_uri

_SCHEME: Final = "events://"
_SEGMENT: Final = re.compile(r"[a-z0-9_]+")
_LOOPBACK_NAME: Final = "localhost"


@dataclass(frozen=True, slots=True)
class DiscoveryUri:
    """A gateway, and the namespace of which its schemas are wanted; empty for all."""

    gateway: GatewayUri
    namespace: str = ""

    @property
    def text(self) -> str:
        """The canonical spelling."""
        return f"{self.gateway.text}/{self.namespace}" if self.namespace else self.gateway.text


def parse_discovery_uri(text: str) -> DiscoveryUri:
    """Reads `events://host[:port][/namespace]`.

    Raises `Invalid` / `MALFORMED_URI` with `position` and `problem` in its metadata.
    """
    start = len(_SCHEME)
    slash = text.find("/", start)
    if slash < 0:
        return DiscoveryUri(parse_gateway_uri(text))
    gateway, namespace = parse_gateway_uri(text[:slash]), text[slash + 1 :].removesuffix("/")
    if not namespace:
        return DiscoveryUri(gateway)
    position = slash + 1
    segments = namespace.split("/")
    if len(segments) > MAXIMUM_NAMESPACE_SEGMENTS:
        raise _malformed(text, position, f"a namespace has at most {MAXIMUM_NAMESPACE_SEGMENTS} segments")
    for segment in segments:
        if not _SEGMENT.fullmatch(segment):
            raise _malformed(text, position, "a segment of a namespace is of a-z, 0-9 and '_'")
        position += len(segment) + 1
    return DiscoveryUri(gateway, namespace)


def api_url(gateway: GatewayUri) -> str:
    """Returns where the API of a gateway is: by TLS, but for one on this machine."""
    return f"{'http' if _is_loopback(gateway.host) else 'https'}://{gateway.authority}/api"


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == _LOOPBACK_NAME


def _malformed(text: str, position: int, problem: str) -> Invalid:
    shown = text if len(text) <= 120 else f"{text[:120]}…"
    return Invalid(
        Reason.MALFORMED_URI,
        f"URI {shown!r} is malformed, at character {position}: {problem}",
        metadata={"position": str(position), "problem": problem, "text": shown},
    )

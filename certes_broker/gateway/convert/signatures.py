"""Signature schemes of sources to and from messages."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, assert_never

from google.protobuf.duration_pb2 import Duration

from certes.v1 import source_pb2 as pb
from certes_broker.domain.signature_schemes import (
    DEFAULT_TOLERANCE,
    MAXIMUM_TOLERANCE,
    MINIMUM_TOLERANCE,
    BasicScheme,
    Encoding,
    HashAlgorithm,
    HmacScheme,
    NoScheme,
    SignatureScheme,
    SlackScheme,
    StandardWebhooksScheme,
    StripeScheme,
    TokenScheme,
)
from certes_broker.domain.webhook_headers import parse_header_name
from certes_broker.gateway.convert.times import Bounds, duration, read_duration
from certes_broker.gateway.faults import Faults


def read_signature(faults: Faults, path: str, message: pb.SignatureScheme) -> SignatureScheme | None:
    """Returns the scheme of a message; None, and a fault, if it has none that could verify anything."""
    kind = message.WhichOneof("scheme")
    match kind:
        case "hmac":
            return _read_hmac(faults, f"{path}.hmac", message.hmac)
        case "stripe":
            header = _read_header(faults, f"{path}.stripe", message.stripe.header or StripeScheme().header)
            return StripeScheme(header, _read_tolerance(faults, f"{path}.stripe", message.stripe))
        case "slack":
            return SlackScheme(_read_tolerance(faults, f"{path}.slack", message.slack))
        case "standard_webhooks":
            tolerance = _read_tolerance(faults, f"{path}.standard_webhooks", message.standard_webhooks)
            return StandardWebhooksScheme(tolerance)
        case "token":
            return TokenScheme(_read_header(faults, f"{path}.token", message.token.header))
        case "basic":
            return BasicScheme()
        case "none":
            return NoScheme()
        case None:
            faults.required(f"{path}.scheme", "names no scheme")
            return None
        case _:
            assert_never(kind)


def signature_message(scheme: SignatureScheme) -> pb.SignatureScheme:
    """Returns the message of a scheme, its defaults spelled out."""
    message = pb.SignatureScheme()
    match scheme:
        case HmacScheme(header, algorithm, encoding, prefix):
            message.hmac.CopyFrom(
                pb.HmacSignature(
                    header=header,
                    algorithm=_ALGORITHMS_OUT[algorithm],
                    encoding=_ENCODINGS_OUT[encoding],
                    prefix=prefix,
                )
            )
        case StripeScheme(header, tolerance):
            message.stripe.CopyFrom(pb.StripeSignature(header=header, tolerance=duration(tolerance)))
        case SlackScheme(tolerance):
            message.slack.tolerance.CopyFrom(duration(tolerance))
        case StandardWebhooksScheme(tolerance):
            message.standard_webhooks.tolerance.CopyFrom(duration(tolerance))
        case TokenScheme(header):
            message.token.header = header
        case BasicScheme():
            message.basic.SetInParent()
        case NoScheme():
            message.none.SetInParent()
        case _:
            assert_never(scheme)
    return message


_ALGORITHMS: Final[Mapping[int, HashAlgorithm]] = MappingProxyType(
    {
        pb.HmacSignature.ALGORITHM_UNSPECIFIED: HashAlgorithm.SHA256,
        pb.HmacSignature.ALGORITHM_SHA256: HashAlgorithm.SHA256,
        pb.HmacSignature.ALGORITHM_SHA512: HashAlgorithm.SHA512,
        pb.HmacSignature.ALGORITHM_SHA1: HashAlgorithm.SHA1,
    }
)
_ALGORITHMS_OUT: Final = MappingProxyType(
    {
        HashAlgorithm.SHA256: pb.HmacSignature.ALGORITHM_SHA256,
        HashAlgorithm.SHA512: pb.HmacSignature.ALGORITHM_SHA512,
        HashAlgorithm.SHA1: pb.HmacSignature.ALGORITHM_SHA1,
    }
)
_ENCODINGS: Final[Mapping[int, Encoding]] = MappingProxyType(
    {
        pb.HmacSignature.ENCODING_UNSPECIFIED: Encoding.HEX,
        pb.HmacSignature.ENCODING_HEX: Encoding.HEX,
        pb.HmacSignature.ENCODING_BASE64: Encoding.BASE64,
    }
)
_ENCODINGS_OUT: Final = MappingProxyType(
    {Encoding.HEX: pb.HmacSignature.ENCODING_HEX, Encoding.BASE64: pb.HmacSignature.ENCODING_BASE64}
)
_TOLERANCE: Final = Bounds(MINIMUM_TOLERANCE, MAXIMUM_TOLERANCE)
_STAND_IN: Final = "x-none"
"""Stands in for the name of a header that cannot be one, until the faults are raised."""


def _read_hmac(faults: Faults, path: str, message: pb.HmacSignature) -> HmacScheme:
    algorithm, encoding = _ALGORITHMS.get(message.algorithm), _ENCODINGS.get(message.encoding)
    if algorithm is None:
        faults.invalid(f"{path}.algorithm", f"{message.algorithm} is no algorithm")
    if encoding is None:
        faults.invalid(f"{path}.encoding", f"{message.encoding} is no encoding")
    header = _read_header(faults, path, message.header)
    scheme = HmacScheme(header, algorithm or HashAlgorithm.SHA256, encoding or Encoding.HEX)
    with faults.within(path):
        return HmacScheme(scheme.header, scheme.algorithm, scheme.encoding, message.prefix)
    return scheme


def _read_header(faults: Faults, path: str, header: str) -> str:
    if not header:
        faults.required(f"{path}.header")
        return _STAND_IN
    with faults.within(path):
        return parse_header_name(header)
    return _STAND_IN


def _read_tolerance(
    faults: Faults, path: str, message: pb.StripeSignature | pb.SlackSignature | pb.StandardWebhooksSignature
) -> float:
    if not message.HasField("tolerance"):
        return DEFAULT_TOLERANCE
    given: Duration = message.tolerance
    return read_duration(faults, f"{path}.tolerance", given, _TOLERANCE)

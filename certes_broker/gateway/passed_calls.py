"""Calls as one broker passes them to another: who calls, and the request as it came."""

from __future__ import annotations

from typing import Final

from cattrs.preconf.json import make_converter

from certes_broker.domain.access import Caller
from certes_broker.domain.uris import TypePattern, parse_pattern

_LENGTH: Final = 4

_converter = make_converter(omit_if_default=True, forbid_extra_keys=True)
_converter.register_unstructure_hook(TypePattern, str)
_converter.register_structure_hook(TypePattern, lambda text, _: parse_pattern(text))


def write_call(caller: Caller, request: bytes) -> bytes:
    """Returns a call as bytes."""
    head = _converter.dumps(caller).encode()
    return b"".join((len(head).to_bytes(_LENGTH, "big"), head, request))


def read_call(body: bytes) -> tuple[Caller, bytes]:
    """Returns the caller and the request of a call."""
    end = _LENGTH + int.from_bytes(body[:_LENGTH], "big")
    return _converter.loads(body[_LENGTH:end], Caller), body[end:]

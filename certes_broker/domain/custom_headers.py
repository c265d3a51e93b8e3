"""The headers that a subscription adds to each request of its webhook.

Rules
-----
* Names are lower-case; values are what RFC 9110 (5.5) lets a field have, of ASCII alone. What is none is refused by name.
* A header that says what the broker alone can say is refused: whom the request is for and how it travels, what its body is,
  who signed it, which event it is.
* A value is taken for a secret, whatever its name: most of these headers are credentials. It appears in no repr and no refusal.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from certes_broker.domain.errors import Invalid, Reason
from certes_broker.domain.webhook_headers import is_of_connection, parse_header_name

MAXIMUM_HEADERS: Final = 32
MAXIMUM_HEADER_VALUE: Final = 4_096
MAXIMUM_HEADER_BYTES: Final = 8 * 1024
"""Names and values together. Servers refuse requests whose headers have more than 8 to 16 KiB, the signature's among them."""


@dataclass(frozen=True, slots=True)
class CustomHeader:
    """One header: its lower-case name, and its value, which the repr does not show."""

    name: str
    value: str = field(repr=False)


def parse_custom_name(text: str) -> str:
    """Reads the name of a header that a subscription may set, and returns it in lower case.

    Raises `Invalid` / `FIELD_INVALID` for `header` if it is no name, or the name of one that only the broker sets.
    """
    name = parse_header_name(text)
    why = _why_reserved(name)
    if why:
        raise Invalid.field(Reason.FIELD_INVALID, "header", f"{name!r} is set by the broker alone: {why}")
    return name


def check_custom_value(value: str) -> None:
    """Refuses a value that no header can have. The refusal does not repeat it.

    Raises `Invalid` / `FIELD_INVALID` for `header`.
    """
    problem = ""
    if len(value) > MAXIMUM_HEADER_VALUE:
        problem = f"has {len(value)} characters; {MAXIMUM_HEADER_VALUE} are allowed"
    elif value != value.strip():
        problem = "has white space around it, which receivers drop"
    elif (stranger := _NOT_IN_VALUE.search(value)) is not None:
        problem = f"has a character at {stranger.start()} that is not printable ASCII"
    if problem:
        raise Invalid.field(Reason.FIELD_INVALID, "header", f"the value {problem}")


def size_of(headers: tuple[CustomHeader, ...]) -> int:
    """Returns how many bytes headers have, names and values together."""
    return sum(len(header.name) + len(header.value) for header in headers)


# RFC 9110, 5.5: field-vchar, SP and HTAB. It also allows obs-text, of which "a recipient SHOULD treat ... as opaque data".
_NOT_IN_VALUE: Final = re.compile(r"[^\t\x20-\x7e]")
_PREFIXES: Final = {
    "webhook-": "it proves who sent the request",
    "ce-": "it is an attribute of the event",
    "content-": "it describes the body",
    "proxy-": "it is for the next hop alone",
}
_NAMES: Final = {
    "transfer-encoding": "it says how the body travels",
    "traceparent": "it is the event's trace",
    "tracestate": "it is the event's trace",
    "date": "it is when the request was made",
    "origin": "it says who asks",
    "user-agent": "it says what sends",
}


def _why_reserved(name: str) -> str:
    if is_of_connection(name):
        return "it speaks of the connection"
    prefix = next((prefix for prefix in _PREFIXES if name.startswith(prefix)), None)
    return _NAMES.get(name, "") if prefix is None else _PREFIXES[prefix]

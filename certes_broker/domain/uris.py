"""Event URIs, the patterns that select them, and the URIs of gateways.

Rules
-----
* An event URI is `<domain>/<namespace…>/<version>/<name>`, read from the right: the last segment is the name, the one
  before it the version, the first is the domain, and all between is the namespace.
* A pattern is an event URI in which `*` stands for exactly one whole segment of the namespace, version or name, and a
  last `**` for one or more segments. The domain is always spelled. A segment of a pattern has no place of its own while
  `**` follows it: `d/a/1/**` selects `d/a/1/x` (1 is the version) as well as `d/a/1/2/x` (1 is namespace).
* A wildcard never stands for the name of a system event, which begins with `_`; such a name must be spelled.
* What is malformed is refused, never guessed. Positions count characters (Unicode code points) from 0 and point at the
  character that cannot stand where it does; at the end of the text if something is missing there. The whole length is
  judged first, then the domain, then whether a segment is empty (which would shift the others' places), then the other
  segments from the left.

A pattern is *malformed* if it breaks the rules for wildcards, and *unmatchable* if it keeps them and yet no event URI
could match it. The second is refused too: a subscription that stays silent for ever helps nobody.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final, NamedTuple

from certes_broker.domain.errors import Invalid, Reason

MAXIMUM_URI_LENGTH: Final = 2048
"""Characters of an event URI, and of a pattern."""
MAXIMUM_NAMESPACE_SEGMENTS: Final = 128
MAXIMUM_VERSION: Final = 2**31 - 1
MAXIMUM_DOMAIN_LENGTH: Final = 253
MAXIMUM_LABEL_LENGTH: Final = 63
DEFAULT_GATEWAY_PORT: Final = 9600
"""The HTTP port of a gateway whose URI names none."""


@dataclass(frozen=True, slots=True)
class EventType:
    """What an event URI names. Made by `parse_event_type`, so every value is well-formed.

    `domain` is lower-case, `namespace` one string that may contain `/`, `version` the major version, from 1.
    """

    domain: str
    namespace: str
    version: int
    name: str

    @property
    def text(self) -> str:
        """The canonical spelling; two event types are equal exactly if their texts are."""
        return f"{self.domain}/{self.namespace}/{self.version}/{self.name}"

    @property
    def is_system(self) -> bool:
        """Whether the broker itself sends events of this type (`_version`, `_subscription_disabled`, …)."""
        return self.name.startswith("_")

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class TypePattern:
    """Selects event types. Made by `parse_pattern`, so every value is well-formed and can match something.

    `text` is the canonical spelling: the domain is lower-case.
    """

    text: str

    @property
    def domain(self) -> str:
        """The one domain whose event types can match."""
        return self.text.partition("/")[0]

    @property
    def is_literal(self) -> bool:
        """Whether the pattern has no wildcard, and so is the text of the one event type that it matches."""
        return "*" not in self.text

    def matches(self, event_type: EventType) -> bool:
        """Says whether the pattern selects the event type."""
        if self.is_literal:
            return self.text == event_type.text
        wanted = self.text.split("/")
        found = event_type.text.split("/")
        if wanted[-1] in ("*", "**") and event_type.is_system:
            return False
        if wanted[-1] == "**":
            wanted.pop()
            if len(found) <= len(wanted):
                return False
            del found[len(wanted) :]
        return len(wanted) == len(found) and all(want in ("*", have) for want, have in zip(wanted, found, strict=True))

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class GatewayUri:
    """Names a gateway. `host` is a lower-case DNS name or an IP address, without brackets; `port` that of HTTP."""

    host: str
    port: int = DEFAULT_GATEWAY_PORT

    @property
    def authority(self) -> str:
        """`host:port`, with an IPv6 address in brackets, as an HTTP client wants it."""
        return f"{self._bracketed_host}:{self.port}"

    @property
    def text(self) -> str:
        """The canonical spelling: without the port if that is the default one."""
        return f"events://{self._bracketed_host if self.port == DEFAULT_GATEWAY_PORT else self.authority}"

    @property
    def _bracketed_host(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host

    def __str__(self) -> str:
        return self.text


def parse_event_type(text: str) -> EventType:
    """Reads an event URI.

    Raises `Invalid` / `MALFORMED_URI` with `position` and `problem` in its metadata.
    """
    fault = _event_type_fault(text)
    if fault is not None:
        raise _refusal(Reason.MALFORMED_URI, "event URI", text, fault)
    domain, *namespace, version, name = text.split("/")
    return EventType(domain.lower(), "/".join(namespace), int(version), name)


def parse_pattern(text: str) -> TypePattern:
    """Reads the pattern of a selector.

    Raises `Invalid` with `position` and `problem` in its metadata: `MALFORMED_PATTERN` if the text is no pattern,
    `UNMATCHABLE_PATTERN` if it is one that no event URI could match.
    """
    fault = _pattern_fault(text)
    if fault is not None:
        raise _refusal(Reason.MALFORMED_PATTERN, "pattern", text, fault)
    fault = _unmatchable_fault(text)
    if fault is not None:
        raise _refusal(Reason.UNMATCHABLE_PATTERN, "pattern", text, fault)
    domain, slash, rest = text.partition("/")
    return TypePattern(domain.lower() + slash + rest)


def parse_gateway_uri(text: str) -> GatewayUri:
    """Reads `events://host[:port]`; an IPv6 address stands in brackets.

    Raises `Invalid` / `MALFORMED_URI` with `position` and `problem` in its metadata.
    """
    parsed = _read_gateway(text)
    if isinstance(parsed, _Fault):
        raise _refusal(Reason.MALFORMED_URI, "gateway URI", text, parsed)
    return parsed


class _Fault(NamedTuple):
    """What is wrong with a text, and where."""

    position: int
    problem: str


class _Segment(NamedTuple):
    """One segment of a text, and the position of its first character."""

    position: int
    text: str


_NOT_IN_WORD: Final = re.compile(r"[^a-z0-9_]")
_NOT_IN_LABEL: Final = re.compile(r"[^A-Za-z0-9-]")
_NOT_A_DIGIT: Final = re.compile(r"[^0-9]")
_SHOWN: Final = 120
_FEWEST_SEGMENTS: Final = 4
_SCHEME: Final = "events://"
_MAXIMUM_PORT: Final = 65535
_TOO_FEW: Final = (
    "a domain, a namespace, a version and a name are wanted here, parted by '/' ('_' is the default namespace)"
)


def _refusal(reason: Reason, what: str, text: str, fault: _Fault) -> Invalid:
    shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
    verdict = "can match no event URI" if reason is Reason.UNMATCHABLE_PATTERN else "is malformed"
    return Invalid(
        reason,
        f"{what} {shown!r} {verdict}, at character {fault.position}: {fault.problem}",
        metadata={"position": str(fault.position), "problem": fault.problem, "text": shown},
    )


def _segments(text: str) -> list[_Segment]:
    segments = []
    position = 0
    for segment in text.split("/"):
        segments.append(_Segment(position, segment))
        position += len(segment) + 1
    return segments


def _event_type_fault(text: str) -> _Fault | None:
    segments = _segments(text)
    fault = _outline_fault(text, segments)
    if fault is not None:
        return fault
    if len(segments) < _FEWEST_SEGMENTS:
        return _Fault(len(text), _TOO_FEW)
    return _places_fault(segments)


def _pattern_fault(text: str) -> _Fault | None:
    segments = _segments(text)
    fault = _outline_fault(text, segments)
    if fault is not None:
        return fault
    for segment in segments[1:]:
        if segment.text == "*" or "*" not in segment.text:
            continue
        if segment.text != "**":
            return _Fault(segment.position + segment.text.index("*"), "'*' stands for a whole segment only")
        if segment is not segments[-1]:
            return _Fault(segment.position, "'**' can only be the last segment")
    return None


def _unmatchable_fault(text: str) -> _Fault | None:
    """Finds why no event URI can match a well-formed pattern, by spelling out the shortest ones that might.

    `1` can stand wherever `*` can, and has its length.
    """
    spelled = text.removesuffix("/**").replace("*", "1")
    if not text.endswith("/**"):
        return _event_type_fault(spelled)
    if "/" not in spelled:
        return None
    fault = _event_type_fault(f"{spelled}/1/x")
    if fault is None or _event_type_fault(f"{spelled}/x") is None:
        return None
    return _Fault(min(fault.position, len(text)), fault.problem)


def _outline_fault(text: str, segments: list[_Segment]) -> _Fault | None:
    """Finds what is wrong with a whole text or its domain, be it an event URI or a pattern."""
    if len(text) > MAXIMUM_URI_LENGTH:
        return _Fault(MAXIMUM_URI_LENGTH, f"at most {MAXIMUM_URI_LENGTH} characters are allowed")
    fault = _domain_fault(segments[0])
    if fault is not None:
        return fault
    for segment in segments:
        if not segment.text:
            return _Fault(segment.position, "a segment is empty")
    return None


def _places_fault(segments: list[_Segment]) -> _Fault | None:
    """Finds the first segment after the domain that cannot stand in its place."""
    *namespace, version, name = segments[1:]
    for segment in namespace[:MAXIMUM_NAMESPACE_SEGMENTS]:
        fault = _word_fault(segment)
        if fault is not None:
            return fault
    if len(namespace) > MAXIMUM_NAMESPACE_SEGMENTS:
        first_too_many = namespace[MAXIMUM_NAMESPACE_SEGMENTS]
        return _Fault(first_too_many.position, f"a namespace has at most {MAXIMUM_NAMESPACE_SEGMENTS} segments")
    return _version_fault(version) or _word_fault(name)


def _word_fault(segment: _Segment) -> _Fault | None:
    stranger = _NOT_IN_WORD.search(segment.text)
    if stranger is None:
        return None
    return _Fault(segment.position + stranger.start(), f"only a-z, 0-9 and '_' can stand here, not {stranger[0]!r}")


def _version_fault(segment: _Segment) -> _Fault | None:
    stranger = _NOT_A_DIGIT.search(segment.text)
    if stranger is not None:
        return _Fault(
            segment.position + stranger.start(),
            f"the segment before the name is the version, a positive integer; {stranger[0]!r} is no digit",
        )
    if segment.text.startswith("0"):
        return _Fault(segment.position, "a version is a positive integer without leading zeros")
    if len(segment.text) > len(str(MAXIMUM_VERSION)) or int(segment.text) > MAXIMUM_VERSION:
        return _Fault(segment.position, f"a version is at most {MAXIMUM_VERSION}")
    return None


def _domain_fault(segment: _Segment) -> _Fault | None:
    """Finds what keeps a text from being a DNS name as RFC 1123, section 2.1, has it."""
    position = segment.position
    for label in segment.text.split("."):
        fault = _label_fault(_Segment(position, label))
        if fault is not None:
            return fault
        position += len(label) + 1
    if len(segment.text) > MAXIMUM_DOMAIN_LENGTH:
        return _Fault(
            segment.position + MAXIMUM_DOMAIN_LENGTH, f"a domain has at most {MAXIMUM_DOMAIN_LENGTH} characters"
        )
    last = segment.text.rpartition(".")[2]
    if _NOT_A_DIGIT.search(last) is None:
        # "a valid host name can never have the dotted-decimal form #.#.#.#" (RFC 1123): such a text is an address.
        return _Fault(position - len(last) - 1, "a domain is a DNS name, whose last label is no number")
    return None


def _label_fault(label: _Segment) -> _Fault | None:
    stranger = _NOT_IN_LABEL.search(label.text)
    if stranger is not None:
        return _Fault(
            label.position + stranger.start(),
            f"a domain has letters, digits, '-' and '.' only, no scheme and no port; {stranger[0]!r} cannot be here",
        )
    if not label.text:
        return _Fault(label.position, "the domain, or a label of it, is empty")
    if len(label.text) > MAXIMUM_LABEL_LENGTH:
        return _Fault(
            label.position + MAXIMUM_LABEL_LENGTH, f"a label of a domain has at most {MAXIMUM_LABEL_LENGTH} characters"
        )
    if label.text.startswith("-"):
        return _Fault(label.position, "a label of a domain does not begin with '-'")
    if label.text.endswith("-"):
        return _Fault(label.position + len(label.text) - 1, "a label of a domain does not end with '-'")
    return None


def _read_gateway(text: str) -> GatewayUri | _Fault:
    # "An implementation should accept uppercase letters as equivalent to lowercase in scheme names" (RFC 3986, 3.1).
    if text[: len(_SCHEME)].lower() != _SCHEME:
        return _Fault(0, f"a gateway URI begins with {_SCHEME!r}")
    if len(text) > MAXIMUM_URI_LENGTH:
        return _Fault(MAXIMUM_URI_LENGTH, f"at most {MAXIMUM_URI_LENGTH} characters are allowed")
    start = len(_SCHEME)
    if text.startswith("[", start):
        end = text.find("]", start) + 1
        if end == 0:
            return _Fault(len(text), "']' is missing after the IPv6 address")
        host = _read_ipv6(text[start + 1 : end - 1])
        if host is None:
            return _Fault(start + 1, "no IPv6 address stands between the brackets")
    else:
        end = text.find(":", start)
        end = len(text) if end < 0 else end
        found = _read_host(_Segment(start, text[start:end]))
        if isinstance(found, _Fault):
            return found
        host = found
    if end == len(text):
        return GatewayUri(host)
    if text[end] != ":":
        return _Fault(end, "only ':' and a port can follow the host")
    return _read_port(host, _Segment(end + 1, text[end + 1 :]))


def _read_ipv6(text: str) -> str | None:
    try:
        address = IPv6Address(text)
    except AddressValueError:
        return None
    return None if address.scope_id is not None else str(address)


def _read_host(segment: _Segment) -> str | _Fault:
    try:
        return str(IPv4Address(segment.text))
    except AddressValueError:
        if not segment.text:
            return _Fault(segment.position, "the host is missing")
        return _domain_fault(segment) or segment.text.lower()


def _read_port(host: str, segment: _Segment) -> GatewayUri | _Fault:
    stranger = _NOT_A_DIGIT.search(segment.text)
    if stranger is not None:
        return _Fault(
            segment.position + stranger.start(), f"a port is a number, and nothing follows it; found {stranger[0]!r}"
        )
    if not segment.text or segment.text.startswith("0") or len(segment.text) > len(str(_MAXIMUM_PORT)):
        return _Fault(segment.position, f"a port is a number from 1 to {_MAXIMUM_PORT}, without leading zeros")
    if int(segment.text) > _MAXIMUM_PORT:
        return _Fault(segment.position, f"a port is a number from 1 to {_MAXIMUM_PORT}, without leading zeros")
    return GatewayUri(host, int(segment.text))

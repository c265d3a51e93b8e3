"""Event URIs, patterns that select them, and the URIs of gateways.

Rules
-----
* `<domain>/<namespace…>/<version>/<name>`, read from the right. A pattern has `*` for one whole segment after the domain, and
  may end with `**` for one segment or more.
* What is malformed is refused with the position, in characters from 0, of the first that cannot stand where it does; at the
  end of the text if something is missing there. Judged are, in this order: the length, the domain, empty segments, wildcards,
  and then the segments from the left.
* A wildcard never stands for the name of a system event, which begins with `_`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final, NoReturn

from certes_sdk.errors import CertesError, invalid

DEFAULT_PORT: Final = 9600
"""The HTTP port of a gateway whose URI names none."""

_SCHEME: Final = "events://"
_MAXIMUM_LENGTH: Final = 2048
_MAXIMUM_DOMAIN: Final = 253
_MAXIMUM_LABEL: Final = 63
_MAXIMUM_NAMESPACE: Final = 128
_MAXIMUM_VERSION: Final = 2**31 - 1
_MAXIMUM_PORT: Final = 65535
_SHOWN: Final = 120
_OUTSIDE_WORD: Final = re.compile(r"[^a-z0-9_]")
_OUTSIDE_LABEL: Final = re.compile(r"[^A-Za-z0-9-]")
_OUTSIDE_NUMBER: Final = re.compile(r"[^0-9]")


@dataclass(frozen=True, slots=True)
class Gateway:
    """Where a gateway is: a lower-case DNS name or an IP address without brackets, and the port of HTTP."""

    host: str
    port: int = DEFAULT_PORT

    @property
    def authority(self) -> str:
        """`host:port`, an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Pattern:
    """Selects event types. `text` is the canonical spelling: the domain is lower-case."""

    text: str

    def matches(self, event_type: str) -> bool:
        """Says whether it selects an event type, whose domain is lower-case."""
        if "*" not in self.text:
            return self.text == event_type
        wanted, found = self.text.split("/"), event_type.split("/")
        if wanted[-1] in ("*", "**") and found[-1].startswith("_"):
            return False
        if wanted[-1] == "**":
            wanted.pop()
            if len(found) <= len(wanted):
                return False
            del found[len(wanted) :]
        return len(wanted) == len(found) and all(want in ("*", have) for want, have in zip(wanted, found, strict=True))

    @property
    def specificity(self) -> tuple[bool, int, int]:
        """Orders patterns that match one event type; the greatest decides."""
        segments = self.text.split("/")
        stars = segments.count("*")
        open_end = segments[-1] == "**"
        return not open_end, len(segments) - stars - open_end, stars


def parse_event_type(text: str) -> str:
    """Returns the canonical spelling of an event URI. Raises `MALFORMED_URI`."""
    try:
        _check_event_type(text)
    except _Fault as fault:
        raise fault.refusal("MALFORMED_URI", "event URI", text) from None
    return _canonical(text)


@lru_cache(4096)
def is_event_type(text: str) -> bool:
    """Says whether a text is an event URI."""
    try:
        _check_event_type(text)
    except _Fault:
        return False
    return True


def parse_pattern(text: str) -> Pattern:
    """Reads a pattern. Raises `MALFORMED_PATTERN`, and `UNMATCHABLE_PATTERN` where no event URI could match it."""
    try:
        _check_wildcards(text)
    except _Fault as fault:
        raise fault.refusal("MALFORMED_PATTERN", "pattern", text) from None
    try:
        _check_matchable(text)
    except _Fault as fault:
        raise fault.refusal("UNMATCHABLE_PATTERN", "pattern", text) from None
    return Pattern(_canonical(text))


def parse_gateway(text: str) -> Gateway:
    """Reads `events://host[:port]`, an IPv6 address in brackets. Raises `MALFORMED_URI`."""
    try:
        return _read_gateway(text)
    except _Fault as fault:
        raise fault.refusal("MALFORMED_URI", "gateway URI", text) from None


def parse_authority(text: str) -> Gateway:
    """Reads `host[:port]`. Raises `ValueError`."""
    return _read_authority(text, 0)


class _Fault(ValueError):
    """What is wrong with a text, and where. Never leaves this module but as a `ValueError`."""

    def __init__(self, position: int, problem: str) -> None:
        super().__init__(problem)
        self.position = position
        self.problem = problem

    def refusal(self, reason: str, what: str, text: str) -> CertesError:
        shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
        message = f"The {what} {shown!r} cannot be used, at character {self.position}: {self.problem}."
        return invalid(reason, message, position=str(self.position), problem=self.problem, text=shown)


def _fail(position: int, problem: str) -> NoReturn:
    raise _Fault(position, problem)


def _canonical(text: str) -> str:
    domain, slash, rest = text.partition("/")
    return domain.lower() + slash + rest


def _placed(text: str) -> list[tuple[int, str]]:
    """Returns the segments of a text, each with the position of its first character."""
    placed, position = [], 0
    for segment in text.split("/"):
        placed.append((position, segment))
        position += len(segment) + 1
    return placed


def _check_outline(text: str) -> list[tuple[int, str]]:
    """Checks what event URIs and patterns have in common, and returns the segments."""
    if len(text) > _MAXIMUM_LENGTH:
        _fail(_MAXIMUM_LENGTH, f"at most {_MAXIMUM_LENGTH} characters are allowed")
    (_, domain), *rest = _placed(text)
    _check_domain(0, domain)
    for position, segment in rest:
        if not segment:
            _fail(position, "a segment is empty")
    return rest


def _check_event_type(text: str) -> None:
    segments = _check_outline(text)
    if len(segments) < 3:
        _fail(len(text), "after the domain, a namespace ('_' is the default one), a version and a name are wanted")
    *namespace, (at, version), name = segments
    for position, segment in namespace[:_MAXIMUM_NAMESPACE]:
        _check_word(position, segment)
    if len(namespace) > _MAXIMUM_NAMESPACE:
        _fail(namespace[_MAXIMUM_NAMESPACE][0], f"a namespace has at most {_MAXIMUM_NAMESPACE} segments")
    if stranger := _OUTSIDE_NUMBER.search(version):
        _fail(at + stranger.start(), "the segment before the name is the version, a positive integer")
    if version.startswith("0"):
        _fail(at, "a version is a positive integer without leading zeros")
    if len(version) > 10 or int(version) > _MAXIMUM_VERSION:
        _fail(at, f"a version is at most {_MAXIMUM_VERSION}")
    _check_word(*name)


def _check_wildcards(text: str) -> None:
    segments = _check_outline(text)
    for index, (position, segment) in enumerate(segments):
        if "*" not in segment or segment == "*":
            continue
        if segment != "**":
            _fail(position + segment.index("*"), "'*' stands for a whole segment only")
        if index + 1 < len(segments):
            _fail(position, "'**' can only be the last segment")


def _check_matchable(text: str) -> None:
    """Finds out whether an event URI could match, by spelling the shortest that might: `1` can stand for any segment."""
    spelled = text.removesuffix("/**").replace("*", "1")
    if not text.endswith("/**"):
        _check_event_type(spelled)
        return
    if "/" not in spelled or is_event_type(f"{spelled}/x"):
        return
    try:
        _check_event_type(f"{spelled}/1/x")
    except _Fault as fault:
        _fail(min(fault.position, len(text)), fault.problem)


def _check_word(position: int, segment: str) -> None:
    if stranger := _OUTSIDE_WORD.search(segment):
        _fail(position + stranger.start(), f"only a-z, 0-9 and '_' can stand here, not {stranger[0]!r}")


def _check_domain(position: int, domain: str) -> None:
    at, last = position, ""
    for last in domain.split("."):
        _check_label(at, last)
        at += len(last) + 1
    if len(domain) > _MAXIMUM_DOMAIN:
        _fail(position + _MAXIMUM_DOMAIN, f"a domain has at most {_MAXIMUM_DOMAIN} characters")
    if not _OUTSIDE_NUMBER.search(last):
        # RFC 1123, 2.1: "a valid host name can never have the dotted-decimal form #.#.#.#".
        _fail(at - len(last) - 1, "a domain is a DNS name, whose last label is no number")


def _check_label(position: int, label: str) -> None:
    if stranger := _OUTSIDE_LABEL.search(label):
        _fail(position + stranger.start(), f"a domain has letters, digits, '-' and '.' only, not {stranger[0]!r}")
    if not label:
        _fail(position, "the domain, or a label of it, is empty")
    if len(label) > _MAXIMUM_LABEL:
        _fail(position + _MAXIMUM_LABEL, f"a label of a domain has at most {_MAXIMUM_LABEL} characters")
    if label.startswith("-"):
        _fail(position, "a label of a domain does not begin with '-'")
    if label.endswith("-"):
        _fail(position + len(label) - 1, "a label of a domain does not end with '-'")


def _read_gateway(text: str) -> Gateway:
    # RFC 3986, 3.1: "An implementation should accept uppercase letters as equivalent to lowercase in scheme names".
    if text[: len(_SCHEME)].lower() != _SCHEME:
        _fail(0, f"the URI of a gateway begins with {_SCHEME!r}")
    if len(text) > _MAXIMUM_LENGTH:
        _fail(_MAXIMUM_LENGTH, f"at most {_MAXIMUM_LENGTH} characters are allowed")
    return _read_authority(text, len(_SCHEME))


def _read_authority(text: str, start: int) -> Gateway:
    if text.startswith("[", start):
        end = text.find("]", start) + 1
        if not end:
            _fail(len(text), "']' is missing after the IPv6 address")
        host = _read_ipv6(start + 1, text[start + 1 : end - 1])
    else:
        end = text.find(":", start)
        end = len(text) if end < 0 else end
        host = _read_host(start, text[start:end])
    if end == len(text):
        return Gateway(host)
    if text[end] != ":":
        _fail(end, "only ':' and a port can follow the host")
    return Gateway(host, _read_port(end + 1, text[end + 1 :]))


def _read_ipv6(position: int, text: str) -> str:
    try:
        address = IPv6Address(text)
    except AddressValueError:
        _fail(position, "no IPv6 address stands between the brackets")
    if address.scope_id is not None:
        _fail(position, "an IPv6 address of a gateway has no zone")
    return str(address)


def _read_host(position: int, text: str) -> str:
    try:
        return str(IPv4Address(text))
    except AddressValueError:
        if not text:
            _fail(position, "the host is missing")
        _check_domain(position, text)
        return text.lower()


def _read_port(position: int, text: str) -> int:
    if stranger := _OUTSIDE_NUMBER.search(text):
        _fail(position + stranger.start(), "a port is a number, and nothing follows it")
    if not text or text.startswith("0") or len(text) > 5 or int(text) > _MAXIMUM_PORT:
        _fail(position, f"a port is a number from 1 to {_MAXIMUM_PORT}, without leading zeros")
    return int(text)

"""Times and durations: `google.protobuf` messages to microseconds and seconds, and back."""

from __future__ import annotations

from typing import NamedTuple

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from certes_broker.domain.events import Micros
from certes_broker.gateway.faults import Faults


class Bounds(NamedTuple):
    """The bounds of a duration, in seconds, both included."""

    least: float
    most: float


def read_duration(faults: Faults, field: str, message: Duration, bounds: Bounds) -> float:
    """Returns a duration in seconds; the lower bound stands in for one that is outside its bounds or none at all."""
    seconds = raw_seconds(faults, field, message)
    if seconds is None:
        return bounds.least
    if not bounds.least <= seconds <= bounds.most:
        faults.invalid(field, f"{_shown(seconds)} is outside {_shown(bounds.least)} to {_shown(bounds.most)}")
        return bounds.least
    return seconds


def raw_seconds(faults: Faults, field: str, message: Duration) -> float | None:
    """Returns a duration in seconds, of any length; None, and a fault, if the message is none."""
    # "For durations of one second or more, a non-zero value for the `nanos` field must be of the same sign as the
    # `seconds` field" (google/protobuf/duration.proto).
    mixed = (message.seconds > 0 > message.nanos) or (message.seconds < 0 < message.nanos)
    if mixed or abs(message.nanos) > _MAXIMUM_NANOS or abs(message.seconds) > _MAXIMUM_DURATION:
        faults.invalid(field, f"{message.seconds} s and {message.nanos} ns make no duration")
        return None
    return (message.seconds * 1_000_000_000 + message.nanos) / 1_000_000_000


def read_time(faults: Faults, field: str, message: Timestamp) -> Micros:
    """Returns a point in time, the microsecond it lies in; 0 stands in for one that is none."""
    if not (_FIRST_SECOND <= message.seconds <= _LAST_SECOND and 0 <= message.nanos <= _MAXIMUM_NANOS):
        faults.invalid(field, f"{message.seconds} s and {message.nanos} ns make no time of the years 1 to 9999")
        return Micros(0)
    return Micros(message.seconds * 1_000_000 + message.nanos // 1_000)


def duration(seconds: float) -> Duration:
    """Returns the message of a duration, to the nanosecond."""
    message = Duration()
    message.FromNanoseconds(round(seconds * 1_000_000_000))
    return message


def timestamp(time: Micros) -> Timestamp:
    """Returns the message of a point in time."""
    seconds, micros = divmod(time, 1_000_000)
    return Timestamp(seconds=seconds, nanos=micros * 1_000)


_MAXIMUM_NANOS = 999_999_999
# The bounds that google/protobuf/duration.proto and timestamp.proto state.
_MAXIMUM_DURATION = 315_576_000_000
_FIRST_SECOND = -62_135_596_800
_LAST_SECOND = 253_402_300_799


def _shown(seconds: float) -> str:
    return f"{seconds:.10g} s"

"""The one error of the SDK.

Rules
-----
* Whatever is refused or fails is a `CertesError`. Programs switch on its `reason`; `code` says the kind, `message` is for a
  person, `hint` what to do.
* What the broker says is taken over whole: from the details of a gRPC status, or from a `Problem` of a stream.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.rpc.code_pb2 import Code
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from certes.v1.problem_pb2 import Problem

RETRYABLE: Final = frozenset({"UNAVAILABLE", "RESOURCE_EXHAUSTED", "ABORTED", "DEADLINE_EXCEEDED"})
"""The codes of what may succeed later, unchanged."""


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field at fault: its path in what was sent (`events[3].type`) and what is wrong with it."""

    field: str
    description: str


class CertesError(Exception):
    """A refusal or a failure. Its text is `REASON: message`.

    `code` is a canonical name such as `INVALID_ARGUMENT`, `reason` stable, `hint` may be empty, `metadata` holds facts for
    programs, `retry_after` seconds, where the broker said them. Reasons: docs/reference/sdks.md, and those of the broker.
    """

    def __init__(
        self,
        code: str,
        reason: str,
        message: str,
        *,
        hint: str = "",
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[FieldViolation] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{reason}: {message}")
        self.code = code
        self.reason = reason
        self.message = message
        self.hint = hint
        self.metadata: Mapping[str, str] = dict(metadata or {})
        self.violations: tuple[FieldViolation, ...] = tuple(violations)
        self.retry_after = retry_after

    @property
    def retryable(self) -> bool:
        """Whether the same thing may succeed later, unchanged."""
        return self.code in RETRYABLE

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions are pickled by their text alone, which would not make one of these again.
        return _again, (
            self.code,
            self.reason,
            self.message,
            self.hint,
            dict(self.metadata),
            self.violations,
            self.retry_after,
        )


def invalid(reason: str, message: str, /, *, hint: str = "", **metadata: str) -> CertesError:
    """Makes the refusal of an argument."""
    return CertesError("INVALID_ARGUMENT", reason, message, hint=hint, metadata=metadata)


def invalid_field(field: str, description: str) -> CertesError:
    """Makes the refusal of one argument or setting, which the metadata names as `field`."""
    violations = (FieldViolation(field, description),)
    return CertesError(
        "INVALID_ARGUMENT",
        "FIELD_INVALID",
        f"{field}: {description}",
        metadata={"field": field},
        violations=violations,
    )


def failed_precondition(reason: str, message: str, /, *, hint: str = "", **metadata: str) -> CertesError:
    """Makes the refusal of what cannot be done as things are."""
    return CertesError("FAILED_PRECONDITION", reason, message, hint=hint, metadata=metadata)


def unavailable(reason: str, message: str, /, *, hint: str = "", **metadata: str) -> CertesError:
    """Makes the failure of what may be there later."""
    return CertesError("UNAVAILABLE", reason, message, hint=hint, metadata=metadata)


def code_name(number: int) -> str:
    """Returns the canonical name of a gRPC code; that of a number that is none is `UNKNOWN`."""
    try:
        return Code.Name(number)
    except ValueError:
        return "UNKNOWN"


class _Rpc(Protocol):
    """What gRPC raises."""

    def code(self) -> grpc.StatusCode: ...
    def details(self) -> str | None: ...
    def trailing_metadata(self) -> object: ...


def from_rpc(error: _Rpc) -> CertesError:
    """Makes an error of what an rpc raised. Details that do not decode are passed over."""
    code, details = error.code(), error.details() or ""
    for key, value in _pairs(error.trailing_metadata()):
        if key == "grpc-status-details-bin":
            return from_status(code.name, details, value)
    return from_status(code.name, details, b"")


def from_status(code: str, message: str, details: bytes) -> CertesError:
    """Makes an error of a gRPC status: the name of its code, its message, and the bytes of `grpc-status-details-bin`."""
    try:
        status = Status.FromString(details)
    except DecodeError:
        status = Status()
    info, bad, retry = ErrorInfo(), BadRequest(), RetryInfo()
    for detail in status.details:
        for kind in (info, bad, retry):
            _unpack(detail, kind)
    metadata = dict(info.metadata)
    return CertesError(
        code,
        info.reason or code,
        message,
        hint=metadata.pop("hint", ""),
        metadata=metadata,
        violations=[FieldViolation(v.field, v.description) for v in bad.field_violations],
        retry_after=_seconds(retry.retry_delay) if retry.HasField("retry_delay") else None,
    )


def from_problem(problem: Problem) -> CertesError:
    """Makes an error of the refusal of one request of a stream."""
    metadata = dict(problem.metadata)
    code = code_name(problem.code)
    return CertesError(
        code,
        problem.reason or code,
        problem.message,
        hint=metadata.pop("hint", ""),
        metadata=metadata,
        violations=[FieldViolation(v.field, v.description) for v in problem.field_violations],
        retry_after=_seconds(problem.retry_delay) if problem.HasField("retry_delay") else None,
    )


def _again(
    code: str,
    reason: str,
    message: str,
    hint: str,
    metadata: Mapping[str, str],
    violations: Sequence[FieldViolation],
    retry_after: float | None,
) -> CertesError:
    return CertesError(
        code, reason, message, hint=hint, metadata=metadata, violations=violations, retry_after=retry_after
    )


def _pairs(metadata: object) -> list[tuple[str, bytes]]:
    """Returns the entries of trailing metadata whose values are bytes."""
    if not isinstance(metadata, Iterable):
        return []
    return [(key, value) for key, value in metadata if isinstance(value, bytes)]


def _unpack(detail: Any, into: ErrorInfo | BadRequest | RetryInfo) -> None:
    """Reads a detail of a status, where it is of this kind and whole."""
    with suppress(DecodeError):
        detail.Unpack(into)


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9

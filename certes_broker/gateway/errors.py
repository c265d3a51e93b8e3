"""Refusals as callers see them: one table to gRPC codes, one to HTTP statuses, and the wire forms.

Rules
-----
* The class of an error decides code and status; its `reason` is what programs switch on. `tests/unit/gateway` proves
  both tables complete.
* What is no `CertesError` is a fault of the broker. It is logged here, once, with its traceback; the caller gets
  `INTERNAL` and a correlation id to quote, and nothing else of it.
* The message is for a person and says all; its last part, what to do, stands in the metadata once more, as `hint`, for
  clients that show it in a place of its own.
* A status travels in HTTP/2 trailers, and clients refuse more than 8 KiB of them. So `rich_status` names no more fields
  at fault than fit and says how many it left out.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

import structlog
from google.protobuf.duration_pb2 import Duration
from google.rpc.code_pb2 import Code
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from certes.v1.problem_pb2 import FieldViolation as ProblemFieldViolation
from certes.v1.problem_pb2 import Problem
from certes_broker.domain import errors
from certes_broker.domain.errors import CertesError, FieldViolation, Reason

ERROR_DOMAIN: Final = "certes.dev"
"""`ErrorInfo.domain` of every refusal."""

GRPC_CODES: Final[Mapping[type[CertesError], int]] = MappingProxyType(
    {
        errors.Invalid: Code.INVALID_ARGUMENT,
        errors.NotFound: Code.NOT_FOUND,
        errors.AlreadyExists: Code.ALREADY_EXISTS,
        errors.FailedPrecondition: Code.FAILED_PRECONDITION,
        errors.Aborted: Code.ABORTED,
        errors.OutOfRange: Code.OUT_OF_RANGE,
        errors.Unauthenticated: Code.UNAUTHENTICATED,
        errors.PermissionDenied: Code.PERMISSION_DENIED,
        errors.Exhausted: Code.RESOURCE_EXHAUSTED,
        errors.Unavailable: Code.UNAVAILABLE,
        errors.Unimplemented: Code.UNIMPLEMENTED,
        errors.Internal: Code.INTERNAL,
    }
)

# The statuses that the Connect protocol gives the codes above, so that both faces of an error agree.
HTTP_STATUSES: Final[Mapping[type[CertesError], int]] = MappingProxyType(
    {
        errors.Invalid: 400,
        errors.NotFound: 404,
        errors.AlreadyExists: 409,
        errors.FailedPrecondition: 400,
        errors.Aborted: 409,
        errors.OutOfRange: 400,
        errors.Unauthenticated: 401,
        errors.PermissionDenied: 403,
        errors.Exhausted: 429,
        errors.Unavailable: 503,
        errors.Unimplemented: 501,
        errors.Internal: 500,
    }
)

# Where HTTP has a status that says more than the class, those who speak plain HTTP expect it.
HTTP_STATUSES_OF_REASONS: Final[Mapping[Reason, int]] = MappingProxyType(
    {
        Reason.REQUEST_TOO_LARGE: 413,
        Reason.EVENT_TOO_LARGE: 413,
        Reason.PAYLOAD_TOO_LARGE: 413,
        Reason.CONTENT_TYPE_UNSUPPORTED: 415,
        Reason.PAYLOAD_UNMAPPABLE: 422,
    }
)


def grpc_code(error: CertesError) -> int:
    """Returns the canonical code (`google.rpc.Code`) of a refusal."""
    return _of_kind(GRPC_CODES, error)


def http_status(error: CertesError) -> int:
    """Returns the HTTP status of a refusal outside the Connect protocol, whose clients want that of the code alone."""
    return HTTP_STATUSES_OF_REASONS.get(error.reason, _of_kind(HTTP_STATUSES, error))


def _of_kind(table: Mapping[type[CertesError], int], error: CertesError) -> int:
    """Looks up the kind of an error: its class, or that of which it is a special case."""
    return next(table[kind] for kind in type(error).__mro__ if kind in table)


def refusal(exception: BaseException, doing: str) -> CertesError:
    """Makes a refusal of whatever a call raised. `doing` says what was being done, such as the rpc's path.

    A fault of the broker is logged, as the event `internal_error`. A group of exceptions, as a `TaskGroup` raises it,
    counts as the first refusal in it, unless something worse is in there too.
    """
    leaves = list(_leaves(exception))
    fault = next((leaf for leaf in leaves if not isinstance(leaf, CertesError)), None)
    if fault is None:
        # Never empty: an exception group has at least one exception.
        first = leaves[0]
        assert isinstance(first, CertesError)
        return first
    correlation_id = secrets.token_hex(8)
    _log.error("internal_error", doing=doing, correlation_id=correlation_id, exc_info=fault)
    return errors.Internal(
        Reason.INTERNAL,
        f"The broker failed while serving {doing}.",
        hint=f"Quote the correlation id {correlation_id} to whoever runs it.",
        metadata={"correlation_id": correlation_id},
    )


def problem(error: CertesError) -> Problem:
    """Returns a refusal as one answer of a stream carries it."""
    return Problem(
        code=grpc_code(error),
        reason=error.reason.value,
        message=str(error),
        metadata=_metadata(error),
        field_violations=[ProblemFieldViolation(field=v.field, description=v.description) for v in error.violations],
        retry_delay=None if error.retry_after is None else _duration(error.retry_after),
    )


def rich_status(error: CertesError) -> Status:
    """Returns a refusal as gRPC and Connect carry it: code, message, and `ErrorInfo`, `BadRequest` and `RetryInfo`."""
    violations = list(_fitting(error.violations))
    metadata = {key: _cut(value, _METADATA_VALUE_BYTES) for key, value in _metadata(error).items()}
    if len(violations) < len(error.violations):
        metadata["violations_left_out"] = str(len(error.violations) - len(violations))
    status = Status(code=grpc_code(error), message=_cut(str(error), _MESSAGE_BYTES))
    status.details.add().Pack(ErrorInfo(reason=error.reason.value, domain=ERROR_DOMAIN, metadata=metadata))
    if violations:
        status.details.add().Pack(BadRequest(field_violations=violations))
    if error.retry_after is not None:
        status.details.add().Pack(RetryInfo(retry_delay=_duration(error.retry_after)))
    return status


_log: Final = structlog.get_logger("certes.gateway")

# Together about 3 KiB, of which the message travels twice and the rest in base64: within 8 KiB.
_MESSAGE_BYTES: Final = 1_024
_METADATA_VALUE_BYTES: Final = 256
_DESCRIPTION_BYTES: Final = 512
_VIOLATIONS_BYTES: Final = 1_536


def _metadata(error: CertesError) -> dict[str, str]:
    return {**error.metadata, "hint": error.hint} if error.hint else dict(error.metadata)


def _leaves(exception: BaseException) -> Iterator[BaseException]:
    if isinstance(exception, BaseExceptionGroup):
        for inner in exception.exceptions:
            yield from _leaves(inner)
    else:
        yield exception


def _fitting(violations: tuple[FieldViolation, ...]) -> Iterator[BadRequest.FieldViolation]:
    room = _VIOLATIONS_BYTES
    for violation in violations:
        shown = BadRequest.FieldViolation(
            field=_cut(violation.field, _DESCRIPTION_BYTES),
            description=_cut(violation.description, _DESCRIPTION_BYTES),
        )
        room -= shown.ByteSize()
        if room < 0:
            return
        yield shown


def _cut(text: str, limit: int) -> str:
    """Shortens a text to at most `limit` bytes of UTF-8."""
    encoded = text.encode(errors="replace")
    if len(encoded) <= limit:
        # Also where `text` held a lone surrogate, which protobuf would refuse.
        return encoded.decode()
    return encoded[: limit - 3].decode(errors="ignore") + "…"


def _duration(seconds: float) -> Duration:
    whole, micros = divmod(round(seconds * 1_000_000), 1_000_000)
    return Duration(seconds=whole, nanos=micros * 1_000)

"""The one error tree.

Rules
-----
* Every refusal the broker utters is a `CertesError`. Its class says what kind of failure it is (and so, by one table in
  the gateway, its gRPC code and HTTP status); its `reason` says exactly which, and is what SDKs switch on.
* A message says what was being done, what was wrong with it and what to do. `hint` carries the last part when it is long.
* `metadata` holds the facts a program needs (limits, names, positions); values are strings.
* `violations` names the fields at fault, by their path in the request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import ClassVar


@unique
class Reason(StrEnum):
    """Names every refusal. Stable: SDKs switch on these, never on texts."""

    # What the caller sent cannot be meant.
    MALFORMED_REQUEST = "MALFORMED_REQUEST"
    MALFORMED_URI = "MALFORMED_URI"
    MALFORMED_PATTERN = "MALFORMED_PATTERN"
    UNMATCHABLE_PATTERN = "UNMATCHABLE_PATTERN"
    MALFORMED_NAME = "MALFORMED_NAME"
    FIELD_REQUIRED = "FIELD_REQUIRED"
    FIELD_INVALID = "FIELD_INVALID"
    FIELD_OUTPUT_ONLY = "FIELD_OUTPUT_ONLY"
    UNKNOWN_FIELD = "UNKNOWN_FIELD"
    AUDIENCE_MISSING = "AUDIENCE_MISSING"
    EVENT_TOO_LARGE = "EVENT_TOO_LARGE"
    TOO_MANY_EVENTS = "TOO_MANY_EVENTS"
    REQUEST_TOO_LARGE = "REQUEST_TOO_LARGE"
    UNKNOWN_EVENT_TYPE = "UNKNOWN_EVENT_TYPE"
    DATA_MALFORMED = "DATA_MALFORMED"
    DATA_TYPE_MISMATCH = "DATA_TYPE_MISMATCH"
    UNKNOWN_OPTION = "UNKNOWN_OPTION"
    PAGE_TOKEN_INVALID = "PAGE_TOKEN_INVALID"
    ORDINAL_NOT_OUTSTANDING = "ORDINAL_NOT_OUTSTANDING"
    PAYLOAD_MALFORMED = "PAYLOAD_MALFORMED"
    PAYLOAD_UNMAPPABLE = "PAYLOAD_UNMAPPABLE"
    PAYLOAD_TOO_LARGE = "PAYLOAD_TOO_LARGE"
    CONTENT_TYPE_UNSUPPORTED = "CONTENT_TYPE_UNSUPPORTED"
    SETTINGS_INVALID = "SETTINGS_INVALID"
    SCHEMA_MALFORMED = "SCHEMA_MALFORMED"
    SCHEMA_TOO_LARGE = "SCHEMA_TOO_LARGE"
    FILTER_INVALID = "FILTER_INVALID"
    RAW_NOT_ALLOWED = "RAW_NOT_ALLOWED"
    # What the caller named does not exist, or already does.
    SUBSCRIPTION_NOT_FOUND = "SUBSCRIPTION_NOT_FOUND"
    SUBSCRIPTION_EXISTS = "SUBSCRIPTION_EXISTS"
    EVENT_NOT_FOUND = "EVENT_NOT_FOUND"
    EVENT_ID_REUSED = "EVENT_ID_REUSED"
    SOURCE_NOT_FOUND = "SOURCE_NOT_FOUND"
    SOURCE_EXISTS = "SOURCE_EXISTS"
    REJECTED_NOT_FOUND = "REJECTED_NOT_FOUND"
    DEAD_LETTER_NOT_FOUND = "DEAD_LETTER_NOT_FOUND"
    API_KEY_NOT_FOUND = "API_KEY_NOT_FOUND"
    BACKOFF_NOT_FOUND = "BACKOFF_NOT_FOUND"
    API_KEY_EXISTS = "API_KEY_EXISTS"
    METHOD_NOT_FOUND = "METHOD_NOT_FOUND"
    # The state of things forbids it now.
    STREAM_ENDED = "STREAM_ENDED"
    SUBSCRIPTION_NOT_STREAMABLE = "SUBSCRIPTION_NOT_STREAMABLE"
    SUBSCRIPTION_HAS_NO_WEBHOOK = "SUBSCRIPTION_HAS_NO_WEBHOOK"
    SUBSCRIPTION_DELETED = "SUBSCRIPTION_DELETED"
    CONSENT_MISSING = "CONSENT_MISSING"
    CONSENT_NOT_REQUIRED = "CONSENT_NOT_REQUIRED"
    STALE_GENERATION = "STALE_GENERATION"
    ETAG_MISMATCH = "ETAG_MISMATCH"
    REVISION_CONFLICT = "REVISION_CONFLICT"
    LEASE_LOST = "LEASE_LOST"
    MIGRATION_REFUSED = "MIGRATION_REFUSED"
    MIGRATION_UNFINISHED = "MIGRATION_UNFINISHED"
    SCHEMA_INCOMPATIBLE = "SCHEMA_INCOMPATIBLE"
    SOURCE_CONFIGURED = "SOURCE_CONFIGURED"
    CURSOR_EXPIRED = "CURSOR_EXPIRED"
    # Who is asking, and from where.
    SIGNATURE_INVALID = "SIGNATURE_INVALID"
    HOST_NOT_ALLOWED = "HOST_NOT_ALLOWED"
    ORIGIN_NOT_ALLOWED = "ORIGIN_NOT_ALLOWED"
    INSECURE_LISTENER = "INSECURE_LISTENER"
    SCHEMA_NOT_YOURS = "SCHEMA_NOT_YOURS"
    ADDRESS_NOT_ALLOWED = "ADDRESS_NOT_ALLOWED"
    CREDENTIALS_MISSING = "CREDENTIALS_MISSING"
    CREDENTIALS_INVALID = "CREDENTIALS_INVALID"
    ROLE_MISSING = "ROLE_MISSING"
    NOT_BOUND_TO = "NOT_BOUND_TO"
    NOT_OPERATOR = "NOT_OPERATOR"
    SOURCE_NOT_GRANTED = "SOURCE_NOT_GRANTED"
    TYPE_NOT_GRANTED = "TYPE_NOT_GRANTED"
    # The broker cannot, for now or at all.
    NOT_BUILT = "NOT_BUILT"
    BUFFER_FULL = "BUFFER_FULL"
    STORAGE_FULL = "STORAGE_FULL"
    TOO_MANY_STREAMS = "TOO_MANY_STREAMS"
    TOO_MANY_BACKOFFS = "TOO_MANY_BACKOFFS"
    DRAINING = "DRAINING"
    STORAGE_UNAVAILABLE = "STORAGE_UNAVAILABLE"
    WORKER_UNAVAILABLE = "WORKER_UNAVAILABLE"
    TOKEN_KEYS_UNAVAILABLE = "TOKEN_KEYS_UNAVAILABLE"
    RECEIVER_NOT_ASKED = "RECEIVER_NOT_ASKED"
    GATEWAY_UNREACHABLE = "GATEWAY_UNREACHABLE"
    DATA_DIR_LOCKED = "DATA_DIR_LOCKED"
    SEALED_BY_ANOTHER_KEY = "SEALED_BY_ANOTHER_KEY"
    INTERNAL = "INTERNAL"


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field at fault: its path in the request (`events[3].type`) and what is wrong with it."""

    field: str
    description: str


class CertesError(Exception):
    """A refusal with a reason. Never raised itself; its subclasses say the kind.

    `retryable` says whether the same request may succeed later unchanged.
    """

    retryable: ClassVar[bool] = False

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[FieldViolation] = (),
        hint: str = "",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.metadata: Mapping[str, str] = dict(metadata or {})
        self.violations: tuple[FieldViolation, ...] = tuple(violations)
        self.hint = hint
        self.retry_after = retry_after
        """Seconds after which a retry makes sense; None where that is not known."""

    def __str__(self) -> str:
        if not self.hint:
            return self.message
        end = "" if self.message.endswith((".", "?", "!")) else "."
        return f"{self.message}{end} {self.hint}"


class Invalid(CertesError):
    """The request itself is wrong, whatever the state of the broker."""

    @classmethod
    def field(cls, reason: Reason, field: str, description: str, *, hint: str = "", **metadata: str) -> Invalid:
        """Builds the refusal of one field; the message names it."""
        return cls(
            reason,
            f"{field}: {description}",
            violations=(FieldViolation(field, description),),
            hint=hint,
            metadata={"field": field, **metadata},
        )


class NotFound(CertesError):
    """What was named does not exist, or not for this caller."""


class AlreadyExists(CertesError):
    """What was to be made exists already, and differs."""


class FailedPrecondition(CertesError):
    """The request is sound; the present state of what it names forbids it."""


class Aborted(CertesError):
    """A concurrent change won. Read again, decide again, retry."""

    retryable = True


class OutOfRange(CertesError):
    """A position outside what is kept."""


class Unauthenticated(CertesError):
    """Who sent this is not proven."""


class PermissionDenied(CertesError):
    """Who sent this is known and may not."""


class Exhausted(CertesError):
    """A bounded buffer or quota is full; `retry_after` says when to try again."""

    retryable = True


class Unavailable(CertesError):
    """The broker cannot serve this now (draining, storage failing)."""

    retryable = True


class Unimplemented(CertesError):
    """Part of the contract that this broker does not build yet."""


class Internal(CertesError):
    """A fault of the broker itself."""

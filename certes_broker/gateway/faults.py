"""Collects what is wrong with a request, so that a caller learns of all of it at once."""

from __future__ import annotations

from types import TracebackType

from certes_broker.domain.errors import CertesError, FieldViolation, Invalid, Reason


class Faults:
    """What is wrong with one request.

    A reader goes on after a fault with whatever stands in for the value, and `check` raises them all together. The first fault gives
    the reason.
    """

    def __init__(self) -> None:
        self._invalid: list[CertesError] = []

    def add(self, reason: Reason, field: str, description: str, **metadata: str) -> None:
        """Notes that a field is at fault."""
        self._invalid.append(Invalid.field(reason, field, description, **metadata))

    def invalid(self, field: str, description: str) -> None:
        """Notes that a field has a value it cannot have (`FIELD_INVALID`)."""
        self.add(Reason.FIELD_INVALID, field, description)

    def required(self, field: str, description: str = "is required") -> None:
        """Notes that a field is missing (`FIELD_REQUIRED`)."""
        self.add(Reason.FIELD_REQUIRED, field, description)

    def at(self, field: str) -> _Noting:
        """Notes a refusal raised within as one of `field`, and goes on after the block."""
        return _Noting(self._invalid, field, below=False)

    def within(self, field: str) -> _Noting:
        """Notes a refusal raised within, whose own field paths begin below `field`, and goes on after the block."""
        return _Noting(self._invalid, field, below=True)

    def check(self) -> None:
        """Raises what was noted, as `Invalid`, if anything was."""
        if self._invalid:
            raise _together(self._invalid)

    def missing(self, field: str, description: str = "is required") -> CertesError:
        """Notes that a field is missing without which reading cannot go on; returns what was noted, to be raised."""
        self.required(field, description)
        return _together(self._invalid)


def located(error: Invalid, field: str) -> Invalid:
    """Returns a refusal as one of `field`, whatever it knew of fields itself."""
    description = error.violations[0].description if error.violations else error.message
    return Invalid(
        error.reason,
        f"{field}: {description}",
        metadata={**error.metadata, "field": field},
        violations=[FieldViolation(field, description)],
        hint=error.hint,
    )


class _Noting:
    """Swallows an `Invalid` and notes it. A class and no generator, so that type checkers know that it swallows."""

    def __init__(self, found: list[CertesError], field: str, *, below: bool) -> None:
        self._found = found
        self._field = field
        self._below = below

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, Invalid):
            return False
        field = self._field
        if self._below and error.violations:
            field = f"{field}.{error.violations[0].field}"
        self._found.append(located(error, field))
        return True


def _together(found: list[CertesError]) -> CertesError:
    first = found[0]
    if len(found) == 1:
        return first
    return Invalid(
        first.reason,
        f"{first.message} (and {len(found) - 1} more)",
        metadata=first.metadata,
        violations=[violation for error in found for violation in error.violations],
        hint=first.hint,
    )

"""What a worker process is asked to do, and what comes of it.

A job is a function of a module, called with `EventDocuments` and its own arguments: the same function does the work in the
broker's own process where it is small. What it returns can be written down without Python: a fact that JSON can hold, and
bytes. So nothing that a worker says is ever executed; only the broker sends it names of functions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Concatenate, Final, NamedTuple, ParamSpec, TypeAlias

from certes_broker.domain import errors
from certes_broker.domain.errors import CertesError, FieldViolation, Internal, Reason
from certes_broker.schemas.json_events import EventDocuments

P = ParamSpec("P")


class Converted(NamedTuple):
    """What came of a job: a fact that JSON can hold, and bytes."""

    fact: Any = None
    blobs: tuple[bytes, ...] = ()


Job: TypeAlias = Callable[Concatenate[EventDocuments, P], Converted]
"""A function that can be imported by its name."""


def error_fact(error: CertesError) -> dict[str, Any]:
    """Writes a refusal down."""
    return {
        "kind": type(error).__name__,
        "reason": error.reason.value,
        "message": error.message,
        "metadata": dict(error.metadata),
        "violations": [[violation.field, violation.description] for violation in error.violations],
        "hint": error.hint,
        "retry_after": error.retry_after,
    }


def error_of(fact: dict[str, Any]) -> CertesError:
    """Returns the refusal that was written down."""
    return _KINDS.get(fact["kind"], Internal)(
        Reason(fact["reason"]),
        fact["message"],
        metadata=fact["metadata"],
        violations=[FieldViolation(field, description) for field, description in fact["violations"]],
        hint=fact["hint"],
        retry_after=fact["retry_after"],
    )


_KINDS: Final[dict[str, type[CertesError]]] = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, CertesError) and kind is not CertesError
}

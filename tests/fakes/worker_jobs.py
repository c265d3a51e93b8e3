"""Jobs for worker processes that tell, wait, fail and die as a test asks. A worker finds them by their names."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from certes_broker.domain.errors import FieldViolation, Invalid, Reason
from certes_broker.schemas.json_events import EventDocuments
from certes_broker.schemas.worker.jobs import Converted


def echo(_documents: EventDocuments, *blobs: bytes) -> Converted:
    """Returns what it is given, and which process it is in."""
    return Converted(os.getpid(), blobs)


def message_of(documents: EventDocuments, type_text: str) -> Converted:
    """Finds a schema and tells its message and revision."""
    schema = documents.schemas.lookup(type_text)
    return Converted([schema.message_name, schema.revision])


def grow(_documents: EventDocuments, size: int) -> Converted:
    """Makes a lot of little."""
    return Converted(os.getpid(), (bytes(size),))


def wait(_documents: EventDocuments, begun: Path, go: Path) -> Converted:
    """Says by one named pipe that it has begun, and returns when it hears by another."""
    begun.write_bytes(b"1")
    go.read_bytes()
    return Converted(os.getpid())


def refuse(_documents: EventDocuments) -> Converted:
    raise Invalid(
        Reason.PAYLOAD_MALFORMED,
        "refused",
        metadata={"a": "b"},
        violations=[FieldViolation("x.y", "is wrong")],
        hint="Do better.",
        retry_after=2.5,
    )


def fail(_documents: EventDocuments) -> Converted:
    raise RuntimeError("a fault of ours")


def die(_documents: EventDocuments) -> Converted:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("dead")


def hang(_documents: EventDocuments) -> Converted:
    while True:
        pass


def babble(_documents: EventDocuments) -> Converted:
    """Says what nobody understands: a report that announces more than anybody sends."""
    for descriptor in range(3, 32):
        try:
            os.write(descriptor, b"\xff" * 64)
        except OSError:
            continue
    return Converted()


def environment(_documents: EventDocuments) -> Converted:
    return Converted(sorted(os.environ))

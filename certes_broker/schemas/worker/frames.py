"""What the broker and a worker process say to each other, and how it is written.

The broker sends `Order`s, pickled: they name functions. The worker sends `Report`s, as JSON and bytes. A worker that has been
given a job may ask before it is done: for the schema of an event type, and for files that it does not have yet.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from enum import StrEnum
from struct import Struct
from typing import Any, Final, NamedTuple, TypeAlias

import orjson

MOST_BYTES: Final = 64 * 1024 * 1024
"""The longest part of a frame. Whoever announces a longer one is not understood any more."""
LENGTH: Final = Struct("<I")
"""A frame is a length, a head of that length, and as many bytes as the head says."""


class Run(NamedTuple):
    """Do this."""

    job: Callable[..., Any]
    arguments: tuple[Any, ...]


class Schema(NamedTuple):
    """The schema of an event type: the message, the revision, and the files that it is in, by their fingerprint."""

    type: str
    message: str
    revision: int
    files: str


class Files(NamedTuple):
    """Serialized `FileDescriptorProto`s, each after those it imports."""

    files: Sequence[bytes]


class Refused(NamedTuple):
    """What was asked for is not there: an error's fact."""

    error: dict[str, Any]


Order: TypeAlias = Run | Schema | Files | Refused


class Kind(StrEnum):
    """What a worker says."""

    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"
    NEEDS_SCHEMA = "needs schema"
    NEEDS_FILES = "needs files"


class Report(NamedTuple):
    """One thing that a worker says."""

    kind: Kind
    fact: Any
    blobs: tuple[bytes, ...] = ()


def order_frame(order: Order) -> list[Buffer]:
    """Writes an order, in parts; what is long is in them as it is, and not copied."""
    long: list[Buffer] = []
    body = pickle.dumps(_with_long_parts_apart(order), protocol=5, buffer_callback=lambda part: long.append(part.raw()))
    head = LENGTH.pack(len(body)) + b"".join(LENGTH.pack(len(memoryview(part))) for part in long)
    return [LENGTH.pack(len(head)), head, body, *long]


def read_order(head: bytes, read: Callable[[int], bytes]) -> Order:
    """Reads the order that has a head. Only a worker does that, of what its broker wrote."""
    length, *lengths = (size for (size,) in LENGTH.iter_unpack(head))
    order: Order = pickle.loads(read(length), buffers=[read(size) for size in lengths])  # noqa: S301
    return order


def report_frame(report: Report) -> list[bytes]:
    """Writes a report, in parts."""
    head = orjson.dumps([report.kind, report.fact, [len(blob) for blob in report.blobs]])
    return [LENGTH.pack(len(head)), head, *report.blobs]


def read_report_head(head: bytes) -> tuple[Kind, Any, Sequence[int]]:
    """Reads the head of a report: the lengths of its blobs are last. Raises `ValueError` if it is none."""
    match orjson.loads(head):
        case [str(kind), fact, [*sizes]] if all(isinstance(size, int) and 0 <= size <= MOST_BYTES for size in sizes):
            return Kind(kind), fact, sizes
        case _:
            raise ValueError("it has no such parts")


Buffer: TypeAlias = bytes | memoryview
_LONG: Final = 64 * 1024


def _with_long_parts_apart(order: Order) -> object:
    if not isinstance(order, Run):
        return order
    return Run(
        order.job,
        tuple(
            pickle.PickleBuffer(argument) if isinstance(argument, bytes) and len(argument) >= _LONG else argument
            for argument in order.arguments
        ),
    )

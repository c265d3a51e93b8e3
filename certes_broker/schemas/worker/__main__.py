"""The program of a worker process: does one job after the other, as they come in on standard input.

Rules
-----
* It ends when its input does, which is also when the broker is gone, however that came about. A job that does not end is
  ended by an alarm: the broker has given it up by then.
* It does not listen to signals that are meant for the broker and reach all processes of a terminal or a service.
* What is wrong with a body is reported; what goes wrong beyond that is reported too, and the process goes on. If memory runs
  out the body is refused, as it would be the next time, and the process ends; the broker starts another.
"""

from __future__ import annotations

import gc
import os
import resource
import signal
import sys
import traceback
from contextlib import suppress
from typing import BinaryIO, Final, TypeVar

from certes_broker.domain.errors import CertesError, Invalid, Reason
from certes_broker.schemas.json_events import EventDocuments
from certes_broker.schemas.worker.frames import (
    LENGTH,
    MOST_BYTES,
    Files,
    Kind,
    Order,
    Refused,
    Report,
    Run,
    Schema,
    read_order,
    report_frame,
)
from certes_broker.schemas.worker.jobs import Converted, error_fact, error_of
from certes_broker.schemas.worker.remote_schemas import RemoteSchemas

MOST_MEMORY: Final = 2 * 1024 * 1024 * 1024
"""Bytes of address space."""

T = TypeVar("T")


def main() -> None:
    """Serves the broker that started this process. Its argument: the seconds after which a job is ended."""
    seconds = float(sys.argv[1])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    for name, limit in (("RLIMIT_AS", MOST_MEMORY), ("RLIMIT_CORE", 0)):
        with suppress(AttributeError, ValueError, OSError):
            resource.setrlimit(getattr(resource, name), (limit, limit))
    # Whatever prints must not be taken for a report.
    reports = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    # What is loaded by now stays; what a job makes is freed by counting references, or else between jobs.
    gc.collect()
    gc.freeze()
    gc.disable()
    worker = _Worker(sys.stdin.buffer, reports)
    while (order := worker.next_order()) is not None:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        worker.carry_out(order)
        signal.setitimer(signal.ITIMER_REAL, 0)


class _Worker:
    def __init__(self, orders: BinaryIO, reports: BinaryIO) -> None:
        self._orders = orders
        self._reports = reports
        self._schemas = RemoteSchemas(self._ask_schema, self._ask_files)
        self._documents = EventDocuments(self._schemas)

    def next_order(self) -> Order | None:
        """Waits for an order; None when there will be no more."""
        try:
            (length,) = LENGTH.unpack(self._read(LENGTH.size))
            return read_order(self._read(length), self._read)
        except EOFError:
            return None

    def _read(self, size: int) -> bytes:
        body = self._orders.read(size)
        if len(body) < size:
            raise EOFError
        return body

    def carry_out(self, order: Order) -> None:
        """Does a job and reports what came of it."""
        assert isinstance(order, Run)  # Only a job that is being done is told anything else.
        self._schemas.begin()
        report: Report | None = None
        try:
            converted = order.job(self._documents, *order.arguments)
            _check_sizes(converted)
            report = Report(Kind.DONE, converted.fact, converted.blobs)
        except CertesError as error:
            report = Report(Kind.REFUSED, error_fact(error))
        except MemoryError:
            # What the job had made goes with the exception; nothing can be said before.
            pass
        except Exception:  # noqa: BLE001 — the broker logs it and answers for it
            report = Report(Kind.FAILED, traceback.format_exc()[-_LONGEST_TRACE:])
        if report is None:
            problem = f"converting it takes more than {MOST_MEMORY} bytes of memory."
            self._report(Report(Kind.REFUSED, error_fact(Invalid(Reason.EVENT_TOO_LARGE, problem))))
            sys.exit("certes worker: out of memory")
        self._report(report)

    def _ask_schema(self, type_text: str) -> Schema:
        return self._ask(Report(Kind.NEEDS_SCHEMA, type_text), Schema)

    def _ask_files(self, fingerprint: str) -> Files:
        return self._ask(Report(Kind.NEEDS_FILES, fingerprint), Files)

    def _ask(self, question: Report, answer_type: type[T]) -> T:
        self._report(question)
        answer = self.next_order()
        if isinstance(answer, Refused):
            raise error_of(answer.error)
        if not isinstance(answer, answer_type):
            sys.exit(0)  # The broker is gone.
        return answer

    def _report(self, report: Report) -> None:
        try:
            for part in report_frame(report):
                assert len(part) <= MOST_BYTES
                self._reports.write(part)
            self._reports.flush()
        except BrokenPipeError:
            os._exit(0)  # The broker is gone, and what is still in the buffer is for nobody.


def _check_sizes(converted: Converted) -> None:
    """Refuses what no report can hold, such as the JSON of an event of a hundred thousand messages whose fields are all unset.

    It would not become less if it were tried again.
    """
    size = max(map(len, converted.blobs), default=0)
    if size > MOST_BYTES:
        raise Invalid(
            Reason.EVENT_TOO_LARGE,
            f"converted it has {size} bytes; {MOST_BYTES} are the limit.",
            metadata={"limit": str(MOST_BYTES)},
        )


_LONGEST_TRACE: Final = 4_096


if __name__ == "__main__":
    main()

"""Worker processes: what would hold the event loop too long is done in one of them.

Rules
-----
* A worker is started when there is a job for it, and kept for the next; a second one only while the first is busy.
* Jobs wait in a bounded line, by number and by bytes; who finds it full is told to come again.
* A worker that dies, says what nobody understands or takes longer than a job may is killed, and the next job gets another.
  The caller whose job was in it is told `Unavailable` (WORKER_UNAVAILABLE): the same request may succeed later.
* A job whose caller goes away is done all the same, or its worker would be lost with it.
* A worker ends by itself when the broker is gone, however that came about: its input ends then.

Workers are separate programs, not forks of this process, which has threads of gRPC and others in it. See
docs/decisions/0022-workers.md.
"""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import structlog

from certes_broker.broker.undisturbed import Undisturbed
from certes_broker.domain.errors import CertesError, Exhausted, Internal, Reason, Unavailable
from certes_broker.schemas.worker.frames import (
    LENGTH,
    MOST_BYTES,
    Buffer,
    Kind,
    Order,
    Report,
    Run,
    order_frame,
    read_report_head,
)
from certes_broker.schemas.worker.jobs import Converted, error_of

log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """What workers may use, and the interpreter that they are.

    `time_limit` is in seconds, from when a worker gets a job to when it has done it.
    """

    processes: int = 2
    waiting: int = 64
    waiting_bytes: int = 64 * 1024 * 1024
    time_limit: float = 10.0
    python: str = sys.executable


class Workers:
    """Gives jobs to worker processes. `answer` tells a worker what it asks for; see `schemas/worker/frames.py`."""

    def __init__(
        self, undisturbed: Undisturbed, answer: Callable[[Report], Order], limits: WorkerLimits = WorkerLimits()
    ) -> None:
        self._undisturbed = undisturbed
        self._answer = answer
        self._limits = limits
        self._places = asyncio.Semaphore(limits.processes)
        self._idle: deque[_Worker] = deque()
        self._all: set[_Worker] = set()
        self._present = 0
        self._present_bytes = 0
        self._closed = False

    @property
    def present(self) -> int:
        """How many jobs are being done or wait."""
        return self._present

    @property
    def processes(self) -> tuple[int, ...]:
        """The ids of the processes that there are."""
        return tuple(worker.pid for worker in self._all)

    async def do(self, job: Callable[..., Converted], *arguments: Any) -> Converted:
        """Calls a function in a worker, with its `EventDocuments` and the arguments.

        Raises what the function raises; `Exhausted` (BUFFER_FULL) if too much waits; `Unavailable` (WORKER_UNAVAILABLE).
        """
        frame = order_frame(Run(job, arguments))
        size = sum(map(len, frame))
        limits = self._limits
        if self._present and (
            self._present >= limits.processes + limits.waiting or self._present_bytes + size > limits.waiting_bytes
        ):
            raise Exhausted(
                Reason.BUFFER_FULL,
                f"{self._present} large bodies are being converted or wait for it.",
                hint="Send large bodies more slowly.",
                metadata={"limit": "conversions at once", "maximum": str(limits.processes + limits.waiting)},
                retry_after=1.0,
            )
        self._present += 1
        self._present_bytes += size
        return await self._undisturbed.do(self._do(frame, size))

    async def close(self) -> None:
        """Ends all workers. No job may be under way."""
        self._closed = True
        for worker in tuple(self._all):
            await self._end(worker)

    async def _do(self, frame: Frame, size: int) -> Converted:
        try:
            async with self._places:
                worker = await self._take()
                report = await self._report(worker, frame)
        finally:
            self._present -= 1
            self._present_bytes -= size
        match report.kind:
            case Kind.DONE:
                return Converted(report.fact, report.blobs)
            case Kind.REFUSED:
                raise error_of(report.fact)
            case _:
                log.error("worker_job_failed", trace=report.fact)
                raise Internal(Reason.INTERNAL, "a conversion failed, which is a fault of the broker.")

    async def _take(self) -> _Worker:
        """Returns a worker that is idle, the one used last, or a new one."""
        while self._idle:
            worker = self._idle.pop()
            if worker.lives:
                return worker
            await self._end(worker)
        if self._closed:
            raise _unavailable("the broker stops")
        try:
            worker = await _Worker.start(self._limits)
        except OSError as error:
            raise _unavailable(f"it cannot be started ({error.strerror})") from error
        self._all.add(worker)
        return worker

    async def _report(self, worker: _Worker, frame: Frame) -> Report:
        """Gives a job to a worker and returns how it ended. The worker is idle then, or gone."""
        try:
            async with asyncio.timeout(self._limits.time_limit):
                report = await worker.converse(frame, self._answer)
        except TimeoutError as error:
            await self._end(worker)
            raise JobLost(f"it took longer than {self._limits.time_limit:g} s") from error
        except (OSError, EOFError, ValueError) as error:
            await self._end(worker)
            raise JobLost("its process ended") from error
        except BaseException:
            await self._end(worker)
            raise
        self._idle.append(worker)
        return report

    async def _end(self, worker: _Worker) -> None:
        self._all.discard(worker)
        with suppress(ValueError):
            self._idle.remove(worker)
        await worker.end()


class _Worker:
    """One worker process."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.pid: Final = process.pid

    @classmethod
    async def start(cls, limits: WorkerLimits) -> _Worker:
        # Twice the time, for a job that outlives the broker; while it lives it keeps the time itself.
        process = await asyncio.create_subprocess_exec(
            *(limits.python, "-P", "-m", "certes_broker.schemas.worker", str(2 * limits.time_limit)),
            stdin=PIPE,
            stdout=PIPE,
            limit=MOST_BYTES,
            env=_environment(),
        )
        return cls(process)

    @property
    def lives(self) -> bool:
        """Whether it has not ended, as far as is known."""
        return self._process.returncode is None

    async def converse(self, frame: Frame, answer: Callable[[Report], Order]) -> Report:
        """Gives it a job, answers what it asks, and returns what it reports in the end.

        Raises `OSError`, `EOFError` and `ValueError` if it cannot be understood any more.
        """
        orders, reports = self._process.stdin, self._process.stdout
        assert orders is not None
        assert reports is not None
        while True:
            try:
                orders.writelines(frame)
                await orders.drain()
            except RuntimeError as error:
                # What uvloop raises where the process has ended, and with it the pipe, before anything was written.
                raise EOFError from error
            (length,) = LENGTH.unpack(await reports.readexactly(LENGTH.size))
            if length > MOST_BYTES:
                raise ValueError(length)
            kind, fact, sizes = read_report_head(await reports.readexactly(length))
            report = Report(kind, fact, tuple([await reports.readexactly(size) for size in sizes]))
            if kind in (Kind.DONE, Kind.REFUSED, Kind.FAILED):
                return report
            frame = order_frame(answer(report))

    async def end(self) -> None:
        """Kills it and returns when it is gone."""
        with suppress(ProcessLookupError):
            self._process.kill()
        if self._process.stdin is not None:
            self._process.stdin.close()
        await self._process.wait()


Frame: TypeAlias = Sequence[Buffer]


class JobLost(Unavailable):
    """A worker was lost with the job that was in it, which may be why."""

    def __init__(self, problem: str) -> None:
        super().__init__(Reason.WORKER_UNAVAILABLE, _message(problem), retry_after=1.0)


_KEPT_VARIABLES: Final = ("LD_LIBRARY_PATH", "PATH", "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "PYTHONHOME")


def _environment() -> dict[str, str]:
    """Returns the environment of a worker: enough to find the same modules, and no secrets, for it reads what strangers send."""
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    return {**kept, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def _unavailable(problem: str) -> CertesError:
    return Unavailable(Reason.WORKER_UNAVAILABLE, _message(problem), retry_after=1.0)


def _message(problem: str) -> str:
    return f"the worker that converts large bodies failed: {problem}."

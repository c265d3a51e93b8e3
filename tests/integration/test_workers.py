"""Worker processes: what they do, how they end, and that nothing that goes wrong in one holds or harms the broker."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import uvloop
from structlog.testing import capture_logs

from certes_broker.broker.undisturbed import Undisturbed
from certes_broker.broker.workers import WorkerLimits, Workers, _Worker
from certes_broker.domain.errors import CertesError, Exhausted, Internal, Invalid, Reason, Unavailable
from certes_broker.schemas.catalogue import community_versions
from certes_broker.schemas.registry import Registry
from certes_broker.schemas.worker.__main__ import MOST_MEMORY
from certes_broker.schemas.worker.answers import Answers
from certes_broker.schemas.worker.frames import MOST_BYTES, Run, order_frame
from tests.fakes import worker_jobs as jobs

ROOT = Path(__file__).resolve().parents[2]
REGISTRY = Registry(community_versions())
PATIENCE = 50.0
"""Seconds until a wait for what never comes fails its test."""
PUSH = "community.certes.dev/github/1/push"


@asynccontextmanager
async def workers(**limits) -> AsyncIterator[Workers]:
    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
        undisturbed = Undisturbed(tasks)
        made = Workers(undisturbed, Answers(REGISTRY).answer, WorkerLimits(**limits))
        try:
            yield made
        finally:
            await undisturbed.finished()
            await made.close()


class Held:
    """A job that waits in its worker until it is let go."""

    def __init__(self, folder: Path, name: str) -> None:
        self.begun, self.go = folder / f"{name}-begun", folder / f"{name}-go"
        for pipe in (self.begun, self.go):
            os.mkfifo(pipe)

    async def has_begun(self) -> None:
        await asyncio.to_thread(self.begun.read_bytes)

    async def let_go(self) -> None:
        await asyncio.to_thread(self.go.write_bytes, b"1")


def gone(pid: int) -> None:
    """Waits until a process has ended."""
    with suppress(ProcessLookupError):
        handle = os.pidfd_open(pid)
        try:
            assert select.select([handle], [], [], PATIENCE)[0], f"process {pid} lives on"
        finally:
            os.close(handle)


async def refused(made: Workers, job, *arguments) -> CertesError:
    with pytest.raises(CertesError) as error:
        await made.do(job, *arguments)
    return error.value


async def test_nothing_is_started_before_there_is_a_job():
    async with workers() as made:
        assert made.processes == ()


@pytest.mark.parametrize("size", [0, 1, 70_000, 3 << 20])
async def test_bytes_of_any_length_come_back_as_they_were(size):
    blobs = (os.urandom(size), b"", b"x" * size)
    async with workers() as made:
        converted = await made.do(jobs.echo, *blobs)
        assert converted.blobs == blobs
        assert converted.fact == made.processes[0] != os.getpid()


async def test_a_worker_serves_one_job_after_the_other_and_a_second_one_starts_only_beside_a_busy_one(tmp_path):
    async with workers(processes=2) as made, asyncio.TaskGroup() as tasks:
        pids = {(await made.do(jobs.echo)).fact for _ in range(5)}
        assert pids == set(made.processes)
        held = Held(tmp_path, "a")
        waiting = tasks.create_task(made.do(jobs.wait, held.begun, held.go))
        await held.has_begun()
        beside = (await made.do(jobs.echo)).fact
        assert {beside, *pids} == set(made.processes)
        assert len(made.processes) == 2
        await held.let_go()
        assert (await waiting).fact in pids


async def test_a_worker_finds_the_schemas_that_the_broker_knows():
    async with workers() as made:
        for _ in range(2):
            assert (await made.do(jobs.message_of, PUSH)).fact == ["certes.community.github.v1.PushEvent", 1]
        unknown = await refused(made, jobs.message_of, f"{PUSH}es")
        assert unknown.reason is Reason.UNKNOWN_EVENT_TYPE
        assert "Did you mean" in unknown.hint
        drift = (await made.do(jobs.message_of, f"{PUSH.rpartition('/')[0]}/_drift")).fact
        assert drift[0] == "certes.v1.SchemaDrift"


async def test_a_refusal_comes_back_with_all_that_it_says():
    async with workers() as made:
        error = await refused(made, jobs.refuse)
    assert isinstance(error, Invalid)
    assert (error.reason, error.message, error.hint) == (Reason.PAYLOAD_MALFORMED, "refused", "Do better.")
    assert [(one.field, one.description) for one in error.violations] == [("x.y", "is wrong")]
    assert error.metadata == {"a": "b"}
    assert error.retry_after == 2.5


async def test_what_comes_to_more_than_a_report_can_hold_is_refused_for_good_and_the_worker_goes_on():
    async with workers() as made:
        pid = (await made.do(jobs.grow, MOST_BYTES)).fact
        error = await refused(made, jobs.grow, MOST_BYTES + 1)
        assert (type(error), error.reason, error.metadata) == (
            Invalid,
            Reason.EVENT_TOO_LARGE,
            {"limit": str(MOST_BYTES)},
        )
        assert (await made.do(jobs.echo)).fact == pid


async def test_what_takes_more_memory_than_a_worker_may_have_is_refused_for_good_and_another_worker_goes_on():
    async with workers() as made:
        pid = (await made.do(jobs.echo)).fact
        error = await refused(made, jobs.grow, MOST_MEMORY)
        assert (type(error), error.reason) == (Invalid, Reason.EVENT_TOO_LARGE)
        gone(pid)
        # One that died while it was idle costs a job at most.
        with suppress(Unavailable):
            await made.do(jobs.echo)
        assert (await made.do(jobs.echo)).fact != pid


async def test_a_fault_of_a_job_is_logged_with_its_trace_and_the_worker_goes_on():
    async with workers() as made:
        pid = (await made.do(jobs.echo)).fact
        with capture_logs() as logs:
            assert isinstance(await refused(made, jobs.fail), Internal)
        [entry] = [entry for entry in logs if entry["event"] == "worker_job_failed"]
        assert "a fault of ours" in entry["trace"]
        assert (await made.do(jobs.echo)).fact == pid


@pytest.mark.parametrize("job", [jobs.die, jobs.babble])
async def test_a_worker_that_dies_or_says_what_nobody_understands_is_replaced(job):
    async with workers() as made:
        first = (await made.do(jobs.echo)).fact
        error = await refused(made, job)
        assert isinstance(error, Unavailable)
        assert error.reason is Reason.WORKER_UNAVAILABLE
        assert error.retryable
        gone(first)
        assert made.processes == ()
        assert (await made.do(jobs.echo)).fact != first


def test_a_worker_that_has_ended_before_its_job_is_written_is_said_to_have_ended_on_the_broker_s_loop_too():
    async def converse() -> None:
        worker = await _Worker.start(WorkerLimits(python="/bin/true"))
        while worker.lives:  # noqa: ASYNC110  it waits for no time
            await asyncio.sleep(0)
        with pytest.raises((EOFError, OSError)):
            await worker.converse([b"job"], Answers(REGISTRY).answer)
        await worker.end()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(converse())


async def test_a_worker_that_died_while_idle_costs_one_job_at_most():
    async with workers() as made:
        first = (await made.do(jobs.echo)).fact
        os.kill(first, signal.SIGKILL)
        gone(first)
        with suppress(Unavailable):
            await made.do(jobs.echo)
        assert (await made.do(jobs.echo)).fact != first


async def test_a_job_that_takes_too_long_ends_with_its_worker():
    async with workers(time_limit=1.0) as made:
        error = await refused(made, jobs.hang)
        assert isinstance(error, Unavailable)
        assert "longer than 1 s" in error.message
        assert made.processes == ()


async def test_more_jobs_than_may_wait_are_told_to_come_again(tmp_path):
    held = Held(tmp_path, "a")
    async with workers(processes=1, waiting=1) as made, asyncio.TaskGroup() as tasks:
        under_way = tasks.create_task(made.do(jobs.wait, held.begun, held.go))
        await held.has_begun()
        waiting = tasks.create_task(made.do(jobs.echo))
        while made.present < 2:  # noqa: ASYNC110  it waits for no time
            await asyncio.sleep(0)
        error = await refused(made, jobs.echo)
        assert isinstance(error, Exhausted)
        assert error.reason is Reason.BUFFER_FULL
        assert error.retry_after is not None
        await held.let_go()
        assert (await under_way).fact == (await waiting).fact
        assert made.present == 0


async def test_more_bytes_than_may_wait_are_told_to_come_again_but_one_job_always_finds_room(tmp_path):
    held = Held(tmp_path, "a")
    async with workers(processes=1, waiting_bytes=1000) as made, asyncio.TaskGroup() as tasks:
        assert (await made.do(jobs.echo, bytes(5000))).blobs == (bytes(5000),)
        under_way = tasks.create_task(made.do(jobs.wait, held.begun, held.go))
        await held.has_begun()
        assert isinstance(await refused(made, jobs.echo, bytes(5000)), Exhausted)
        await held.let_go()
        await under_way


async def test_a_caller_that_goes_away_costs_no_worker(tmp_path):
    held = Held(tmp_path, "a")
    async with workers(processes=1) as made, asyncio.TaskGroup() as tasks:
        caller = tasks.create_task(made.do(jobs.wait, held.begun, held.go))
        await held.has_begun()
        (pid,) = made.processes
        caller.cancel()
        await asyncio.wait([caller])
        await held.let_go()
        assert (await made.do(jobs.echo)).fact == pid


async def test_closing_ends_every_worker():
    async with workers() as made:
        pid = (await made.do(jobs.echo)).fact
    gone(pid)
    assert made.processes == ()


async def test_a_worker_that_cannot_be_started_is_unavailable():
    async with workers(python="/nowhere/python") as made:
        assert (await refused(made, jobs.echo)).reason is Reason.WORKER_UNAVAILABLE
        assert made.present == 0


async def test_a_worker_knows_no_secrets_of_the_environment(monkeypatch):
    monkeypatch.setenv("CERTES_SECRET", "s3cret")
    async with workers() as made:
        assert "CERTES_SECRET" not in (await made.do(jobs.environment)).fact


async def test_signals_for_the_broker_do_not_end_a_worker():
    async with workers() as made:
        pid = (await made.do(jobs.echo)).fact
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(pid, number)
        assert (await made.do(jobs.echo)).fact == pid


BROKER = """
import asyncio, sys
from certes_broker.broker.undisturbed import Undisturbed
from certes_broker.broker.workers import Workers
from tests.fakes import worker_jobs as jobs

async def main():
    async with asyncio.TaskGroup() as tasks:
        workers = Workers(Undisturbed(tasks), None)
        print((await workers.do(jobs.echo)).fact, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_the_loop_goes_on_while_a_body_is_converted():
    # A pipe holds 64 KiB, so handing this over alone takes the loop many turns; in one of them nothing else would move.
    turns = 0

    async def beat() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with workers() as made, asyncio.TaskGroup() as tasks:
        beating = tasks.create_task(beat())
        await made.do(jobs.echo, bytes(1 << 20))
        beating.cancel()
    assert turns > 16


def test_a_worker_ends_when_its_broker_is_killed():
    path = os.pathsep.join(path for path in sys.path if path)
    broker = subprocess.Popen(
        [sys.executable, "-c", BROKER], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path}, cwd=ROOT
    )
    with broker:
        assert broker.stdout is not None
        pid = int(broker.stdout.readline())
        broker.kill()
        gone(pid)


def test_a_worker_says_nothing_where_its_broker_is_killed_in_the_middle_of_a_job():
    path = os.pathsep.join(path for path in sys.path if path)
    worker = subprocess.Popen(
        [sys.executable, "-m", "certes_broker.schemas.worker", "10"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
        cwd=ROOT,
    )
    with worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        assert worker.stderr is not None
        worker.stdout.close()
        for part in order_frame(Run(jobs.echo, (b"x" * 1_000_000,))):
            worker.stdin.write(part)
        worker.stdin.flush()
        assert worker.stderr.read() == b""
        assert worker.wait(PATIENCE) == 0

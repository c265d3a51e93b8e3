"""Clients: the one of a process, several, the blocking form, and the ends of their lives."""

from __future__ import annotations

import asyncio
import copy
import pickle
import signal
import subprocess
import sys
import textwrap
import threading

import pytest

import certes_sdk as certes
from certes.community.github.v1.push_event_pb2 import PushEvent
from certes.v1.event_pb2 import Event
from certes_sdk import CertesError, Client, blocking
from certes_sdk.default_client import DefaultClient
from certes_sdk.errors import invalid_field
from certes_sdk.loop_thread import LOOP_THREAD
from certes_sdk.signals import stopped_by_signals
from tests.fakes.sdk_broker import PUSH, FakeBroker


def test_what_is_called_before_init_says_so():
    code = textwrap.dedent("""
        import asyncio
        import certes_sdk as certes
        from certes_sdk import blocking
        certes.on("d/a/1/x")(print)
        for call in (lambda: certes.run(), lambda: blocking.close(), lambda: certes.publish(None)):
            try:
                call()
            except certes.CertesError as error:
                print(error.reason, error.code, error.hint)
    """)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    hint = "Call init with the URI of a gateway first."
    assert done.stdout == f"NOT_INITIALIZED FAILED_PRECONDITION {hint}\n" * 3
    assert done.stderr == ""


def test_init_checks_its_arguments_and_asks_nobody(monkeypatch):
    with pytest.raises(CertesError) as caught:
        certes.init("https://events.meetly.com")
    assert (caught.value.reason, caught.value.metadata["position"]) == ("MALFORMED_URI", "0")
    with pytest.raises(CertesError, match="FIELD_INVALID: concurrency"):
        Client("events://d", concurrency=0)
    with pytest.raises(CertesError, match="FIELD_INVALID: max_outstanding"):
        Client("events://d", max_outstanding=100_001)
    assert "hush" not in repr(Client("events://d", token="hush").settings)
    Client("events://unresolvable.invalid")


async def test_there_is_one_default_client_until_it_is_closed():
    default = DefaultClient()
    first, second = Client("events://d"), Client("events://d")
    default.set(first)
    with pytest.raises(CertesError) as caught:
        default.set(second)
    assert (caught.value.reason, caught.value.code) == ("ALREADY_INITIALIZED", "FAILED_PRECONDITION")
    assert default.get() is first
    await first.close()
    default.set(second)
    assert default.get() is second


async def test_handlers_can_be_registered_before_there_is_a_client(broker):
    default = DefaultClient()
    seen = asyncio.Event()

    @default.on(PUSH)
    async def handle(raw):
        seen.set()

    client = Client("events://d", app="a")._with(finder=broker.find)
    default.set(client)
    assert default.get() is client
    async with asyncio.TaskGroup() as tasks, asyncio.timeout(50):
        tasks.create_task(client.run())
        stream = await broker.streams.get()
        stream.open()
        stream.deliver(Event(id="1", type=PUSH, source="s", everyone=True))
        await seen.wait()
        await client.close()


async def test_a_client_can_be_used_in_a_block(broker):
    async with Client("events://d", app="a")._with(finder=broker.find) as client:
        await client.publish(PushEvent(), everyone=True)
    with pytest.raises(CertesError, match="CLIENT_CLOSED"):
        await client.publish(PushEvent(), everyone=True)


class BrokerThread:
    """The fake broker in a loop of its own, for callers that block."""

    def __enter__(self) -> FakeBroker:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

        async def start() -> FakeBroker:
            broker = FakeBroker()  # type: ignore[abstract] # an rpc that it does not have answers UNIMPLEMENTED
            await broker.start()
            return broker

        self._broker = self._call(start())
        return self._broker

    def __exit__(self, *_: object) -> None:
        self._call(self._broker.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)


def test_the_blocking_form_publishes_and_subscribes():
    with BrokerThread() as broker, blocking.Client("events://d", app="a") as client:
        client._client._with(finder=broker.find)
        receipt = client.publish(PushEvent(ref="x"), everyone=True, id="1")
        assert receipt == ("1", False, "events/1")
        assert client.send_outgoing_event("org_1", PushEvent()).id
        assert len(client.publish_all([blocking.outgoing(PushEvent(), everyone=True)])) == 1
        client.ensure_subscriptions([blocking.event(PUSH)])
        assert len(broker.updates) == 1
        with pytest.raises(CertesError, match="AUDIENCE_MISSING"):
            client.publish(PushEvent())
    with pytest.raises(CertesError, match="CLIENT_CLOSED"):
        client.publish(PushEvent(), everyone=True)


def test_many_threads_can_publish_at_once():
    with BrokerThread() as broker, blocking.Client("events://d", app="a") as client:
        client._client._with(finder=broker.find)
        receipts = []
        threads = [
            threading.Thread(target=lambda: receipts.append(client.publish(PushEvent(), everyone=True)))
            for _ in range(20)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert len({receipt.id for receipt in receipts}) == 20


def test_one_client_serves_several_event_loops_one_after_another():
    with BrokerThread() as broker:
        client = Client("events://d", app="a")._with(finder=broker.find)
        receipts = [asyncio.run(client.publish(PushEvent(), everyone=True)) for _ in range(3)]
        assert len({receipt.id for receipt in receipts}) == 3
        assert len(client._sessions) == 1
        asyncio.run(client.close())


def test_a_coroutine_that_waits_for_the_blocking_form_is_told_so_instead_of_waiting_for_itself():
    async def handler():
        LOOP_THREAD.call(lambda: asyncio.sleep(0))

    with pytest.raises(RuntimeError, match="would wait for itself"):
        LOOP_THREAD.call(handler)


def test_closing_closes_what_works_in_other_loops_too():
    with BrokerThread() as broker:
        client = Client("events://d", app="a")._with(finder=broker.find)
        LOOP_THREAD.call(lambda: client.publish(PushEvent(), everyone=True))
        asyncio.run(client.close())
        with pytest.raises(CertesError, match="CLIENT_CLOSED"):
            LOOP_THREAD.call(lambda: client.publish(PushEvent(), everyone=True))


async def test_signals_that_somebody_else_has_taken_are_left_alone():
    seen = []
    former = signal.signal(signal.SIGTERM, lambda *_: seen.append("theirs"))
    try:
        with stopped_by_signals(lambda: seen.append("ours")):
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, former)
    assert seen == ["theirs"]


async def test_a_signal_that_nobody_has_taken_stops_it():
    stopped = asyncio.Event()
    with stopped_by_signals(stopped.set):
        signal.raise_signal(signal.SIGTERM)
        async with asyncio.timeout(50):
            await stopped.wait()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_an_error_survives_being_copied_and_pickled():
    error = invalid_field("app", "is no id")
    for other in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert (str(other), other.code, other.violations, dict(other.metadata)) == (
            str(error),
            error.code,
            error.violations,
            dict(error.metadata),
        )


PROGRAM = """
import asyncio
from datetime import UTC, datetime

import certes_sdk as certes
from certes_contrib import github as gh
from certes_sdk import blocking

certes.init("events://d", app="a", generation=3)


@certes.on("community.certes.dev/github/1/push")
async def push(raw: certes.RawEvent) -> None:
    event = raw.to(gh.PushEvent)
    reveal_type(event)
    reveal_type(raw.time)


@certes.on("community.certes.dev/github/1/issues")
def issues(raw: certes.RawEvent) -> None:
    raw.to(gh.IssuesEvent)


async def main() -> None:
    await certes.ensure_subscriptions([certes.event("d/a/1/x", gh.Opts(repo="a"))], certes.event("d/a/1/y", {"n": 1}))
    receipt = await certes.publish(gh.PushEvent(), everyone=True, time=datetime.now(UTC), attributes={"a": "b"})
    reveal_type(receipt)
    await certes.send_outgoing_event("org_123", gh.PushEvent())
    await certes.publish_all([certes.outgoing(gh.PushEvent(), subscriber="org_123")])
    async with certes.Client("events://d", app="b") as client:
        reveal_type(await client.publish(gh.PushEvent(), everyone=True))
    reveal_type(blocking.publish(gh.PushEvent(), everyone=True))
    await certes.run()
"""


@pytest.mark.timeout(240)
def test_a_users_program_passes_a_strict_type_checker(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    wrong = (
        PROGRAM
        + '\n\nasync def wrong() -> None:\n    await certes.publish("x", everyone=1)\n    certes.init(app="a")\n'
    )
    (tmp_path / "wrong.py").write_text(wrong)

    def check(name: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), name]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=110)
        return done.returncode, done.stdout

    code, output = check("program.py")
    assert code == 0, output
    assert 'Revealed type is "certes.community.github.v1.push_event_pb2.PushEvent"' in output
    assert 'Revealed type is "datetime.datetime | None"' in output
    assert output.count("certes_sdk.coalescing.Receipt") == 3
    code, output = check("wrong.py")
    assert code == 1
    assert output.count(": error: ") == 3, output

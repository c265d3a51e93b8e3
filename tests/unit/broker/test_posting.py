"""A webhook body is rendered once for all who wait for it, and what goes wrong with that is said to each of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from certes.community.github.v1.push_event_pb2 import PushEvent
from certes_broker.broker.conversion import WIRE_BYTES, Conversion
from certes_broker.broker.items import Item
from certes_broker.broker.memory import Memory
from certes_broker.broker.names import EventNames
from certes_broker.broker.posting import Poster
from certes_broker.domain.errors import CertesError, Exhausted, Reason, Unavailable
from certes_broker.domain.events import Entry, Micros, Original, Position
from certes_broker.domain.subscriptions import Format, StoredSecret, WebhookDelivery
from certes_broker.ports.engine import Journal
from certes_broker.ports.sender import SendResult
from certes_broker.schemas.catalogue import community_versions
from certes_broker.schemas.events import EventReader
from certes_broker.schemas.registry import Registry
from certes_broker.schemas.worker.jobs import Converted
from tests.fakes.broker_world import SECRET, push
from tests.fakes.inline_workers import InlineWorkers
from tests.fakes.manual_clock import ManualClock
from tests.fakes.scripted_sender import ScriptedSender

REGISTRY = Registry(community_versions())
READER = EventReader(REGISTRY, max_event_bytes=1 << 20)
URLS = ("https://one.example.com", "https://two.example.com", "https://three.example.com")


class HeldWorkers(InlineWorkers):
    """Does nothing before it is let go, and then fails if there is an error."""

    def __init__(self, registry: Registry) -> None:
        super().__init__(registry)
        self.go = asyncio.Event()
        self.error: CertesError | None = None

    async def do(self, job: Callable[..., Converted], *arguments: Any) -> Converted:
        converted = await super().do(job, *arguments)
        await self.go.wait()
        if self.error is not None:
            raise self.error
        return converted


class NoOriginals:
    """A journal in which no event has an original."""

    async def original(self, _position: Position) -> Original | None:
        return None


class Posting:
    """A poster, and a large event for it to send."""

    def __init__(self) -> None:
        self.workers, self.sender = HeldWorkers(REGISTRY), ScriptedSender()
        conversion = Conversion(self.workers.documents, self.workers.as_workers())
        journal = cast("Journal", NoOriginals())
        self.poster = Poster(self.sender, conversion, journal, ManualClock(), "events.example.com")
        event = push("p1")
        event.data.Pack(PushEvent(ref="r", after="x" * WIRE_BYTES))
        accepted = READER.read(event.SerializeToString(), Micros(0))
        self.item = Item(Entry(Position(1), accepted), EventNames(bytes(16)).name(Position(1)), Memory())

    async def post(self, url: str, form: Format = Format.CLOUDEVENTS_JSON) -> SendResult:
        rendered = await self.poster.rendered(self.item, form)
        return await self.poster.post(self.item, WebhookDelivery(url, (StoredSecret(SECRET),), form), rendered)

    async def begun(self, count: int) -> None:
        """Waits until so many jobs were begun."""
        while len(self.workers.done) < count:  # noqa: ASYNC110  it waits for no time
            await asyncio.sleep(0)


async def test_a_body_is_rendered_once_for_all_who_wait_for_it_and_for_those_who_come_later():
    posting = Posting()
    async with asyncio.TaskGroup() as tasks:
        for url in URLS:
            tasks.create_task(posting.post(url))
        await posting.begun(1)
        posting.workers.go.set()
    await posting.post(URLS[0])
    assert posting.workers.done == ["webhook_body"]
    assert [request.url for request in posting.sender.requests] == [*URLS, URLS[0]]
    assert len({request.body for request in posting.sender.requests}) == 1


async def test_each_format_has_a_body_of_its_own():
    posting = Posting()
    posting.workers.go.set()
    for form in Format:
        await posting.post(URLS[0], form)
    assert len(posting.workers.done) == len(Format)
    assert len({request.headers["content-type"] for request in posting.sender.requests}) > 1


@pytest.mark.parametrize("kind", [Unavailable, Exhausted])
async def test_a_body_that_cannot_be_rendered_now_is_told_to_all_who_wait_and_tried_again_by_the_next(kind):
    posting = Posting()
    posting.workers.error = kind(Reason.WORKER_UNAVAILABLE, "no worker")
    async with asyncio.TaskGroup() as tasks:
        waiting = [tasks.create_task(_refusal(posting, url)) for url in URLS]
        await posting.begun(1)
        posting.workers.go.set()
    assert {type(task.result()) for task in waiting} == {kind}
    posting.workers.error = None
    assert (await posting.post(URLS[0])).is_success


async def test_who_renders_and_is_cancelled_leaves_the_others_to_try_again():
    posting = Posting()
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(posting.post(URLS[0]))
        await posting.begun(1)
        second = tasks.create_task(_refusal(posting, URLS[1]))
        await asyncio.sleep(0)
        first.cancel()
    assert isinstance(second.result(), Unavailable)
    posting.workers.go.set()
    assert (await posting.post(URLS[1])).is_success


async def _refusal(posting: Posting, url: str) -> CertesError:
    with pytest.raises(CertesError) as refusal:
        await posting.post(url)
    return refusal.value

"""A migration moves everything that an engine keeps, however often it is interrupted."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from certes_broker.broker import notice_documents
from certes_broker.broker.migration import MARKER, Counts, Migration, check_complete
from certes_broker.broker.names import NAME_KEY
from certes_broker.broker.subscription_documents import PREFIX, key_of, read_document, write_document
from certes_broker.domain.cursor_state import CursorChange, CursorState, DeadLetter, Gap, Owed, OwedKind
from certes_broker.domain.errors import CertesError, FailedPrecondition, Internal, Reason
from certes_broker.domain.events import BEGINNING, AcceptedEvent, Micros, Original, Position
from certes_broker.domain.matching import Selector
from certes_broker.domain.names import SubscriptionName
from certes_broker.domain.notices import Batch, Kind, exhausted
from certes_broker.domain.subscriptions import StreamDelivery, Subscription
from certes_broker.domain.uris import parse_pattern
from certes_broker.engines.memory import MemoryEngine
from certes_broker.engines.nats import Access, NatsEngine, Place
from certes_broker.engines.sqlite.engine import SqliteEngine
from certes_broker.ports.clock import Clock
from certes_broker.ports.cluster import MemberId
from certes_broker.ports.engine import Attempt, Engine, Rejected
from tests.contracts.engine_harness import PLENTY, START, event
from tests.fakes.manual_clock import ManualClock
from tests.fakes.nats_servers import running
from tests.fakes.troubled_engine import TroubledEngine

TRIMMED = 512
EVENTS = 1_200
NOTICE = notice_documents.key_of(MemberId("a1b2"), SubscriptionName("org_1", "partly"), Kind.EXHAUSTED)
"""What was still to be told when the broker was stopped."""
ORIGINAL = Original("application/json", (("x-github-event", "push"),), b"{}")


def name(subscription_id: str) -> str:
    return f"subscribers/org_1/subscriptions/{subscription_id}"


def subscription(subscription_id: str, start: int = 0) -> Subscription:
    return Subscription(
        SubscriptionName("org_1", subscription_id),
        (Selector(parse_pattern("example.com/_/1/*")),),
        StreamDelivery(),
        Position(start),
        Micros(START),
        Micros(START),
    )


def kept(number: int) -> AcceptedEvent:
    made = event(f"e{number}", ordering_key=f"k{number % 3}", accept_time=Micros(START + number))
    return made._replace(original=ORIGINAL) if number % 100 == 0 else made


def row(position: int, kind: OwedKind = OwedKind.RETRY) -> Owed:
    return Owed(Position(position), kind, Micros(START + 5), 2, Micros(START), f"k{position % 3}", "HTTP 500")


def letter(position: int) -> DeadLetter:
    copy = kept(position)._replace(digest=None, original=None)
    return DeadLetter(Position(position), copy, 8, "attempts_exhausted", "HTTP 500", Micros(START + 9))


def notices(*positions: int) -> list[Batch]:
    """What is to be told of dead letters that now have these places."""
    facts = [
        exhausted(replace(letter(number), position=Position(at)))
        for number, at in zip((3, 600), positions, strict=True)
    ]
    return [Batch("notice-1", tuple([fact for fact in facts if fact is not None]), unsure=True)]


def attempt(position: int, number: int) -> Attempt:
    return Attempt(name("partly"), Position(position), number, Micros(START), 0.5, 500, "", "", b"no", None)


async def fill(engine: Engine) -> None:
    """Keeps 1,200 events of which retention has trimmed 512 or more, and subscriptions in every condition."""
    for start in range(1, EVENTS + 1, 128):
        await engine.journal.append([kept(number) for number in range(start, min(start + 128, EVENTS + 1))])
    await engine.journal.trim(Position(TRIMMED))
    subscriptions = {
        "unread": (subscription("unread"), None),
        "late": (subscription("late", 1_000), None),
        "level": (subscription("level"), CursorChange("", 0, CursorState(Position(900), Position(900), level=True))),
        "partly": (
            subscription("partly"),
            CursorChange(
                "",
                0,
                CursorState(
                    Position(700), Position(900), ((Position(710), Position(720)), (Position(800), Position(800)))
                ),
                put=[row(650), row(730), row(731, OwedKind.PARKED)],
                dead=[letter(3), letter(600)],
                gaps=[Gap(Position(1), Position(2), "retention", Micros(START))],
            ),
        ),
        "behind": (subscription("behind"), CursorChange("", 0, CursorState(Position(100), Position(100)))),
    }
    for made, change in subscriptions.values():
        await engine.settings.put(key_of(made.name), write_document(made))
        if change is not None:
            (epoch,) = await engine.leases.lease([made.name.text])
            assert epoch is not None
            await engine.cursors.settle([replace(change, subscription=made.name.text, epoch=epoch)], Position(1_100))
    await engine.settings.put(NAME_KEY, b"sixteen bytes ok")
    await engine.settings.put("sources/github", b"{}")
    await engine.settings.put(NOTICE, notice_documents.write_batches(notices(3, 600)))
    await engine.attempts.record([attempt(3, 1), attempt(600, 1), attempt(600, 2), attempt(730, 1)])
    rejected = Rejected("sources/github", Micros(START), "SIGNATURE_INVALID", "no", False, ORIGINAL)
    for number in range(3):
        await engine.rejections.keep(replace(rejected, message=str(number)))


@dataclass
class Data:
    """Where the source's data is."""

    directory: Path
    clock: Clock
    dedupe_window: float = 100.0

    def open(self) -> Any:
        return SqliteEngine.open(self.directory, self.clock, dedupe_window=self.dedupe_window)


@pytest.fixture
async def data(tmp_path: Path) -> Data:
    made = Data(tmp_path / "data", ManualClock())
    async with made.open() as engine:
        await fill(engine)
    return made


async def migrate(data: Data, target: Engine) -> Counts:
    async with data.open() as old:
        return await Migration(old, old, target, lambda *_: None).run()


async def owed(engine: Engine, subscription_id: str) -> list[str]:
    """The ids of all events that a subscription is still to be given, in the order of the journal."""
    (stored,) = await engine.cursors.load([name(subscription_id)])
    document = await engine.settings.get(key_of(SubscriptionName("org_1", subscription_id)))
    assert document is not None
    start = read_document(document).start
    state = CursorState(start, start) if stored is None else stored.state
    rows = set() if stored is None else {one.position for one in stored.owed}
    entries = (await engine.journal.read(BEGINNING, PLENTY, PLENTY)).entries
    return [
        entry.event.id
        for entry in entries
        if entry.position in rows
        or (entry.position > state.floor and not any(first <= entry.position <= last for first, last in state.settled))
    ]


async def check_moved(data: Data, target: Engine) -> None:
    """Holds the target against the source."""
    async with data.open() as old:
        trimmed = (await old.journal.bounds()).trimmed
        wanted = (await old.journal.read(BEGINNING, PLENTY, PLENTY)).entries
        for one in ("unread", "late", "level", "partly", "behind"):
            assert await owed(target, one) == await owed(old, one), one
    entries = (await target.journal.read(BEGINNING, PLENTY, PLENTY)).entries
    assert [entry.event for entry in entries] == [letter(3).event, *[entry.event for entry in wanted]]
    places = {entry.event.id: entry.position for entry in entries}
    (partly,) = await target.cursors.load([name("partly")])
    assert partly is not None
    assert partly.owed == tuple(
        made._replace(position=places[f"e{made.position}"]) for made in (row(650), row(730), row(731, OwedKind.PARKED))
    )
    letters = await target.cursors.dead_letters(name("partly"), BEGINNING, 10)
    assert list(letters) == [replace(letter(number), position=places[f"e{number}"]) for number in (3, 600)]
    notice = await target.settings.get(NOTICE)
    assert notice is not None
    assert notice_documents.read_batches(notice) == notices(places["e3"], places["e600"])
    assert len(await target.cursors.gaps(name("partly"))) == 1
    assert [(gap.first, gap.last) for gap in await target.cursors.gaps(name("behind"))] == [(101, trimmed)]
    assert [(gap.first, gap.last) for gap in await target.cursors.gaps(name("unread"))] == [(1, trimmed)]
    attempts = await target.attempts.list(name("partly"), None, 10)
    assert [(one.position, one.number) for one in attempts] == [
        (places["e730"], 1),
        (places["e600"], 2),
        (places["e600"], 1),
        (places["e3"], 1),
    ]
    assert [one.message for one in await target.rejections.list("sources/github", None, 10)] == ["2", "1", "0"]
    document = await target.settings.get("sources/github")
    assert document is not None
    assert await target.settings.get(NAME_KEY) is None
    assert await target.journal.original(places["e600"]) == ORIGINAL
    # What is published again is known still, and what is new is new.
    again = await target.journal.append([kept(1_000), kept(EVENTS + 1)])
    assert [one.duplicate for one in again] == [True, False]
    assert again[0].position == places["e1000"]


async def test_everything_is_moved_and_counted(data: Data) -> None:
    target = MemoryEngine(data.clock, dedupe_window_seconds=100.0)
    counts = await migrate(data, target)
    assert (counts.subscriptions, counts.owed, counts.dead_letters, counts.attempts, counts.rejected) == (5, 3, 2, 4, 3)
    assert (counts.gaps, counts.documents) == (3, 7)
    await check_complete(target)
    await check_moved(data, target)


async def is_finished(target: Engine) -> bool:
    """Whether a migration was finished. A broker that is asked to start says so if one was begun and not."""
    marker = await target.settings.get(MARKER)
    if marker is None:
        return False
    try:
        await check_complete(target)
    except FailedPrecondition as refused:
        assert refused.reason is Reason.MIGRATION_UNFINISHED  # noqa: PT017  it is raised in most rounds, not in all
        return False
    return True


@pytest.mark.parametrize("done", [False, True])
async def test_it_goes_on_after_a_crash_at_any_write(data: Data, done: bool) -> None:
    write, has_crashed = 0, True
    while has_crashed:
        write += 1
        target = MemoryEngine(data.clock, dedupe_window_seconds=100.0)
        troubled = TroubledEngine(target)
        troubled.crash_at(write, done=done)
        with suppress(CertesError):
            await migrate(data, troubled)
        has_crashed = troubled.has_crashed
        if not await is_finished(target):
            await migrate(data, target)
        await check_moved(data, target)
    assert write > 20


async def test_it_is_refused_where_something_is_already(data: Data) -> None:
    target = MemoryEngine(data.clock)
    await target.journal.append([event("e")])
    with pytest.raises(FailedPrecondition, match="events or settings already") as refused:
        await migrate(data, target)
    assert refused.value.reason is Reason.MIGRATION_REFUSED


async def test_it_is_refused_when_the_source_has_gone_on(data: Data) -> None:
    target = MemoryEngine(data.clock)
    troubled = TroubledEngine(target)
    troubled.crash_at(4, done=True)
    with pytest.raises(CertesError):
        await migrate(data, troubled)
    async with data.open() as old:
        await old.journal.append([event("later")])
    with pytest.raises(FailedPrecondition, match="has served this one since"):
        await migrate(data, target)


async def test_it_is_not_made_twice(data: Data) -> None:
    target = MemoryEngine(data.clock)
    await migrate(data, target)
    with pytest.raises(FailedPrecondition, match="was finished"):
        await migrate(data, target)


async def test_a_target_in_which_somebody_wrote_is_found_out(data: Data) -> None:
    target = MemoryEngine(data.clock)
    troubled = TroubledEngine(target)
    troubled.crash_at(4, done=True)
    with pytest.raises(CertesError):
        await migrate(data, troubled)
    await target.journal.append([event("stranger")])
    with pytest.raises(Internal, match="stranger"):
        await migrate(data, target)


async def test_it_moves_to_nats(data: Data, tmp_path: Path) -> None:
    with running(tmp_path / "nats") as cluster:
        place = Place(Access(cluster.urls), prefix="moved")
        async with NatsEngine.open(place, data.clock, dedupe_window=100.0) as target:
            await migrate(data, target)
            await check_moved(data, target)
        async with NatsEngine.open(place, data.clock, dedupe_window=100.0) as target:
            assert len(await target.settings.list(PREFIX)) == 5

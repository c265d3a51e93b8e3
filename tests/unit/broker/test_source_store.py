"""Sources: stored and declared, changed by several callers at once, on storage that fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from certes_broker.broker.source_documents import key_of, read_document, write_document
from certes_broker.broker.source_store import SourceStore
from certes_broker.broker.undisturbed import Undisturbed
from certes_broker.domain.errors import Aborted, AlreadyExists, FailedPrecondition, NotFound, Reason, Unavailable
from certes_broker.domain.events import Micros, Original
from certes_broker.domain.names import SubscriberName
from certes_broker.domain.signature_schemes import (
    BasicScheme,
    Encoding,
    HashAlgorithm,
    HmacScheme,
    NoScheme,
    SlackScheme,
    StandardWebhooksScheme,
    StripeScheme,
    TokenScheme,
)
from certes_broker.domain.sources import Everyone, PayloadSubscriber, Source, SourceSecret
from certes_broker.domain.webhook_mapping import HeaderPlace, PathPlace, WebhookMapping
from certes_broker.engines.memory import MemoryEngine
from certes_broker.ports.engine import Document, Rejected
from tests.fakes.manual_clock import ManualClock
from tests.fakes.troubled_engine import TroubledEngine

HOUR = 3_600.0


class Stage:
    """A store on an engine that can be given trouble."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.engine = TroubledEngine(MemoryEngine(self.clock))

    @asynccontextmanager
    async def started(self) -> AsyncIterator[SourceStore]:
        async with asyncio.TaskGroup() as tasks:
            store = SourceStore(self.engine, self.clock, Undisturbed(tasks))
            await store.start()
            yield store


@pytest.fixture
def stage() -> Stage:
    return Stage()


@pytest.fixture
async def store(stage: Stage) -> AsyncIterator[SourceStore]:
    async with stage.started() as made:
        yield made


def github(name: str = "github", *secrets: str) -> Source:
    return Source(name, "github", Everyone(), tuple(map(SourceSecret, secrets or ("one",))))


def labelled(label: str):
    return lambda source: replace(source, labels=(("label", label),))


async def test_a_created_source_is_found_at_once_and_after_a_restart(stage: Stage, store: SourceStore) -> None:
    made = await store.create(github())
    assert store.get("github") == store.find("github") == made
    assert (made.create_time, made.update_time) == (stage.clock.now(), stage.clock.now())
    assert made.etag
    async with stage.started() as again:
        assert again.get("github") == made


@pytest.mark.parametrize(
    "scheme",
    [
        None,
        HmacScheme("x-signature", HashAlgorithm.SHA1, Encoding.BASE64, "sha1="),
        StripeScheme("x-stripe", 60.0),
        SlackScheme(60.0),
        StandardWebhooksScheme(60.0),
        TokenScheme("x-token"),
        BasicScheme(),
        NoScheme(),
    ],
)
@pytest.mark.parametrize("audience", [Everyone(), PayloadSubscriber(), SubscriberName("everyone")])
def test_a_document_says_everything_of_a_source(scheme, audience) -> None:
    mapping = WebhookMapping(
        "events.example.com/shop/1/{event}",
        HeaderPlace("x-event"),
        PathPlace(("data", "id")),
        time=HeaderPlace("x-time"),
        subjects=(PathPlace(("a",)), HeaderPlace("b")),
        subscriber=PathPlace(("account",)),
        types=(("paid", "events.example.com/shop/1/invoice_paid"),),
    )
    secrets = (SourceSecret("new"), SourceSecret("old", Micros(5)))
    made = Source("s", "custom", audience, secrets, scheme, mapping, keep_rejected=True, labels=(("a", "b"),), etag="e")
    assert read_document(Document("sources/s", write_document(made), 9)) == replace(made, revision=9)


async def test_of_concurrent_creates_one_wins(store: SourceStore) -> None:
    made = await asyncio.gather(*(store.create(github("a", str(n))) for n in range(5)), return_exceptions=True)
    refused = [one for one in made if isinstance(one, AlreadyExists)]
    assert len(refused) == 4
    assert refused[0].reason is Reason.SOURCE_EXISTS
    assert store.get("a") in made


async def test_a_change_has_another_etag_and_time_and_no_change_has_neither(stage: Stage, store: SourceStore) -> None:
    made = await store.create(github())
    stage.clock.advance(1)
    same = await store.update("github", lambda source: source, etag="")
    assert same == made
    changed = await store.update("github", labelled("a"), etag=made.etag)
    assert changed.etag != made.etag
    assert (changed.create_time, changed.update_time) == (made.create_time, stage.clock.now())
    assert store.get("github") == changed


async def test_a_change_or_deletion_of_what_has_changed_since_is_refused(store: SourceStore) -> None:
    made = await store.create(github())
    await store.update("github", labelled("a"), etag="")
    for change in (store.update("github", labelled("b"), etag=made.etag), store.delete("github", etag=made.etag)):
        with pytest.raises(Aborted) as refusal:
            await change
        assert refusal.value.reason is Reason.ETAG_MISMATCH
    assert store.get("github").labels == (("label", "a"),)


async def test_of_concurrent_changes_none_is_lost(store: SourceStore) -> None:
    await store.create(github())

    def adding(number: int):
        return lambda source: replace(source, labels=(*source.labels, (str(number), "")))

    await asyncio.gather(*(store.update("github", adding(number), etag="") for number in range(10)))
    assert len(store.get("github").labels) == 10


async def test_a_source_that_is_not_there_cannot_be_changed(store: SourceStore) -> None:
    for call in (store.update("x", labelled(""), etag=""), store.delete("x", etag=""), store.rotate("x", "s", 1.0)):
        with pytest.raises(NotFound) as refusal:
            await call
        assert refusal.value.reason is Reason.SOURCE_NOT_FOUND
    assert store.find("x") is None


async def test_a_deleted_source_is_gone_with_what_it_refused_and_its_name_is_free(
    stage: Stage, store: SourceStore
) -> None:
    made = await store.create(github())
    rejected = Rejected("github", Micros(1), "PAYLOAD_MALFORMED", "", verified=True, payload=Original("", (), b""))
    await stage.engine.rejections.keep(rejected)
    await store.delete("github", etag=made.etag)
    assert store.find("github") is None
    assert not await stage.engine.rejections.list("github", None, 1)
    async with stage.started() as again:
        assert again.find("github") is None
    await store.create(github())


async def test_what_a_deletion_that_was_interrupted_left_is_not_the_next_source_s(
    stage: Stage, store: SourceStore
) -> None:
    await store.create(github())
    rejected = Rejected("github", Micros(1), "PAYLOAD_MALFORMED", "", verified=True, payload=Original("", (), b""))
    await stage.engine.rejections.keep(rejected)
    stage.engine.fail("rejections.forget", 1)
    with pytest.raises(Unavailable):
        await store.delete("github", etag="")
    await store.create(github())
    assert not await stage.engine.rejections.list("github", None, 1)


async def test_sources_are_listed_by_name_and_page(store: SourceStore) -> None:
    for name in ("b", "d", "a"):
        await store.create(github(name))
    store.declare([github("c")])
    page = store.list(page_size=3, page_token="")
    assert [source.name for source in page.sources] == ["a", "b", "c"]
    rest = store.list(page_size=3, page_token=page.next_page_token)
    assert ([source.name for source in rest.sources], rest.next_page_token) == (["d"], "")
    assert store.list(page_size=4, page_token="").next_page_token == ""


async def test_the_configuration_wins_until_it_lets_go_of_the_name(stage: Stage, store: SourceStore) -> None:
    stored = await store.create(github("github", "stored"))
    store.declare([github("github", "declared"), github("other")])
    assert store.get("github").secrets == (SourceSecret("declared"),)
    assert store.get("github").configured
    with pytest.raises(AlreadyExists):
        await store.create(github())
    for call in (
        store.update("github", labelled(""), etag=""),
        store.delete("github", etag=""),
        store.rotate("github", "s", 1.0),
    ):
        with pytest.raises(FailedPrecondition) as refusal:
            await call
        assert refusal.value.reason is Reason.SOURCE_CONFIGURED
    store.declare([])
    assert store.get("github") == stored
    assert store.find("other") is None


async def test_a_declared_source_is_not_stored(stage: Stage, store: SourceStore) -> None:
    store.declare([github()])
    async with stage.started() as again:
        assert again.find("github") is None


class TestRotating:
    async def test_the_old_secret_verifies_beside_the_new_one_until_the_overlap_ends(
        self, stage: Stage, store: SourceStore
    ) -> None:
        await store.create(github("github", "old"))
        rotated = await store.rotate("github", "new", HOUR)
        assert rotated.secrets_at(stage.clock.now()) == ("new", "old")
        stage.clock.advance(HOUR - 0.001)
        assert store.get("github").secrets_at(stage.clock.now()) == ("new", "old")
        stage.clock.advance(0.001)
        assert store.get("github").secrets_at(stage.clock.now()) == ("new",)

    async def test_without_an_overlap_the_old_secret_stops_at_once(self, stage: Stage, store: SourceStore) -> None:
        await store.create(github("github", "old"))
        assert (await store.rotate("github", "new", 0.0)).secrets == (SourceSecret("new"),)

    async def test_a_fifth_secret_ends_the_oldest(self, stage: Stage, store: SourceStore) -> None:
        await store.create(github("github", "1"))
        for number in range(2, 7):
            await store.rotate("github", str(number), HOUR)
        assert store.get("github").secrets_at(stage.clock.now()) == ("6", "5", "4", "3")

    async def test_another_rotation_does_not_let_an_old_secret_verify_longer(
        self, stage: Stage, store: SourceStore
    ) -> None:
        await store.create(github("github", "1"))
        await store.rotate("github", "2", HOUR)
        await store.rotate("github", "3", 2 * HOUR)
        stage.clock.advance(HOUR)
        assert store.get("github").secrets_at(stage.clock.now()) == ("3", "2")

    async def test_expired_secrets_are_dropped_with_the_next_change(self, stage: Stage, store: SourceStore) -> None:
        await store.create(github("github", "1"))
        await store.rotate("github", "2", HOUR)
        stage.clock.advance(HOUR)
        changed = await store.update("github", labelled("a"), etag="")
        assert changed.secrets == (SourceSecret("2"),)

    async def test_a_secret_that_verifies_already_does_so_without_end_when_it_is_the_new_one(
        self, stage: Stage, store: SourceStore
    ) -> None:
        await store.create(github("github", "1"))
        await store.rotate("github", "2", HOUR)
        assert [one.secret for one in (await store.rotate("github", "1", HOUR)).secrets] == ["1", "2"]
        assert (await store.rotate("github", "1", HOUR)).secrets[0] == SourceSecret("1")


class TestFailingStorage:
    async def test_a_change_that_was_not_stored_has_no_effect(self, stage: Stage, store: SourceStore) -> None:
        made = await store.create(github())
        stage.engine.fail("settings.put", 1)
        with pytest.raises(Unavailable):
            await store.update("github", labelled("a"), etag="")
        assert store.get("github") == made

    async def test_a_change_whose_answer_was_lost_can_be_made_again(self, stage: Stage, store: SourceStore) -> None:
        await store.create(github())
        stage.engine.lose_answer("settings.put")
        with pytest.raises(Unavailable):
            await store.update("github", labelled("a"), etag="")
        await store.update("github", labelled("b"), etag="")
        assert store.get("github").labels == (("label", "b"),)
        async with stage.started() as again:
            assert again.get("github") == store.get("github")

    async def test_a_creation_whose_answer_was_lost_is_there_when_it_is_repeated(
        self, stage: Stage, store: SourceStore
    ) -> None:
        stage.engine.lose_answer("settings.put")
        with pytest.raises(Unavailable):
            await store.create(github("github", "first"))
        with pytest.raises(AlreadyExists):
            await store.create(github("github", "second"))
        assert store.get("github").secrets == (SourceSecret("first"),)

    async def test_a_deletion_whose_answer_was_lost_is_made_when_it_is_repeated(
        self, stage: Stage, store: SourceStore
    ) -> None:
        await store.create(github())
        stage.engine.lose_answer("settings.delete")
        with pytest.raises(Unavailable):
            await store.delete("github", etag="")
        with pytest.raises(NotFound):
            await store.delete("github", etag="")
        assert store.find("github") is None

    async def test_a_caller_that_goes_away_leaves_no_change_half_made(self, stage: Stage, store: SourceStore) -> None:
        gate = stage.engine.hold("settings.put")
        async with asyncio.TaskGroup() as tasks:
            creating = tasks.create_task(store.create(github()))
            for _ in range(20):
                await asyncio.sleep(0)
            assert stage.engine.calls["settings.put"] == 1
            creating.cancel()
            gate.set()
        await store.update("github", labelled("a"), etag="")
        document = await stage.engine.settings.get(key_of("github"))
        assert document is not None
        assert read_document(document) == store.get("github")

"""Rejected payloads: kept within bounds at every moment, found by page, and never in the way of an answer."""

from __future__ import annotations

from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from certes_broker.broker.janitor import Retention
from certes_broker.broker.paging import make_token
from certes_broker.broker.rejected_payloads import UNVERIFIED_AT_ONCE, RejectedBounds, RejectedPayloads
from certes_broker.domain.errors import Invalid, NotFound, Reason
from certes_broker.domain.events import Original
from certes_broker.engines.memory import MemoryEngine
from tests.fakes.broker_world import DAY, SETTINGS, World
from tests.fakes.manual_clock import ManualClock
from tests.fakes.troubled_engine import TroubledEngine

REFUSAL = Invalid(Reason.PAYLOAD_UNMAPPABLE, "no event type is known")
PLENTY = 1 << 30


def payload(body: bytes = b"{}") -> Original:
    return Original("application/json", (), body)


class Stage:
    def __init__(self, bounds: RejectedBounds) -> None:
        self.clock = ManualClock()
        self.engine = TroubledEngine(MemoryEngine(self.clock))
        self.rejected = RejectedPayloads(self.engine.rejections, self.clock, bounds)

    async def sizes(self) -> list[int]:
        return [one.body_bytes for one in await self.engine.rejections.list("github", None, PLENTY)]


@pytest.fixture
def stage() -> Stage:
    return Stage(RejectedBounds())


async def test_a_payload_is_kept_with_why_and_when_it_was_refused(stage: Stage) -> None:
    await stage.rejected.keep("github", REFUSAL, payload(), verified=True)
    (listed,) = (await stage.rejected.list("github", page_size=10, page_token="")).rejected
    kept = await stage.rejected.get("github", listed.number)
    assert (kept.source, kept.time, kept.verified) == ("github", stage.clock.now(), True)
    assert (kept.reason, kept.message) == ("PAYLOAD_UNMAPPABLE", "no event type is known")
    assert (kept.payload, kept.summary) == (payload(), listed)


async def test_a_message_is_kept_cut_and_as_text(stage: Stage) -> None:
    await stage.rejected.keep("github", Invalid(Reason.FIELD_INVALID, "\ud800" + "x" * 9_999), payload(), verified=True)
    (kept,) = (await stage.rejected.list("github", page_size=10, page_token="")).rejected
    assert kept.message.startswith("?xxx")
    assert len(kept.message) == 1_024


async def test_a_page_goes_on_where_the_one_before_ended(stage: Stage) -> None:
    for size in range(1, 6):
        await stage.rejected.keep("github", REFUSAL, payload(b"x" * size), verified=True)
    seen, token = [], ""
    for _ in range(3):
        page = await stage.rejected.list("github", page_size=2, page_token=token)
        seen.append([one.body_bytes for one in page.rejected])
        token = page.next_page_token
    assert seen == [[5, 4], [3, 2], [1]]
    assert token == ""


async def test_a_token_of_another_source_s_list_is_refused(stage: Stage) -> None:
    for _ in range(2):
        await stage.rejected.keep("github", REFUSAL, payload(), verified=True)
    page = await stage.rejected.list("github", page_size=1, page_token="")
    with pytest.raises(Invalid) as refusal:
        await stage.rejected.list("stripe", page_size=1, page_token=page.next_page_token)
    assert refusal.value.reason is Reason.PAGE_TOKEN_INVALID


@pytest.mark.parametrize("after", ["x", "0", "-1", "٣", "1" * 5_000])
async def test_a_token_that_names_no_payload_is_refused(stage: Stage, after: str) -> None:
    with pytest.raises(Invalid) as refusal:
        await stage.rejected.list("github", page_size=1, page_token=make_token(after, "github"))
    assert refusal.value.reason is Reason.PAGE_TOKEN_INVALID


async def test_a_page_is_never_larger_than_any_client_takes(stage: Stage) -> None:
    large = Original("", (("x-note", "x" * 8_000),), b"")
    for _ in range(600):
        await stage.rejected.keep("github", REFUSAL, large, verified=True)
    page = await stage.rejected.list("github", page_size=1_000, page_token="")
    assert 200 < len(page.rejected) < 300
    rest = await stage.rejected.list("github", page_size=1_000, page_token=page.next_page_token)
    assert rest.rejected[0].number == page.rejected[-1].number - 1


async def test_what_is_not_kept_is_not_found(stage: Stage) -> None:
    with pytest.raises(NotFound) as refusal:
        await stage.rejected.get("github", 1)
    assert refusal.value.reason is Reason.REJECTED_NOT_FOUND
    assert refusal.value.metadata == {"name": "sources/github/rejected/1"}


async def test_a_flood_goes_over_no_bound_by_more_than_a_quarter(stage: Stage) -> None:
    stage = Stage(RejectedBounds(unverified=100))
    for size in range(1_000):
        stage.clock.advance(1)
        await stage.rejected.keep("github", REFUSAL, payload(b"x" * size), verified=False)
        assert len(await stage.sizes()) <= 125
    assert (await stage.sizes())[0] == 999
    stage = Stage(RejectedBounds(bytes=1_000))
    for _ in range(200):
        await stage.rejected.keep("github", REFUSAL, payload(b"x" * 50), verified=True)
        assert sum(await stage.sizes()) <= 1_250


async def test_what_nobody_vouches_for_is_kept_no_faster_than_a_provider_would_send_it(stage: Stage) -> None:
    async def flood(count: int, *, source: str = "github", verified: bool = False) -> int:
        before = len(await stage.engine.rejections.list(source, None, PLENTY))
        for _ in range(count):
            await stage.rejected.keep(source, REFUSAL, payload(), verified=verified)
        return len(await stage.engine.rejections.list(source, None, PLENTY)) - before

    assert await flood(500) == UNVERIFIED_AT_ONCE
    assert await flood(50, verified=True) == 50
    assert await flood(50, source="stripe") == 50
    stage.clock.advance(1)
    assert await flood(500) == 10


async def test_what_nobody_vouches_for_takes_no_more_of_storage_than_so_many_bytes_a_second(stage: Stage) -> None:
    for number in range(50):
        await stage.rejected.keep(f"source-{number}", REFUSAL, payload(b"x" * (1 << 20)), verified=False)
    assert len([1 for number in range(50) if await stage.engine.rejections.list(f"source-{number}", None, 1)]) == 16


async def test_losses_are_logged_now_and_then(stage: Stage) -> None:
    with capture_logs() as logs:
        for _ in range(50):
            stage.rejected.lose("github", REFUSAL, "too many at once")
        stage.clock.advance(10)
        stage.rejected.lose("github", REFUSAL, "too many at once")
    assert [line["count"] for line in logs] == [1, 50]


async def test_storage_that_fails_costs_the_payload_and_nobody_an_answer(stage: Stage) -> None:
    for call in ("rejections.keep", "rejections.trim"):
        stage = Stage(RejectedBounds(unverified=1))
        stage.engine.fail(call, 1)
        await stage.rejected.keep("github", REFUSAL, payload(), verified=False)
    stage.engine.fail("rejections.keep", 1, by_fault=True)
    await stage.rejected.keep("github", REFUSAL, payload(), verified=False)


async def test_the_janitor_lets_go_of_what_is_past_its_time(world: World) -> None:
    retention = Retention(age=DAY, size=1 << 30, dedupe_window=DAY, rejected=RejectedBounds(age=100.0))
    world.settings = replace(SETTINGS, retention=retention)
    await world.restart()
    await world.broker.rejected.keep("github", REFUSAL, payload(b"x"), verified=True)
    await world.advance(60)
    await world.broker.rejected.keep("github", REFUSAL, payload(b"xx"), verified=True)
    await world.advance(60)
    page = await world.broker.rejected.list("github", page_size=10, page_token="")
    assert [one.body_bytes for one in page.rejected] == [2]

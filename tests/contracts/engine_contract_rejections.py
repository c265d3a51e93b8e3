"""What every engine promises of its log of rejected payloads."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from certes_broker.domain.events import Micros, Original
from certes_broker.ports.engine import Engine, Rejected
from tests.contracts.engine_harness import PLENTY, START, EngineTests

A = "github"
B = "stripe"
LONG_AGO = Micros(0)


def payload(body: bytes = b'{"zen": "\xff\0"}') -> Original:
    return Original("application/json; charset=utf-8", (("x-github-event", "ping"), ("x-note", "é")), body)


def rejected(body: bytes = b"{}", source: str = A, *, verified: bool = True, time: int = START) -> Rejected:
    return Rejected(
        source,
        Micros(time),
        "PAYLOAD_UNMAPPABLE",
        "no event type is known – 'é'",
        verified,
        Original("text/x", (), body),
    )


async def numbers(engine: Engine, source: str = A) -> Sequence[int]:
    return [one.number for one in await engine.rejections.list(source, None, 1_000)]


class RejectionsContract(EngineTests):
    async def test_a_payload_is_read_as_it_was_kept(self, engine: Engine) -> None:
        for verified in (True, False):
            kept = replace(rejected(verified=verified), payload=payload())
            number = await engine.rejections.keep(kept)
            assert number > 0
            found = replace(kept, number=number)
            assert await engine.rejections.get(A, number) == found
            assert list(await engine.rejections.list(A, number + 1, 1)) == [found.summary]

    async def test_payloads_are_listed_newest_first(self, engine: Engine) -> None:
        first = await engine.rejections.keep(rejected(b"1"))
        await engine.rejections.keep(rejected(b"other", B))
        second = await engine.rejections.keep(rejected(b"2" * 2))
        third = await engine.rejections.keep(rejected(b"3" * 3))
        assert first < second < third
        listed = await engine.rejections.list(A, None, 10)
        assert [(one.number, one.body_bytes) for one in listed] == [(third, 3), (second, 2), (first, 1)]
        assert [one.number for one in await engine.rejections.list(A, None, 2)] == [third, second]
        assert [one.number for one in await engine.rejections.list(A, third, 1)] == [second]
        assert list(await engine.rejections.list(A, first, 10)) == []
        assert list(await engine.rejections.list("none", None, 10)) == []

    async def test_another_source_s_payload_is_not_found(self, engine: Engine) -> None:
        number = await engine.rejections.keep(rejected())
        assert await engine.rejections.get(B, number) is None
        assert await engine.rejections.get(A, number + 1) is None

    async def test_payloads_kept_at_once_all_have_numbers_of_their_own(self, engine: Engine) -> None:
        given = await asyncio.gather(*(engine.rejections.keep(rejected(b"%d" % index)) for index in range(200)))
        assert len(set(given)) == 200
        for index, number in enumerate(given):
            found = await engine.rejections.get(A, number)
            assert found is not None
            assert found.payload.body == b"%d" % index

    async def test_a_payload_that_was_forgotten_is_gone_and_may_be_forgotten_again(self, engine: Engine) -> None:
        kept = [await engine.rejections.keep(rejected()) for _ in range(3)]
        await engine.rejections.forget(B, kept[1])
        assert await numbers(engine) == kept[::-1]
        await engine.rejections.forget(A, kept[1])
        await engine.rejections.forget(A, kept[1])
        assert await numbers(engine) == [kept[2], kept[0]]

    async def test_all_of_a_source_can_be_forgotten(self, engine: Engine) -> None:
        await asyncio.gather(*(engine.rejections.keep(rejected(verified=index % 2 == 0)) for index in range(600)))
        other = await engine.rejections.keep(rejected(source=B))
        await engine.rejections.forget(A, None)
        assert await numbers(engine) == []
        assert await numbers(engine, B) == [other]

    async def test_a_number_is_not_given_again(self, engine: Engine) -> None:
        first = await engine.rejections.keep(rejected())
        await engine.rejections.forget(A, None)
        assert await engine.rejections.keep(rejected()) > first

    async def test_trimming_forgets_what_came_before_a_time(self, engine: Engine) -> None:
        kept = [await engine.rejections.keep(rejected(time=START + index)) for index in range(600)]
        await engine.rejections.trim(Micros(START + 590), PLENTY, PLENTY)
        assert await numbers(engine) == kept[:-11:-1]

    async def test_trimming_leaves_what_fits_the_bound_of_bytes(self, engine: Engine) -> None:
        kept = [await engine.rejections.keep(rejected(b"x" * 100, source)) for source in (A, B, A, B, A)]
        await engine.rejections.trim(LONG_AGO, 500, PLENTY)
        assert await numbers(engine) == [kept[4], kept[2], kept[0]]
        await engine.rejections.trim(LONG_AGO, 300, PLENTY)
        assert (await numbers(engine), await numbers(engine, B)) == ([kept[4], kept[2]], [kept[3]])
        await engine.rejections.trim(LONG_AGO, 299, PLENTY)
        assert (await numbers(engine), await numbers(engine, B)) == ([kept[4]], [kept[3]])
        await engine.rejections.trim(LONG_AGO, 0, PLENTY)
        assert (await numbers(engine), await numbers(engine, B)) == ([], [])

    async def test_headers_count_as_bytes(self, engine: Engine) -> None:
        headers = (("name", "value"),)
        await engine.rejections.keep(replace(rejected(), payload=Original("", headers, b"")))
        await engine.rejections.trim(LONG_AGO, 9, PLENTY)
        assert len(await numbers(engine)) == 1
        await engine.rejections.trim(LONG_AGO, 8, PLENTY)
        assert await numbers(engine) == []

    async def test_each_source_keeps_its_newest_unverified_payloads_and_all_verified_ones(self, engine: Engine) -> None:
        kept = [await engine.rejections.keep(rejected(verified=index % 2 == 0)) for index in range(10)]
        others = [await engine.rejections.keep(rejected(source=B, verified=False)) for _ in range(2)]
        await engine.rejections.trim(LONG_AGO, PLENTY, 2)
        assert await numbers(engine) == [kept[index] for index in (9, 8, 7, 6, 4, 2, 0)]
        assert await numbers(engine, B) == others[::-1]
        await engine.rejections.trim(LONG_AGO, PLENTY, 0)
        assert await numbers(engine) == [kept[index] for index in (8, 6, 4, 2, 0)]
        assert await numbers(engine, B) == []

    async def test_what_strangers_sent_goes_before_anything_that_is_verified(self, engine: Engine) -> None:
        old = await engine.rejections.keep(rejected(b"x" * 100))
        for _ in range(600):
            await engine.rejections.keep(rejected(b"x" * 10, B, verified=False))
        new = await engine.rejections.keep(rejected(b"x" * 100))
        await engine.rejections.trim(LONG_AGO, 210, PLENTY)
        assert await numbers(engine) == [new, old]
        assert len(await numbers(engine, B)) == 1

    async def test_what_is_forgotten_or_trimmed_no_longer_counts(self, engine: Engine) -> None:
        for index in range(20):
            await engine.rejections.keep(rejected(b"x" * 100, verified=index % 2 == 0))
        await engine.rejections.trim(LONG_AGO, PLENTY, 3)
        await engine.rejections.forget(A, None)
        kept = [await engine.rejections.keep(rejected(b"x" * 100, verified=False)) for _ in range(3)]
        await engine.rejections.trim(LONG_AGO, 300, 3)
        assert await numbers(engine) == kept[::-1]

"""SIGHUP makes a running broker take over its sources, if they are sound."""

from __future__ import annotations

import asyncio

import httpx

from tests.acceptance import github
from tests.acceptance.conftest import StartBroker

BODY = b'{"zen": "Half measures are as bad as nothing at all."}'


async def until_answered(http: httpx.AsyncClient, url: str, headers: dict[str, str], status: int) -> httpx.Response:
    """Posts until the answer is this one."""
    async with asyncio.timeout(50):
        while (answer := await http.post(url, content=BODY, headers=headers)).status_code != status:
            pass
    return answer


async def test_a_hang_up_adds_renews_and_removes_sources_while_the_broker_serves(start_broker: StartBroker) -> None:
    broker = start_broker(github.source("first", "old secret") + github.source("leaving"))
    config = broker.data_dir.with_name("broker.toml")
    old, new = github.signed("ping", BODY, secret="old secret"), github.signed("ping", BODY, secret="new secret")
    first, added, leaving = (github.url(broker, name) for name in ("first", "added", "leaving"))
    async with github.http() as http:
        assert (await http.post(first, content=BODY, headers=old)).status_code == 202
        assert (await http.post(added, content=BODY, headers=new)).status_code == 404
        config.write_text(github.source("first", "new secret") + github.source("added", "new secret"))
        broker.hang_up()
        await until_answered(http, added, new, 202)
        assert (await http.post(first, content=BODY, headers=new)).status_code == 202
        assert (await http.post(first, content=BODY, headers=old)).status_code == 401
        gone = await http.post(leaving, content=BODY, headers=github.signed("ping", BODY))
        assert (gone.status_code, gone.json()["error"]["reason"]) == (404, "SOURCE_NOT_FOUND")


async def test_a_broken_file_is_refused_and_the_sources_stay_as_they_were(start_broker: StartBroker) -> None:
    broker = start_broker()
    config = broker.data_dir.with_name("broker.toml")
    config.write_text('[[sources]]\nname = "github"\nprovider = "gitbub"\n')
    async with github.http() as http, asyncio.timeout(50):
        broker.hang_up()
        while "reload_refused" not in broker.log:
            await http.get(f"http://{broker.http}/healthz")
        answer = await http.post(github.url(broker), content=BODY, headers=github.signed("ping", BODY))
    assert answer.status_code == 202
    assert "gitbub" in broker.log

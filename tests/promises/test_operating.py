"""Operating a broker.

A broker that is told to stop ends what is under way. Its sources are renewed while it serves, and a file with a mistake changes nothing. It
does not start where others could reach it unprotected, nor with a setting that cannot be meant. What it keeps can be moved to NATS.
"""

from __future__ import annotations

import asyncio
import base64
import re
import subprocess
from pathlib import Path

import httpx
import pytest

from scripts.broker_process import BrokerFailed, BrokerProcess
from tests.acceptance import github
from tests.acceptance.client import closing_reason, connected, event, receive_all
from tests.acceptance.conftest import StartBroker
from tests.acceptance.receiver import receiving
from tests.acceptance.retries import ONCE, SOON_AND_OFTEN
from tests.command import certes
from tests.fakes.nats_servers import running

BODY = b'{"zen": "Half measures are as bad as nothing at all."}'
EVENTS = 120
SETTLED = 40
KEY = base64.b64encode(b"a key of thirty-two bytes, it is").decode()
ENCRYPTED = f'{github.CONFIG}\n[secrets]\nkeys = "{KEY}"\n'


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


async def test_a_webhook_under_way_is_waited_for_and_not_sent_again(broker: BrokerProcess) -> None:
    async with connected(broker) as client, receiving() as receiver:
        receiver.status = None
        await client.create_webhook("slow", receiver.url)
        call = client.subscribe(await client.create_stream("witness", pattern="community.certes.dev/github/1/push"))
        assert (await call.read()).HasField("opened")
        await client.publish([event("one")])
        await receiver.until(lambda: len(receiver.requests) == 1)
        async with asyncio.TaskGroup() as tasks:
            stopping = tasks.create_task(asyncio.to_thread(broker.terminate))
            assert closing_reason(await call.read()) == "REASON_DRAINING"
            receiver.status = 204
            receiver.answer_all()
            assert await stopping == 0
        await asyncio.to_thread(broker.start)
        await client.publish([event("two")])
        await receiver.until(lambda: len(receiver.taken) >= 1)
    assert [request.event_id for request in receiver.requests] == ["one", "two"]


def test_a_broker_that_others_could_reach_unprotected_does_not_start(tmp_path: Path) -> None:
    broker = BrokerProcess(tmp_path / "broker", dev=False, http="0.0.0.0:0")
    with pytest.raises(BrokerFailed, match="allow_insecure"):
        broker.start()


def test_every_setting_that_cannot_be_meant_keeps_it_from_starting_and_no_secret_is_repeated(tmp_path: Path) -> None:
    config = tmp_path / "broker.toml"
    config.write_text('[limits]\nevent_byte = "1MiB"\n[auth]\noperator_key = "geheim"\n[log]\nlevel = "loud"\n')
    broker = BrokerProcess(tmp_path / "broker", config=config)
    with pytest.raises(BrokerFailed):
        broker.start()
    for place in ("broker.toml:2:1", "broker.toml:4:1", "broker.toml:6:1"):
        assert place in broker.log
    assert "geheim" not in broker.log


async def test_no_webhook_reaches_an_address_that_is_nobodys_business(tmp_path: Path) -> None:
    with BrokerProcess(tmp_path / "broker", dev=False).start() as broker:
        async with connected(broker) as client, receiving() as receiver:
            port = receiver.url.rpartition(":")[2]
            names = [
                await client.create_webhook(f"hook-{number}", f"http://{spelt}:{port}", retry_policy=ONCE)
                for number, spelt in enumerate(("127.0.0.1", "localhost", "127.1", "[::ffff:127.0.0.1]"))
            ]
            await client.publish([event("secret")])
            for name in names:
                [attempt] = await client.attempts(name, 1)
                assert attempt.status == 0
    assert receiver.requests == []


async def test_a_redirect_is_a_failure_and_not_followed(broker: BrokerProcess) -> None:
    async with connected(broker) as client, receiving() as receiver, receiving() as elsewhere:
        receiver.status, receiver.headers = 307, {"Location": elsewhere.url}
        name = await client.create_webhook("hook", receiver.url, retry_policy=ONCE)
        await client.publish([event("secret")])
        [attempt] = await client.attempts(name, 1)
        assert attempt.status == 307
    assert elsewhere.requests == []


async def test_what_was_owed_is_delivered_from_nats_in_order_and_what_was_settled_is_not(tmp_path: Path) -> None:
    published = [event(f"k:{number}", key="k") for number in range(EVENTS)]
    config = tmp_path / "certes.toml"
    config.write_text(ENCRYPTED)
    with running(tmp_path / "nats") as cluster, BrokerProcess(tmp_path / "data", config=config) as broker:
        url = cluster.servers[0].url
        broker.start()
        async with receiving() as receiver:
            receiver.status = 503
            async with connected(broker) as client:
                name = await client.create_stream("app")
                await client.create_webhook("hook", receiver.url, retry_policy=SOON_AND_OFTEN)
                await client.publish(published[:SETTLED])
                came = await receive_all(client, name, {one.id for one in published[:SETTLED]})
                assert len(came) == SETTLED
                await client.publish(published[SETTLED:])
                await receiver.until(lambda: len(receiver.requests) >= 3)
            refused = await migrate(broker.data_dir, url, config)
            assert refused.returncode != 0
            assert "Stop that broker" in refused.stderr
            await asyncio.to_thread(broker.terminate)
            moved = await migrate(broker.data_dir, url, config)
            assert moved.returncode == 0, moved.stderr
            counted = re.search(r"(\d+) events, 2 subscriptions", moved.stdout)
            assert counted, moved.stdout
            # What the broker itself tells of an endpoint that fails may be among them.
            assert int(counted[1]) >= EVENTS
            again = await migrate(broker.data_dir, url, config)
            assert again.returncode != 0
            assert "was finished" in again.stderr

            receiver.status = 204
            config.write_text(f'engine = "{url}"\n{ENCRYPTED}')
            with BrokerProcess(tmp_path / "other", config=config) as other:
                other.start()
                async with connected(other) as client:
                    came = await receive_all(client, name, {one.id for one in published[SETTLED:]})
                    assert came == [one.id for one in published[SETTLED:]]
                    (result,) = await client.publish(published[:1])
                    assert result.duplicate
                    await receiver.until(lambda: len(receiver.taken) >= EVENTS)
                    assert [one.event_id for one in receiver.taken] == [one.id for one in published]


async def migrate(data_dir: Path, url: str, config: Path) -> subprocess.CompletedProcess[str]:
    # In a thread: the receiver must go on answering, or what it is asked now is answered once it takes everything.
    words = ["migrate", "--from", f"sqlite:{data_dir}", "--to", url, "--config", str(config)]
    return await asyncio.to_thread(certes, *words, timeout=120)

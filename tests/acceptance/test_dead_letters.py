"""Dead letters of the real process: they survive a crash, and are listed, replayed and purged with the command."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

from google.protobuf.duration_pb2 import Duration

from certes.v1 import subscription_pb2 as resources
from scripts.broker_process import ROOT, BrokerProcess
from tests.acceptance.client import connected, event
from tests.acceptance.receiver import receiving

ONCE = resources.RetryPolicy(schedule=resources.ScheduleBackoff(delays=[Duration()]), max_attempts=1)
LETTERS = 5
PATIENCE = 60


async def certes(broker: BrokerProcess, *words: str) -> tuple[int, str]:
    surroundings = {name: value for name, value in os.environ.items() if not name.startswith("CERTES_")}
    paths = os.pathsep.join([str(ROOT), str(ROOT / "generated")])
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "certes_broker",
        *words,
        env=surroundings | {"PYTHONPATH": paths, "CERTES_BROKER": broker.http},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert process.returncode is not None
    return process.returncode, output.decode()


async def listed(broker: BrokerProcess, *words: str) -> list[dict[str, Any]]:
    code, output = await certes(broker, "dead-letters", "list", "hook", *words, "--json")
    assert code == 0
    found: list[dict[str, Any]] = json.loads(output)
    return found


async def test_dead_letters_survive_a_crash_and_go_when_their_replay_is_settled(broker: BrokerProcess) -> None:
    async with receiving() as receiver:
        async with connected(broker) as client:
            await client.create_webhook("hook", receiver.url, retry_policy=ONCE)
            receiver.status = 500
            await client.publish([event(f"e{number}") for number in range(LETTERS)])
            await receiver.until(lambda: len(receiver.requests) == LETTERS)
            async with asyncio.timeout(PATIENCE):
                while len(await listed(broker)) < LETTERS:
                    """The last answers are being written."""
        broker.kill9()
        broker.start()
        letters = await listed(broker, "--reason", "attempts-exhausted")
        assert [one["eventId"] for one in letters] == [f"e{number}" for number in range(LETTERS)]
        code, output = await certes(broker, "dead-letters", "get", "hook", letters[0]["name"], "--json")
        assert (code, json.loads(output)["event"]["id"]) == (0, "e0")
        assert [one["status"] for one in json.loads(output)["attempts"]] == [500]

        code, output = await certes(broker, "dead-letters", "replay", "hook", "--all", "--wait", "--json")
        assert (code, json.loads(output)["replayedCount"], json.loads(output)["deadAgain"]) == (1, LETTERS, LETTERS)
        code, _ = await certes(broker, "dead-letters", "purge", "hook", letters[0]["name"], "--yes")
        assert code == 0
        receiver.status = 204
        code, output = await certes(broker, "dead-letters", "replay", "hook", "--all", "--wait")
        assert (code, await listed(broker)) == (0, []), output
        assert sorted(one.event_id for one in receiver.taken) == [f"e{number}" for number in range(1, LETTERS)]

        code, _ = await certes(broker, "redeliver", letters[0]["event"], "hook")
        assert code == 0
        await receiver.until(lambda: len(receiver.taken) == LETTERS)
        code, output = await certes(broker, "deliveries", "attempts", "hook", "--event", letters[0]["event"], "--json")
        assert code == 0
        assert {one["number"] for one in json.loads(output)} == {1}

"""A broker's data is moved from SQLite to NATS by the command, and served from there."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import subprocess
import sys
from pathlib import Path

from scripts.broker_process import ROOT, BrokerProcess
from tests.acceptance import github
from tests.acceptance.client import connected, event, receive_all
from tests.acceptance.receiver import receiving
from tests.acceptance.test_receivers import SOON_AND_OFTEN
from tests.fakes.nats_servers import running

EVENTS = 120
SETTLED = 40


KEY = base64.b64encode(b"a key of thirty-two bytes, it is").decode()
CONFIG = f'{github.CONFIG}\n[secrets]\nkeys = "{KEY}"\n'


async def migrate(data_dir: Path, url: str, config: Path) -> subprocess.CompletedProcess[str]:
    # In a thread: the receiver must go on answering, or what it is asked now is answered once it takes everything.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("CERTES_")}
    environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "generated")])
    command = [sys.executable, "-m", "certes_broker", "migrate", "--from", f"sqlite:{data_dir}", "--to", url]
    command += ["--config", str(config)]
    return await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, env=environ, timeout=120, check=False
    )


async def test_what_was_owed_is_delivered_from_nats_in_order_and_what_was_settled_is_not(tmp_path: Path) -> None:
    published = [event(f"k:{number}", key="k") for number in range(EVENTS)]
    config = tmp_path / "certes.toml"
    config.write_text(CONFIG)
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
            config.write_text(f'engine = "{url}"\n{CONFIG}')
            with BrokerProcess(tmp_path / "other", config=config) as other:
                other.start()
                async with connected(other) as client:
                    came = await receive_all(client, name, {one.id for one in published[SETTLED:]})
                    assert came == [one.id for one in published[SETTLED:]]
                    (result,) = await client.publish(published[:1])
                    assert result.duplicate
                    await receiver.until(lambda: len(receiver.taken) >= EVENTS)
                    assert [one.event_id for one in receiver.taken] == [one.id for one in published]

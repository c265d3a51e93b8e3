"""Does with the SDK what its first argument, a JSON document, says, and prints a JSON document a line of what happens.

`publish`: pings of several keys, `window` calls under way, in the order of their numbers. `stream` and `webhook`: handles
what matches `pattern`; the first `fail_first` times that an event comes, its handler fails.
"""

import asyncio
import json
import signal
import sys
from collections import Counter

import uvicorn

import certes_sdk as certes
from certes_contrib import github as gh

SETTINGS = json.loads(sys.argv[1])
COME: Counter[str] = Counter()


def say(**what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


async def handle(raw: certes.RawEvent) -> None:
    event = raw.to(gh.PingEvent)
    COME[raw.id] += 1
    fails = COME[raw.id] <= SETTINGS.get("fail_first", 0)
    say(got=raw.id, zen=event.zen, key=raw.ordering_key, attempt=raw.attempt, failed=fails)
    if fails:
        raise RuntimeError(f"not yet: {raw.id}")


async def publish() -> None:
    room = asyncio.Semaphore(SETTINGS["window"])

    async def send(event_id: str, key: str) -> None:
        receipt = await certes.publish(
            gh.PingEvent(zen=f"zen of {event_id}"), everyone=True, id=event_id, ordering_key=key
        )
        say(accepted=receipt.id, duplicate=receipt.duplicate)
        room.release()

    async with asyncio.TaskGroup() as calls:
        for number in range(1, SETTINGS["events"] + 1):
            for key in SETTINGS["keys"]:
                await room.acquire()
                calls.create_task(send(f"{key}:{number}", key))
    await certes.close()
    say(done=True)


async def subscribe() -> None:
    await certes.ensure_subscriptions([certes.event(SETTINGS["pattern"])])
    say(ready=True)


async def stream() -> None:
    certes.on(SETTINGS["pattern"])(handle)
    await subscribe()
    await certes.run()
    say(closed=True)


async def webhook() -> None:
    certes.on(SETTINGS["pattern"])(handle)
    # Once it has stopped in order, uvicorn raises the signal again, for whoever wants to end by it.
    signal.signal(signal.SIGTERM, lambda *_: None)
    config = uvicorn.Config(certes.asgi_handler(), host="127.0.0.1", port=SETTINGS["port"], log_level="warning")
    server = uvicorn.Server(config)
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(server.serve())
        await subscribe()
        await serving
    await certes.close()
    say(closed=True)


certes.init(
    SETTINGS["gateway"],
    app=SETTINGS["app"],
    subscriber=SETTINGS.get("subscriber"),
    callback_url=f"http://127.0.0.1:{SETTINGS['port']}/hook" if SETTINGS["mode"] == "webhook" else None,
)
asyncio.run({"publish": publish, "stream": stream, "webhook": webhook}[SETTINGS["mode"]]())

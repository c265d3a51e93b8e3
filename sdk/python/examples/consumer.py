"""Handles GitHub's pushes, as they come by the stream. Ends with SIGINT or SIGTERM, when what it began is done.

CERTES_APP=example python consumer.py events://127.0.0.1:9600
"""

import asyncio
import sys

import certes_sdk as certes
from certes.community.github.v1.push_event_pb2 import PushEvent

certes.init(sys.argv[1])


@certes.on("community.certes.dev/github/1/push")
async def push(raw: certes.RawEvent) -> None:
    """Reads the typed event."""
    event = raw.to(PushEvent)
    print(f"push to {event.ref}", flush=True)


async def main() -> None:
    """Subscribes, and handles until it is stopped."""
    await certes.ensure_subscriptions(certes.event("community.certes.dev/github/1/push"))
    print("subscribed", flush=True)
    await certes.run()


asyncio.run(main())

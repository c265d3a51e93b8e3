"""Tells subscriber org_123, and then everyone, of a push.

CERTES_APP=example-producer python producer.py events://127.0.0.1:9600 refs/heads/main
"""

import asyncio
import sys

import certes_sdk as certes
from certes.community.github.v1.push_event_pb2 import PushEvent


async def main(uri: str, ref: str) -> None:
    """Publishes two events; each call returns when its event is durable."""
    certes.init(uri)
    mine = await certes.send_outgoing_event("org_123", PushEvent(ref=ref), ordering_key="meetly/app")
    ours = await certes.publish(PushEvent(ref=ref), everyone=True, id=f"push-{ref}")
    print(f"stored {mine.id} and {ours.id}")
    await certes.close()


asyncio.run(main(sys.argv[1], sys.argv[2]))

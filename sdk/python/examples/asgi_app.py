"""Takes webhooks in a Starlette application. FastAPI is the same: `app.add_route("/hook", certes.asgi_handler())`.

CERTES_APP=example CERTES_CALLBACK_URL=http://127.0.0.1:8000/hook CERTES_GATEWAY=events://127.0.0.1:9600 \
        uvicorn asgi_app:app
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.routing import Route

import certes_sdk as certes
from certes.community.github.v1.push_event_pb2 import PushEvent

certes.init(os.environ["CERTES_GATEWAY"])


@certes.on("community.certes.dev/github/1/push")
async def push(raw: certes.RawEvent) -> None:
    """Reads the typed event."""
    print(f"push to {raw.to(PushEvent).ref}", flush=True)


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    """Subscribes when the server starts, and lets handlers end when it stops."""
    await certes.ensure_subscriptions(certes.event("community.certes.dev/github/1/push"))
    yield
    await certes.close()


app = Starlette(routes=[Route("/hook", certes.asgi_handler())], lifespan=lifespan)

import contextlib

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

import certes_sdk as certes
from certes_contrib import github as gh

certes.init("events://events.meetly.com")  # Meetly's event gateway, local or hosted by 3rd party


@certes.on("community.certes.dev/github/1/push")
async def push(raw: certes.RawEvent) -> None:
    event = raw.to(gh.PushEvent)
    print(f"Got GitHub push event: {event.ref} {event.repository.full_name}", flush=True)


async def subscribe(app: Starlette):
    await certes.ensure_subscriptions(
        [
            certes.event("community.certes.dev/github/1/push"),
            certes.event("community.certes.dev/github/1/issues", gh.Opts(repo="meetly/app")),
            certes.event("community.certes.dev/github/1/membership", gh.Opts(org="meetly")),
            certes.event("community.certes.dev/github/1/*", gh.Opts(repo="meetly/meetly")),
        ]
    )
    yield
    await certes.close()


app = Starlette(routes=[Mount("/", certes.asgi_handler())], lifespan=contextlib.asynccontextmanager(subscribe))

if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=8080, log_level="warning")

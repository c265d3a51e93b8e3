"""Webhooks: the vectors through ASGI and WSGI, keys that are fetched, and the servers that applications use."""

from __future__ import annotations

import asyncio
import io
import json
import threading
from base64 import b64decode, b64encode
from datetime import datetime

import httpx
import pytest
from fastapi import FastAPI
from flask import Flask
from starlette.applications import Starlette
from starlette.routing import Route
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from certes.community.github.v1.push_event_pb2 import PushEvent
from certes_sdk import Client
from certes_sdk.loop_thread import LOOP_THREAD
from certes_sdk.webhooks import MAXIMUM_BODY_BYTES
from tests.fakes.sdk_broker import PUSH, Refusal
from tests.fakes.sdk_clock import ManualClock
from tests.fakes.sdk_vectors import body_of, vectors
from tests.fakes.sdk_waiting import until
from tests.fakes.sdk_webhook_signer import SECRET, signed

VECTORS = vectors("webhooks")
EVENT = json.dumps(
    {"specversion": "1.0", "id": "1", "source": "s", "type": PUSH, "everyone": True, "data": {"ref": "r"}}
).encode()


class Application:
    """A client with given keys, whose handlers return, raise, or are not there."""

    def __init__(self, handler: str) -> None:
        client = Client("events://events.example.com", webhook_keys=VECTORS["keys"])
        self.client = client._with(clock=ManualClock(wall=VECTORS["now"]))
        self.events = []
        if handler != "none":
            for pattern in ("community.certes.dev/**", "d.example/**"):
                self.client.on(pattern)(self.returns if handler == "returns" else self.raises)

    async def returns(self, raw):
        self.events.append(raw)

    async def raises(self, raw):
        self.events.append(raw)
        raise RuntimeError("it does not work")


def shown(raw):
    time = raw.time
    found = {
        "id": raw.id,
        "type": raw.type,
        "source": raw.source,
        "subject": raw.subject,
        "time": time and time.isoformat(),
        "subscriber": raw.subscriber,
        "everyone": raw.everyone,
        "ordering_key": raw.ordering_key,
        "attributes": raw.attributes,
        "traceparent": raw.traceparent,
        "tracestate": raw.tracestate,
        "content_type": raw.content_type,
        "data": json.loads(raw.content) if raw.content_type == "application/json" else None,
    }
    return found | ({} if raw.content_type == "application/json" else {"bytes_base64": b64encode(raw.content).decode()})


def check(vector, application: Application, status: int, headers, body: bytes) -> None:
    assert status == vector["status"]
    assert dict(vector.get("answer_headers", {})).items() <= dict(headers).items()
    if status == 204:
        assert body == b""
    else:
        document = json.loads(body)
        assert document["message"]
        assert vector["reason"] is None or document["reason"] == vector["reason"]
    expect = vector["event"]
    if expect is None:
        assert application.events == []
        return
    expect = dict(expect)
    if expect["time"]:
        expect["time"] = datetime.fromisoformat(expect["time"]).isoformat()
    (raw,) = application.events
    assert shown(raw) == expect
    if "bytes_base64" not in expect:
        assert raw.to(PushEvent).ref == expect["data"]["ref"]
    else:
        assert raw.content == b64decode(expect["bytes_base64"])


def reason_ids(vector) -> str:
    return vector["why"]


@pytest.mark.parametrize("vector", VECTORS["requests"], ids=reason_ids)
async def test_a_webhook_is_answered_by_asgi(vector):
    application = Application(vector["handler"])
    transport = httpx.ASGITransport(application.client.asgi_handler())
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as http:
        request = http.build_request(vector["method"], "/hook", content=body_of(vector))
        request.headers = httpx.Headers([tuple(pair) for pair in vector["headers"]])
        answer = await http.send(request)
    check(vector, application, answer.status_code, answer.headers, answer.content)
    await application.client.close()


@pytest.mark.parametrize("vector", VECTORS["requests"], ids=reason_ids)
def test_a_webhook_is_answered_by_wsgi(vector):
    application = Application(vector["handler"])
    body = body_of(vector)
    environ = {"REQUEST_METHOD": vector["method"], "wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}
    for name, value in vector["headers"]:
        key = name.upper().replace("-", "_")
        environ["CONTENT_TYPE" if key == "CONTENT_TYPE" else f"HTTP_{key}"] = value
    started = []
    answer = application.client.wsgi_handler()(environ, lambda status, headers: started.append((status, headers)))
    check(vector, application, int(started[0][0][:3]), started[0][1], b"".join(answer))
    LOOP_THREAD.call(application.client.close)


async def post(app, body: bytes = EVENT, headers=None) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as http:
        return await http.post("/hook", content=body, headers=signed(body) if headers is None else headers)


@pytest.fixture
def seen(make_client, broker):
    """A client with a callback URL that notes what it handles."""
    client = make_client(callback_url="https://app.example.com/hook")
    client.seen = []
    broker.secrets = [SECRET]

    @client.on(PUSH)
    async def handle(raw):
        client.seen.append(raw.to(PushEvent).ref)

    return client


async def test_it_mounts_in_starlette(seen):
    answer = await post(Starlette(routes=[Route("/hook", seen.asgi_handler())]))
    assert (answer.status_code, seen.seen) == (204, ["r"])


async def test_it_mounts_in_fastapi(seen):
    app = FastAPI()
    app.add_route("/hook", seen.asgi_handler())
    answer = await post(app)
    assert (answer.status_code, seen.seen) == (204, ["r"])


def test_it_mounts_in_flask():
    client = Client("events://events.example.com", webhook_keys=[SECRET])
    seen = []
    client.on(PUSH)(lambda raw: seen.append(raw.to(PushEvent).ref))
    app = Flask(__name__)
    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/hook": client.wsgi_handler()})
    headers = signed(EVENT)
    assert app.test_client().post("/hook", data=EVENT, headers=headers).status_code == 204
    assert app.test_client().post("/hook", data=EVENT + b" ", headers=headers).status_code == 401
    assert app.test_client().get("/hook").status_code == 405
    assert seen == ["r"]
    LOOP_THREAD.call(client.close)


async def test_secrets_are_fetched_once_and_again_when_none_fits_but_not_within_ten_seconds(broker, make_client):
    clock = ManualClock()
    client = make_client(callback_url="https://app.example.com/hook", clock=clock)
    client.on(PUSH)(no_op)
    app = client.asgi_handler()
    broker.secrets = ["whsec_" + b64encode(b"o" * 32).decode()]

    async def status() -> int:
        return (await post(app, headers=signed(EVENT, now=clock.wall()))).status_code

    assert await status() == 401
    assert broker.secrets_asked == 1
    broker.secrets = [SECRET]
    clock.advance(9.9)
    assert await status() == 401
    assert broker.secrets_asked == 1
    clock.advance(0.2)
    assert await status() == 204
    assert broker.secrets_asked == 2
    clock.advance(299)
    assert await status() == 204
    assert broker.secrets_asked == 2
    clock.advance(2)
    assert await status() == 204
    assert broker.secrets_asked == 3


async def test_without_secrets_it_asks_the_broker_to_come_again_and_tells_strangers_nothing(
    broker, make_client, warnings
):
    broker.refusals = [Refusal("UNAVAILABLE", "DRAINING")]
    client = make_client(callback_url="https://app.example.com/hook")
    answer = await post(client.asgi_handler())
    assert (answer.status_code, answer.json()["reason"]) == (503, "SECRETS_UNAVAILABLE")
    assert "DRAINING" not in answer.text
    assert ["DRAINING" in warning for warning in warnings()] == [True]


async def test_a_closed_client_asks_the_broker_to_come_again(seen):
    app = seen.asgi_handler()
    assert (await post(app)).status_code == 204
    await seen.close()
    answer = await post(app)
    assert (answer.status_code, answer.json()["reason"]) == (503, "CLIENT_CLOSED")


async def test_a_body_that_is_too_large_is_not_read_to_its_end(seen):
    messages = iter(
        [{"type": "http.request", "body": b"x" * (MAXIMUM_BODY_BYTES // 2), "more_body": True} for _ in range(3)]
    )
    sent = []

    async def receive():
        return next(messages)

    async def send(message):
        sent.append(message)

    await seen.asgi_handler()({"type": "http", "method": "POST", "headers": []}, receive, send)
    assert sent[0]["status"] == 400
    assert json.loads(sent[1]["body"])["reason"] == "PAYLOAD_TOO_LARGE"
    assert next(messages, None) is None


async def test_a_sender_that_goes_away_is_not_answered(seen):
    async def receive():
        return {"type": "http.disconnect"}

    async def send(message):
        raise AssertionError(message)

    await seen.asgi_handler()({"type": "http", "method": "POST", "headers": []}, receive, send)


async def test_a_plain_function_may_block_while_other_webhooks_are_handled(broker, make_client):
    client = make_client(webhook_keys=[SECRET], app=None, source="x")
    both = threading.Barrier(2, timeout=10)
    client.on(PUSH)(lambda raw: both.wait())
    answers = await asyncio.gather(*[post(client.asgi_handler()) for _ in range(2)])
    assert [answer.status_code for answer in answers] == [204, 204]


async def test_run_with_a_callback_url_fetches_the_secrets_beforehand(broker, make_client):
    broker.secrets = [SECRET]
    client = make_client(callback_url="https://app.example.com/hook")
    run = asyncio.gather(client.run())
    await until(lambda: broker.secrets_asked)
    await client.close()
    await run
    assert broker.opened == 0


async def no_op(raw):
    pass


async def test_whoever_waits_for_a_handler_that_never_ends_is_answered_when_the_client_gives_up(broker, make_client):
    broker.secrets = [SECRET]
    client = make_client(callback_url="https://app.example.com/hook")
    begun = asyncio.Event()

    @client.on(PUSH)
    async def handle(raw):
        begun.set()
        await asyncio.Event().wait()

    request = asyncio.gather(post(client.asgi_handler()))
    await begun.wait()
    # As `close` does after its 30 s.
    await client.session()._background.end()
    [answer] = await request
    assert (answer.status_code, answer.json()["reason"]) == (503, "CLIENT_CLOSED")

"""The HTTP server itself: its bounds, who may talk to it, and what it says of itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import httpx
import pytest

from certes_broker.gateway.http.server import HttpServer
from certes_broker.gateway.http.settings import HttpSettings
from tests.contracts.http_gateway import PUSH, gateway, github_headers, refusal


async def raw(port: int, *parts: bytes) -> bytes:
    """Sends bytes as they are, and returns what comes until the connection ends."""
    reader, writer = await asyncio.open_connection("localhost", port)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:9600", "[::1]", "[::1]:9600"])
async def test_loopback_names_are_allowed_with_any_port(host):
    async with gateway() as served:
        assert (await served.client.get("/healthz", headers={"host": host})).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "localhost:9600:1", "localhost:", "localhost:x", "", "[::2]:9600"],
)
@pytest.mark.parametrize("path", ["/", "/events/github", "/events", "/api/certes.v1.EventService/ListEvents"])
async def test_a_gateway_that_is_called_by_another_name_answers_nothing(host, path):
    async with gateway() as served:
        answer = await served.client.post(path, headers={"host": host})
        assert refusal(answer) == (403, "HOST_NOT_ALLOWED")


async def test_a_request_with_two_hosts_or_none_is_refused():
    async with gateway() as served:
        for hosts in (b"host: localhost\r\nhost: localhost\r\n", b""):
            answer = await raw(served.port, b"GET / HTTP/1.1\r\nconnection: close\r\n" + hosts + b"\r\n")
            assert answer.startswith((b"HTTP/1.1 403 ", b"HTTP/1.1 400 "))


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "https://localhost.evil.example", "null", "file://localhost", ""]
)
async def test_a_web_page_of_another_origin_is_refused(origin):
    async with gateway() as served:
        body = json.dumps(PUSH).encode()
        answer = await served.client.post(
            "/events/github", content=body, headers=github_headers(body) | {"origin": origin}
        )
        assert refusal(answer) == (403, "ORIGIN_NOT_ALLOWED")


async def test_a_web_page_of_an_allowed_host_may_call():
    async with gateway(allowed_hosts=("localhost", "console.example.com:8443")) as served:
        for origin in ("http://localhost:3000", "https://console.example.com:8443"):
            assert (await served.client.get("/", headers={"origin": origin})).status_code == 200
        answer = await served.client.get("/", headers={"origin": "https://console.example.com"})
        assert refusal(answer) == (403, "ORIGIN_NOT_ALLOWED")


async def test_no_preflight_is_ever_granted():
    async with gateway() as served:
        answer = await served.client.options(
            "/events", headers={"origin": "http://localhost:3000", "access-control-request-method": "POST"}
        )
        assert answer.status_code == 405
        assert not [name for name in answer.headers if name.startswith("access-control-")]


async def test_the_health_document_says_what_serves_here():
    async with gateway() as served:
        answer = await served.client.get("/")
        assert answer.json() == {
            "service": "certes",
            "version": "1.2.3",
            "status": "ready",
            "unavailable": [],
            "discovery": "/.well-known/certes",
        }
        assert (await served.client.head("/")).status_code == 200


async def test_a_draining_broker_is_alive_and_not_ready():
    async with gateway() as served:
        assert (await served.client.get("/readyz")).status_code == 200
        await served.broker.drain()
        ready = await served.client.get("/readyz")
        assert (ready.status_code, ready.json()["unavailable"]) == (503, ["draining"])
        assert (await served.client.get("/healthz")).status_code == 200


async def test_discovery_names_the_grpc_address_under_the_name_by_which_the_gateway_was_found():
    async with gateway(grpc_address=":9601") as served:
        for host, address in (
            ("localhost:1", "localhost:9601"),
            ("[::1]", "[::1]:9601"),
            ("127.0.0.1", "127.0.0.1:9601"),
        ):
            answer = await served.client.get("/.well-known/certes", headers={"host": host})
            assert answer.json() == {
                "grpc": {"address": address, "tls": False, "clientCertificate": False},
                "protocolVersions": ["certes.v1"],
                "domain": "events.example.com",
                "domains": ["community.certes.dev", "events.example.com"],
            }


async def test_discovery_names_a_configured_grpc_address_as_it_is():
    async with gateway(grpc_address="grpc.example.com:443", grpc_tls=True, grpc_client_certificate=True) as served:
        answer = await served.client.get("/.well-known/certes")
        said = {"address": "grpc.example.com:443", "tls": True, "clientCertificate": True}
        assert answer.json()["grpc"] == said


async def test_a_path_that_is_not_there_is_not_found():
    async with gateway() as served:
        for path in ("/nothing", "/healthz/", "/apis", "/.well-known/"):
            assert refusal(await served.client.get(path)) == (404, "METHOD_NOT_FOUND")


async def test_other_methods_of_a_path_are_not_allowed():
    async with gateway() as served:
        for method, path, allowed in (("DELETE", "/", "GET, HEAD"), ("GET", "/events", "POST")):
            answer = await served.client.request(method, path)
            assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


async def test_answers_have_a_date_and_name_no_server():
    async with gateway() as served:
        headers = (await served.client.get("/")).headers
        assert headers["date"].endswith(" GMT")
        assert "server" not in headers


@pytest.mark.parametrize(
    "parts",
    [
        [b"GET / HTTP/1.1\r\nhost: localhost\r\nx: " + b"a" * 3000 + b"\r\n\r\n"],
        [b"GET / HTTP/1.1\r\nhost: localhost\r\n" + b"x: y\r\n" * 2000 + b"\r\n"],
        [b"GET / HTTP/1.1\r\nhost: localhost\r\nx: ", *[b"a" * 300] * 10],
        [b"GET /", *[b"a" * 300] * 10],
    ],
)
async def test_a_head_over_the_limit_ends_the_connection(parts):
    async with gateway(max_header_bytes=2000) as served:
        answer = await raw(served.port, *parts)
        assert answer.startswith(b"HTTP/1.1 431 ")


async def test_trailers_count_as_a_head_of_their_own_and_end_the_connection_too():
    async with gateway(max_header_bytes=2000) as served:
        head = b"POST /events/github HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        answer = await raw(
            served.port, head + b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n", b"x: y\r\n" * 2000 + b"\r\n"
        )
        assert answer.startswith(b"HTTP/1.1 431 ")


async def test_a_body_may_be_larger_than_a_head_in_one_read_or_many():
    async with gateway(max_header_bytes=1000) as served:
        for number in range(3):
            payload = PUSH | {"compare": "x" * 100_000 * number}
            assert (await served.webhook(payload, delivery=str(number))).status_code == 202


async def test_what_is_no_http_is_answered_400():
    async with gateway() as served:
        assert (await raw(served.port, b"\x16\x03\x01\x00\xa5 hello\r\n\r\n")).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HTTP/1.1\r\nhost: local",
        (
            b"POST /events HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n"
            b"content-type: application/cloudevents+json\r\n\r\n{"
        ),
    ],
)
async def test_a_request_that_does_not_arrive_in_time_ends_the_connection(sent):
    async with gateway(request_timeout=0.05) as served:
        assert await raw(served.port, sent) == b""


async def test_bodies_on_their_way_find_so_much_room_and_small_ones_always_some():
    head = b"POST /events/github HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 900000\r\n\r\n"
    async with gateway(max_arriving_bytes=200_000) as served:
        _, slow = await asyncio.open_connection("localhost", served.port)
        slow.write(head + b"x" * 150_000)
        await slow.drain()
        reader, large = await asyncio.open_connection("localhost", served.port)
        large.write(head + b"x" * 150_000)
        assert (await reader.readline()).startswith(b"HTTP/1.1 503 ")
        assert (await served.webhook()).status_code == 202
        large.write(b"x" * 750_000)
        assert b"retry-after: 1\r\n" in await reader.read()
        for writer in (slow, large):
            writer.close()
            await writer.wait_closed()
        assert (await served.webhook(PUSH | {"compare": "x" * 150_000}, delivery="d-2")).status_code == 202


async def test_where_there_are_too_many_connections_the_one_that_was_waited_for_longest_makes_room():
    async with gateway(max_connections=3) as served:
        opened = [await asyncio.open_connection("localhost", served.port) for _ in range(3)]
        for number, (_, writer) in enumerate(opened):
            writer.write(b"GET / HTTP/1.1\r\nhost: local"[: 10 * number])
        assert (await served.client.get("/healthz")).status_code == 200
        with suppress(ConnectionError):
            assert await opened[0][0].read() == b""
        for _, writer in opened[1:]:
            writer.write(b"\r\n\r\n")
        assert [(await reader.readline())[:12] for reader, _ in opened[1:]] == [b"HTTP/1.1 400"] * 2
        for _, writer in opened:
            writer.close()


async def test_a_client_that_has_been_answered_makes_room_too_and_one_that_waits_for_its_answer_does_not():
    entered, leave = asyncio.Event(), asyncio.Event()

    async def serve(scope, _receive, send):
        if scope["path"] == "/slow":
            entered.set()
            await leave.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    server = HttpServer(serve, HttpSettings(port=0, max_connections=2))
    port = await server.start()
    slow_reader, slow = await asyncio.open_connection("localhost", port)
    slow.write(b"GET /slow HTTP/1.1\r\nhost: localhost\r\n\r\n")
    await entered.wait()
    writers = [slow]
    # Each of these is kept alive, and makes room for the next.
    for _ in range(4):
        reader, writer = await asyncio.open_connection("localhost", port)
        writer.write(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
        assert server.connections <= 2
        writers.append(writer)
    leave.set()
    assert await slow_reader.readline() == b"HTTP/1.1 200 OK\r\n"
    for writer in writers:
        writer.close()
    await server.drain(1.0)


async def test_where_all_connections_have_a_request_under_way_one_more_is_answered_503():
    entered, leave = asyncio.Semaphore(0), asyncio.Event()

    async def slow(_scope, _receive, send):
        entered.release()
        await leave.wait()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    server = HttpServer(slow, HttpSettings(port=0, max_connections=2))
    address = f"http://localhost:{await server.start()}"
    async with httpx.AsyncClient(base_url=address, trust_env=False, timeout=60) as client, asyncio.TaskGroup() as tasks:
        under_way = [tasks.create_task(client.get("/")) for _ in range(2)]
        for _ in under_way:
            await entered.acquire()
        assert (await client.get("/")).status_code == 503
        leave.set()
    assert [request.result().status_code for request in under_way] == [204, 204]
    await server.drain(1.0)


async def test_a_client_that_does_not_wait_for_answers_is_answered_some_of_its_requests_and_then_no_more():
    async with gateway() as served:
        request = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"
        answers = (await raw(served.port, request * 200)).split(b"HTTP/1.1 200 OK\r\n")[1:]
        assert 1 < len(answers) <= 20
        assert [b"connection: close" in answer for answer in answers] == [False] * (len(answers) - 1) + [True]
        assert (await raw(served.port, request, b"GET / HTTP/1.0\r\nhost: localhost\r\n\r\n")).count(b" 200 OK") == 2


class Large:
    """Answers `/large` with more than any socket holds, all else with nothing. `ended` is set when a large answer is out or its client gone."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()

    async def __call__(self, scope, _receive, send) -> None:
        pieces = 64 if scope["path"] == "/large" else 0
        length = b"%d" % (pieces << 20)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
        for _ in range(pieces):
            await send({"type": "http.response.body", "body": bytes(1 << 20), "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        if pieces:
            self.ended.set()


@asynccontextmanager
async def unread(port: int) -> AsyncIterator[asyncio.StreamReader]:
    """A client that has asked for a large answer. It reads no more of it than the reader is made to."""
    reader, writer = await asyncio.open_connection("localhost", port, limit=1024)
    try:
        writer.write(b"GET /large HTTP/1.1\r\nhost: localhost\r\n\r\n")
        yield reader
    finally:
        writer.transport.abort()


async def test_a_client_that_reads_nothing_of_its_answer_for_a_while_is_let_go():
    large = Large()
    server = HttpServer(large, HttpSettings(port=0, request_timeout=0.05))
    port = await server.start()
    async with asyncio.timeout(30), unread(port):
        await large.ended.wait()
    await server.drain(1.0)


async def test_clients_that_do_not_read_their_answers_make_room_for_others():
    server = HttpServer(Large(), HttpSettings(port=0, max_connections=2))
    port = await server.start()
    async with (
        asyncio.timeout(30),
        unread(port),
        unread(port),
        httpx.AsyncClient(base_url=f"http://localhost:{port}", trust_env=False) as client,
    ):
        # Until their sockets are full, both have a request under way.
        while (await client.get("/")).status_code == 503:
            pass
    await server.drain(1.0)


async def test_a_drain_lets_a_request_under_way_end_and_takes_no_more():
    entered, leave = asyncio.Event(), asyncio.Event()

    async def slow(_scope, _receive, send):
        entered.set()
        await leave.wait()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    server = HttpServer(slow, HttpSettings(port=0))
    port = await server.start()
    async with (
        httpx.AsyncClient(base_url=f"http://localhost:{port}", trust_env=False) as client,
        asyncio.TaskGroup() as tasks,
    ):
        request = tasks.create_task(client.get("/"))
        await entered.wait()
        drain = tasks.create_task(server.drain(5.0))
        with pytest.raises(httpx.ConnectError):
            while True:
                async with httpx.AsyncClient(trust_env=False) as late:
                    await late.get(f"http://localhost:{port}/", timeout=0.05)
        leave.set()
        assert (await request).status_code == 204
        await drain
    assert server.connections == 0


async def test_a_drain_ends_what_does_not_end_by_itself():
    entered = asyncio.Event()

    async def endless(_scope, _receive, _send):
        entered.set()
        await asyncio.Event().wait()

    server = HttpServer(endless, HttpSettings(port=0))
    port = await server.start()
    reader, writer = await asyncio.open_connection("localhost", port)
    writer.write(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
    await entered.wait()
    await server.drain(0.01)
    await server.drain(0.01)
    assert await reader.read() == b""
    writer.close()


async def test_a_port_that_is_taken_is_an_error_and_leaves_nothing_behind():
    async with gateway() as served:
        server = HttpServer(served.server, HttpSettings(port=served.port))
        with pytest.raises(OSError):
            await server.start()
        await server.drain(0.01)

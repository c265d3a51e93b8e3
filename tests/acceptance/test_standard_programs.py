"""The programs in the README of the standard, as they stand there, against a broker of this project."""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from certes.v1 import event_service_pb2 as pb
from certes.v1 import subscription_pb2 as resources
from certes.v1 import subscription_service_pb2 as subscriptions_pb
from scripts.broker_process import BrokerProcess
from scripts.demo_github import PAYLOADS
from tests.acceptance.client import Client, Frames, connected
from tests.acceptance.conftest import StartBroker
from tests.acceptance.github import http, signed, url
from tests.program import Program, running
from tests.toolchains import (
    BUILDING,
    PROGRAMS,
    build_go,
    generate_go,
    generate_python,
    run,
    tool,
)

PORT = 8080
"""Where the programs listen: the README says so."""

SUBSCRIPTION = "subscribers/default/subscriptions/meetly"
GITHUB = "community.certes.dev/github/1"
V1, V2 = "events.github.com/github/1/push", "events.github.com/github/2/push"
BEFORE = "6113728f27ae82c7b1a177c8d03f9e96e0adf246"

SELECTED_BY_ALL = ("push-meetly-app", "push-harborlight-tides", "push-meetly-meetly")
UNHANDLED_BY_ALL = ("issues-opened-meetly-app", "membership-added")


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where programs are made that several tests run."""
    return tmp_path_factory.mktemp("programs")


@pytest.fixture(scope="module")
def go_client(workshop: Path) -> list[str | Path]:
    return [build_go("example.com/client", PROGRAMS / "go_client", workshop)]


@pytest.fixture(scope="module")
def js_folder(workshop: Path, node_packages: Path) -> Path:
    folder = workshop / "js_client"
    shutil.copytree(PROGRAMS / "js_client", folder)
    (folder / "node_modules").symlink_to(node_packages / "node_modules")
    compiler = [tool("node"), folder / "node_modules" / "typescript" / "bin" / "tsc"]
    run(*compiler, "--strict", "--module", "nodenext", "--target", "es2022", "client.ts", cwd=folder)
    return folder


@pytest.fixture
def client_command(request: pytest.FixtureRequest) -> list[str | Path]:
    """The command that runs the client in a language."""
    match request.param:
        case "Go":
            command: list[str | Path] = request.getfixturevalue("go_client")
        case "JavaScript":
            command = [tool("node"), request.getfixturevalue("js_folder") / "client.mjs"]
        case "TypeScript":
            command = [tool("node"), request.getfixturevalue("js_folder") / "client.js"]
        case _:
            command = python(PROGRAMS / "python" / "client.py")
    return command


@pytest.fixture
def github_gateway(start_broker: StartBroker) -> BrokerProcess:
    """The gateway of somebody who sends events, with both versions of a schema of their own."""
    broker = start_broker("")
    registered = httpx.post(
        f"http://{broker.http}/api/certes.v1.SchemaService/RegisterSchemas",
        json={
            "files": {
                "files": [
                    {"path": path.relative_to(PROTOS).as_posix(), "content": path.read_text()}
                    for path in sorted(PROTOS.rglob("*.proto"))
                ]
            }
        },
        trust_env=False,
    )
    assert registered.status_code == 200, registered.text
    return broker


PROTOS = PROGRAMS / "producer_proto"


def python(program: Path) -> list[str | Path]:
    return [sys.executable, program]


def at(broker: BrokerProcess, host: str, **settings: str) -> dict[str, str]:
    """The environment of a program whose gateway this broker is, under the name that the program knows it by."""
    return {"CERTES_RESOLVE": f"{host}={broker.http}", **settings}


async def post(broker: BrokerProcess, *payloads: str) -> None:
    """Posts webhooks as GitHub does."""
    async with http() as github:
        for name in payloads:
            body = (PAYLOADS / f"{name}.json").read_bytes()
            answer = await github.post(url(broker), content=body, headers=signed(name.partition("-")[0], body))
            assert answer.status_code == 202, answer.text


def pushes(program: Program) -> list[str]:
    return [line for line in program.lines if re.match("Got Git[hH]ub push event: ", line)]


async def answered_well(client: Client) -> int:
    return sum(200 <= one.status < 300 for one in await client.attempts(SUBSCRIPTION, 0))


async def until_ready(client: Client, program: Program) -> None:
    """Waits until a program has its subscription and listens."""
    while not (await _has_subscription(client) and await _listens()):
        assert program.process.returncode is None, program.printed


async def _has_subscription(client: Client) -> bool:
    listed = await client.subscriptions.ListSubscriptions(
        subscriptions_pb.ListSubscriptionsRequest(parent="subscribers/default")
    )
    return [one.name for one in listed.subscriptions] == [SUBSCRIPTION]


async def _listens() -> bool:
    async with http() as client:
        try:
            await client.get(f"http://127.0.0.1:{PORT}/")
        except httpx.TransportError:
            return False
    return True


@pytest.fixture(autouse=True)
def free_port() -> None:
    """Fails where somebody else listens on the port that the README names."""
    with socket.create_server(("127.0.0.1", PORT)):
        pass


CLIENTS = pytest.mark.parametrize("client_command", ["Go", "JavaScript", "TypeScript", "Python"], indirect=True)


@pytest.mark.timeout(BUILDING)
@CLIENTS
async def test_the_client_gets_what_it_subscribed_to_once_and_reports_what_it_does_not_handle(
    broker: BrokerProcess, client_command: list[str | Path]
) -> None:
    environ = at(broker, "events.meetly.com", CERTES_APP="meetly", CERTES_CALLBACK_URL=f"http://127.0.0.1:{PORT}/")
    async with connected(broker) as client, running(client_command, environ) as program:
        await until_ready(client, program)
        await post(broker, *SELECTED_BY_ALL, *UNHANDLED_BY_ALL)
        await program.until(lambda one: len(pushes(one)) == len(SELECTED_BY_ALL))
        unhandled = {f"{GITHUB}/issues", f"{GITHUB}/membership"}
        await program.until(lambda one: all(any(kind in line for line in one.errors) for kind in unhandled))
        # What has been answered and is durable does not come again after a crash.
        async with asyncio.timeout(60):
            while await answered_well(client) < len(SELECTED_BY_ALL):
                """The answers are on their way, which the program prints before."""
        await client.settled(SUBSCRIPTION)
        broker.kill9()
        await asyncio.to_thread(broker.start)
        await post(broker, "push-meetly-meetly-branch")
        await program.until(lambda one: len(pushes(one)) > len(SELECTED_BY_ALL))
        await client.pause(SUBSCRIPTION)
        assert len(pushes(program)) == len(SELECTED_BY_ALL) + 1, "overlapping patterns deliver an event once"


@pytest.mark.timeout(BUILDING)
@CLIENTS
async def test_the_same_client_is_fed_by_a_stream_where_it_has_no_callback_url(
    broker: BrokerProcess, client_command: list[str | Path]
) -> None:
    async with (
        connected(broker) as client,
        running(client_command, at(broker, "events.meetly.com", CERTES_APP="meetly")) as program,
    ):
        await until_ready(client, program)
        await post(broker, *SELECTED_BY_ALL)
        await program.until(lambda one: len(pushes(one)) == len(SELECTED_BY_ALL))


@pytest.fixture(scope="module")
def go_producer(workshop: Path) -> list[str | Path]:
    source = workshop / "go_producer_source"
    source.mkdir()
    (source / "main.go").write_bytes((PROGRAMS / "go_producer" / "main.go").read_bytes())
    generate_go(PROTOS, source)
    return [build_go("example.com/producer", source, workshop)]


@pytest.fixture(scope="module")
def python_producer(workshop: Path) -> list[str | Path]:
    folder = workshop / "python_producer"
    folder.mkdir()
    generate_python(PROTOS, folder)
    program = folder / "producer.py"
    program.write_bytes((PROGRAMS / "python" / "producer.py").read_bytes())
    return python(program)


@pytest.mark.timeout(BUILDING)
@pytest.mark.parametrize("producer", ["go_producer", "python_producer"])
async def test_the_producer_sends_two_versions_and_a_subscriber_of_the_first_gets_the_first_only(
    github_gateway: BrokerProcess, producer: str, request: pytest.FixtureRequest
) -> None:
    command: list[str | Path] = request.getfixturevalue(producer)
    async with connected(github_gateway) as client:
        first, second, others = [
            ephemeral(client, *wanted)
            for wanted in (("org_123", V1), ("org_123", V2), ("org_124", "events.github.com/github/**"))
        ]
        for stream in (first, second, others):
            assert (await stream.read()).HasField("opened")
        async with running(command, at(github_gateway, "events.github.com", CERTES_APP="github")) as program:
            assert await program.ended() == 0, program.printed
        for stream, event_type in ((first, V1), (second, V2)):
            [delivery] = (await stream.read()).batch.deliveries
            assert (delivery.event.type, delivery.event.subscriber) == (event_type, "org_123")
    ref = "refs/tags/simple-tag"
    assert await kept(github_gateway, "org_123") == [
        (V1, {"ref": ref, "before": BEFORE}),
        (V2, {"ref": ref, "before_commit_sha": BEFORE}),
    ]
    assert await kept(github_gateway, "org_124") == [], "an event for one subscriber is no other's"


def ephemeral(client: Client, subscriber: str, pattern: str) -> Frames:
    wanted = pb.EphemeralSubscription(
        parent=f"subscribers/{subscriber}", selectors=[resources.Selector(pattern=pattern)]
    )
    return client.events.Subscribe(pb.SubscribeRequest(ephemeral=wanted))


async def kept(broker: BrokerProcess, subscriber: str) -> list[tuple[str, dict]]:
    """What a subscriber can see of what is kept: types and data."""
    async with http() as client:
        answer = await client.post(
            f"http://{broker.http}/api/certes.v1.EventService/ListEvents", json={"parent": f"subscribers/{subscriber}"}
        )
    return [(one["event"]["type"], one["event"]["data"]) for one in answer.json().get("events", [])]


# What may differ from the README: the imports it forgot, and packages that it imports from beside the program.
_IMPORTS = re.compile(r'^\s*(?:\w+ )?"(?:log|\./pb/v\d|example\.com/producer/pb/v\d)".*$', re.MULTILINE)


@pytest.mark.parametrize("name", ["go_client/main.go", "js_client/client.ts", "go_producer/main.go"])
def test_a_program_stands_as_it_does_in_the_readme_of_the_standard(shared_payloads: Path, name: str) -> None:
    [readme] = (shared_payloads.parent / "seed").glob("*.txt")
    words: Callable[[str], str] = lambda text: "".join(_IMPORTS.sub("", text).split())  # noqa: E731
    assert words((PROGRAMS / name).read_text()) in words(readme.read_text())

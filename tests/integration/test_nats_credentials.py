"""A broker shows servers that trust an operator a user's credentials, of a file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from certes_broker.domain.errors import FailedPrecondition, Reason
from certes_broker.domain.events import BEGINNING
from certes_broker.engines.nats import Access, NatsEngine, Place
from scripts.broker_process import BrokerProcess
from tests.acceptance.client import connected, event, receive_all
from tests.contracts import engine_harness
from tests.fakes.manual_clock import ManualClock
from tests.fakes.nats_operator import Account, Operator
from tests.fakes.nats_servers import NatsServer, skip_where_there_is_no_server


@dataclass(frozen=True, slots=True)
class World:
    """A server, its operator, and what that has vouched for."""

    server: NatsServer
    operator: Operator
    account: Account
    bare: Account
    """An account without JetStream."""

    def place(self, credentials: Path | None) -> Place:
        return Place(Access((self.server.url,), credentials=credentials))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    skip_where_there_is_no_server()
    operator = Operator()
    world = World(
        NatsServer(tmp_path_factory.mktemp("nats")), operator, operator.account(), operator.account(has_jetstream=False)
    )
    world.server.settings = operator.settings(world.account, world.bare)
    try:
        world.server.restart()
        yield world
    finally:
        world.server.kill()


async def open_once(at: Place) -> None:
    async with NatsEngine.open(at, ManualClock()) as engine:
        await engine.journal.append([engine_harness.event("a")])


async def test_a_broker_publishes_and_delivers_with_the_credentials_of_a_file(world: World, tmp_path: Path) -> None:
    user = world.account.user(tmp_path / "user.creds")
    config = tmp_path / "certes.toml"
    config.write_text(f'engine = "{world.server.url}"\n[nats]\ncredentials = "{user}"\nprefix = "served"\n')
    published = [event(f"e:{number}", key="k") for number in range(3)]
    with BrokerProcess(tmp_path / "data", config=config) as broker:
        broker.start()
        async with connected(broker) as client:
            name = await client.create_stream("app")
            await client.publish(published)
            assert await receive_all(client, name, {one.id for one in published}) == [one.id for one in published]


async def test_who_is_not_known_is_refused_with_what_was_shown(world: World, tmp_path: Path) -> None:
    stranger = Operator().account().user(tmp_path / "stranger.creds")
    untrusted = world.operator.account().user(tmp_path / "untrusted.creds")
    ended = world.account.user(tmp_path / "ended.creds", seconds=-60)
    for credentials in (stranger, untrusted, ended, None):
        with pytest.raises(FailedPrecondition, match=r"(?i)authorization") as refusal:
            await open_once(world.place(credentials))
        assert refusal.value.reason is Reason.STORAGE_UNAVAILABLE
        shown = "no credentials or token" if credentials is None else f"the credentials of {credentials}"
        assert f"They refused {shown}" in refusal.value.hint


async def test_a_signature_of_another_key_is_refused(world: World, tmp_path: Path) -> None:
    mixed = tmp_path / "mixed.creds"
    one, other = (world.account.user(tmp_path / name).read_text().split("\n\n") for name in ("one", "other"))
    mixed.write_text(f"{one[0]}\n\n{other[1]}")
    with pytest.raises(FailedPrecondition, match=r"(?i)authorization"):
        await open_once(world.place(mixed))


async def test_an_account_without_jetstream_is_refused_with_that(world: World, tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match="JetStream"):
        await open_once(world.place(world.bare.user(tmp_path / "user.creds")))


async def test_a_user_whose_file_was_replaced_while_the_broker_runs_comes_back_as_the_new_one(
    world: World, tmp_path: Path
) -> None:
    user = world.account.user(tmp_path / "user.creds")
    async with NatsEngine.open(world.place(user), ManualClock()) as engine:
        await engine.journal.append([engine_harness.event("before")])
        world.server.kill()
        world.account.user(user)
        world.server.restart()
        await engine.journal.append([engine_harness.event("after")])
        read = await engine.journal.read(BEGINNING, 10, 10_000)
        assert [entry.event.id for entry in read.entries][-2:] == ["before", "after"]

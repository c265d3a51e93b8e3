"""A disk that fills up under the real broker: first by its events, then to the last byte by somebody else."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from certes.v1 import event_pb2
from scripts.broker_process import BrokerProcess
from tests.acceptance.client import Client, connected, event, receive_all, refusal

pytestmark = pytest.mark.mounts

MEBIBYTE = 1 << 20
DISK = 48 * MEBIBYTE
RESERVE = 16 * MEBIBYTE
CONFIG = f"""
[limits]
storage_reserve = {RESERVE}
in_flight_bytes = {4 * MEBIBYTE}
"""
FULL = (grpc.StatusCode.RESOURCE_EXHAUSTED, "STORAGE_FULL")
UNAVAILABLE = (grpc.StatusCode.UNAVAILABLE, "STORAGE_UNAVAILABLE")
PATIENCE = 60


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own, in memory."""
    place = tmp_path / "disk"
    place.mkdir()
    mounting = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if mounting.returncode:
        pytest.skip(f"no disk can be mounted here: {mounting.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture
def broker(disk: Path, tmp_path: Path) -> Iterator[BrokerProcess]:
    config = tmp_path / "certes.toml"
    config.write_text(CONFIG)
    with BrokerProcess(disk / "data", config=config) as process:
        process.log_file = tmp_path / "broker.log"
        yield process.start()


async def attempt(client: Client, made: event_pb2.Event) -> tuple[grpc.StatusCode, str] | None:
    """Publishes one event; returns why it was refused, if it was."""
    try:
        await client.publish([made])
    except grpc.aio.AioRpcError as error:
        return refusal(error)
    return None


async def publish_until(client: Client, refusals: set[tuple[grpc.StatusCode, str]]) -> list[str]:
    """Publishes large events until one is refused so; returns the ids of those that were accepted."""
    accepted: list[str] = []
    while True:
        event_id = f"e{len(accepted)}"
        refused = await attempt(client, event(event_id, text="x" * 500_000))
        if refused is not None:
            assert refused in refusals
            return accepted
        accepted.append(event_id)


async def until_accepted(client: Client, event_id: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while (refused := await attempt(client, event(event_id))) is not None:
            assert refused in {FULL, UNAVAILABLE}


def fill(disk: Path, leave: int) -> Path:
    """Takes up all of a disk but so much."""
    filler = disk / "filler"
    space = os.statvfs(disk)
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, space.f_bavail * space.f_frsize - leave))
    return filler


async def test_events_are_refused_before_the_disk_is_full_while_deliveries_go_on_and_taken_again_with_room(
    broker: BrokerProcess, disk: Path
) -> None:
    async with connected(broker) as client:
        name = await client.create_stream("app")
        accepted = await publish_until(client, {FULL})
        space = os.statvfs(disk)
        assert accepted
        assert space.f_bavail * space.f_frsize > RESERVE // 2, "it was refused long before the disk was full"
        await receive_all(client, name, set(accepted))
        # The events themselves fill it: a larger disk is what makes room for more.
        await asyncio.to_thread(subprocess.run, ["mount", "-o", f"remount,size={2 * DISK}", str(disk)], check=True)
        await until_accepted(client, "after")
        await receive_all(client, name, {"after"})


async def test_a_disk_that_somebody_else_fills_to_the_last_byte_loses_nothing(
    broker: BrokerProcess, disk: Path
) -> None:
    async with connected(broker) as client:
        name = await client.create_stream("app")
        before = [event(f"b{number}", text="x" * 1_000) for number in range(50)]
        await client.publish(before)
        filler = fill(disk, 0)
        await publish_until(client, {FULL, UNAVAILABLE})
        filler.unlink()
        await until_accepted(client, "after")
        broker.kill9()
        await asyncio.to_thread(broker.start)
        await receive_all(client, name, {one.id for one in before} | {"after"})

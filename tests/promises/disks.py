"""A small disk that fills up under a broker."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import grpc

from certes.v1 import event_pb2
from tests.acceptance.client import Client, event, refusal

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

"""Disks for a broker: a small one that fills up, and one whose power is cut."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
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


class PowerCutDisk:
    """A file system on a disk of its own, whose power can be cut: what the kernel had not yet written to the disk is gone then.

    The disk is a file behind a loop device. What it holds at a moment is what a disk would hold if the power went at that moment,
    the file system's journal included, which is played back when it is mounted again.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        self._image = place.with_suffix(".image")
        self._lost = place.with_suffix(".lost")

    def make(self) -> None:
        """Makes the file system and mounts it. Raises `CalledProcessError` where that is not permitted."""
        self.place.mkdir()
        with self._image.open("wb") as file:
            file.truncate(2 * DISK)
        _run("mkfs.ext4", "-q", "-E", "nodiscard", str(self._image))
        self._mount()

    def cut_power(self) -> None:
        """Forgets what is not on the disk, and comes up again. Whoever writes to it has been killed before."""
        survives = self._image.rename(self._lost)
        shutil.copyfile(survives, self._image)
        self.unmount()
        self._lost.unlink()
        self._mount()

    def unmount(self) -> None:
        """Takes the disk away, with all that was on it."""
        _run("umount", "--lazy", str(self.place))

    def _mount(self) -> None:
        _run("mount", "-o", "loop", str(self._image), str(self.place))


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


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

"""The real process, as tests/acceptance starts it, and a small disk for it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.broker_process import BrokerProcess
from tests.acceptance.conftest import broker, start_broker
from tests.promises.disks import CONFIG, DISK, PowerCutDisk

__all__ = ["broker", "start_broker"]


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
def broker_on_the_disk(disk: Path, tmp_path: Path) -> Iterator[BrokerProcess]:
    config = tmp_path / "certes.toml"
    config.write_text(CONFIG)
    with BrokerProcess(disk / "data", config=config) as process:
        process.log_file = tmp_path / "broker.log"
        yield process.start()


@pytest.fixture
def power_cut_disk(tmp_path: Path) -> Iterator[PowerCutDisk]:
    """A disk whose power can be cut."""
    disk = PowerCutDisk(tmp_path / "power")
    try:
        disk.make()
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no disk can be mounted here: {getattr(error, 'stderr', error)}".strip())
    try:
        yield disk
    finally:
        disk.unmount()


@pytest.fixture
def broker_that_loses_power(power_cut_disk: PowerCutDisk, tmp_path: Path) -> Iterator[BrokerProcess]:
    config = tmp_path / "certes.toml"
    config.write_text(CONFIG)
    with BrokerProcess(power_cut_disk.place / "data", config=config) as process:
        process.log_file = tmp_path / "broker.log"
        yield process.start()

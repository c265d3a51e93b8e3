"""The real process, as tests/acceptance starts it, and a small disk for it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.broker_process import BrokerProcess
from tests.acceptance.conftest import broker, start_broker
from tests.promises.disks import CONFIG, DISK

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

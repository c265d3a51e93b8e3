"""NATS servers for as long as a test or a module of them runs."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from scripts.nats_process import BINARY, NatsCluster, NatsServer

__all__ = ["NatsCluster", "NatsServer", "running", "skip_where_there_is_no_server"]


def skip_where_there_is_no_server() -> None:
    """Skips where the binary cannot run. In CI that fails."""
    try:
        subprocess.run([BINARY, "--version"], check=True, capture_output=True, timeout=20)
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"nats-server cannot be run here: {error}")


@contextmanager
def running(directory: Path, size: int = 1, settings: str = "") -> Iterator[NatsCluster]:
    """Runs servers while the block runs. `settings` are added to what each is configured by."""
    skip_where_there_is_no_server()
    cluster = NatsCluster(directory, size)
    for server in cluster.servers:
        server.settings = settings
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from scripts.broker_process import ROOT, BrokerProcess

Certes = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def broker(tmp_path) -> Iterator[BrokerProcess]:
    """A broker of its own, as a process, with an empty data directory."""
    with BrokerProcess(tmp_path / "data") as process:
        yield process.start()


@pytest.fixture
def environ(broker: BrokerProcess) -> dict[str, str]:
    """The surroundings of a command that calls the broker."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CERTES_")}
    paths = os.pathsep.join([str(ROOT), str(ROOT / "generated")])
    return inherited | {"PYTHONPATH": paths, "CERTES_BROKER": broker.http}


@pytest.fixture
def certes(environ: dict[str, str]) -> Certes:
    """Runs the command with the given words."""

    def run(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "certes_broker", *words]
        return subprocess.run(
            command, input=stdin, capture_output=True, text=True, env=environ, timeout=30, check=False
        )

    return run

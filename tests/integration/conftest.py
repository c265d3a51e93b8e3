from __future__ import annotations

from collections.abc import Iterator

import pytest

from scripts.broker_process import BrokerProcess


@pytest.fixture
def broker(tmp_path) -> Iterator[BrokerProcess]:
    """A broker of its own, as a process, with an empty data directory."""
    with BrokerProcess(tmp_path / "data") as process:
        yield process.start()

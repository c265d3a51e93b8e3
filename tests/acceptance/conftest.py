"""The real process, started for each test. tests/promises has it from here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from scripts.broker_process import BrokerProcess
from tests.acceptance.github import CONFIG

StartBroker = Callable[..., BrokerProcess]


@pytest.fixture
def start_broker(tmp_path: Path) -> Iterator[StartBroker]:
    """Starts brokers, each with a directory of its own, that do not outlive the test.

    The first argument is the configuration file's text.
    """
    with ExitStack() as stack:

        def start(config: str = CONFIG, name: str = "broker") -> BrokerProcess:
            file = tmp_path / f"{name}.toml"
            file.write_text(config)
            return stack.enter_context(BrokerProcess(tmp_path / name, config=file)).start()

        yield start


@pytest.fixture
def broker(start_broker: StartBroker) -> BrokerProcess:
    """A broker that serves, with the source `github`."""
    return start_broker()

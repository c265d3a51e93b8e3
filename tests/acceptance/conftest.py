"""The real process, started for each test, and what a test has to report when it has passed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from scripts.broker_process import BrokerProcess
from tests.acceptance.github import CONFIG

HERE = Path(__file__).resolve().parent
REPORTED = "reported"

StartBroker = Callable[..., BrokerProcess]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "acceptance: starts the real process; `-m 'not acceptance'` leaves it out")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.acceptance)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        for name, line in getattr(report, "user_properties", ()):
            if name == REPORTED:
                terminalreporter.write_line(f"{report.nodeid.rpartition('::')[2]}: {line}")


@pytest.fixture
def report(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Adds a line to what pytest prints at its end, also of a test that has passed."""
    return lambda line: record_property(REPORTED, line)


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

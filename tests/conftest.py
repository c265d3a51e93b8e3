"""What holds for every test: CI skips nothing silently, the real process may take its time, hypothesis has no stop-watch."""

from __future__ import annotations

import asyncio
import faulthandler
import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from _pytest.faulthandler import fault_handler_stderr_fd_key
from grpc import aio
from hypothesis import settings

from tests.answers import searched
from tests.toolchains import install_packages

ROOT = Path(__file__).resolve().parent.parent
SHARED_PAYLOADS = ROOT.parent / "shared" / "github-webhooks"

REAL_PROCESS = (ROOT / "tests" / "acceptance", ROOT / "tests" / "promises")
"""Where tests start the broker as it is started everywhere. They are marked `acceptance`."""
REAL_PROCESS_TIMEOUT = 300
"""Seconds. Such a test starts, kills and restarts brokers."""

REPORTED = "reported"
"""The property of a test whose text is printed in the end, also where the test has passed."""

TAKEN_DOWN = 60
"""Seconds that taking down what a failed test stood on may last."""

IN_CI = os.environ.get("CI", "").lower() in {"1", "true"}

# A shared machine's pauses are no failures of the code; a failure found in CI must be repeatable elsewhere.
settings.register_profile("certes", deadline=None, print_blob=True)
settings.load_profile("certes")


@pytest.fixture(scope="session", autouse=True)
def answers() -> Iterator[None]:
    """Has what brokers of tests answer clients searched for secrets."""
    with searched():
        yield


@pytest.fixture(scope="session")
def shared_payloads() -> Path:
    """The folder of GitHub's example payloads. A test that asks for it is marked `shared_payloads`."""
    return SHARED_PAYLOADS


@pytest.fixture
def report(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Adds a line to what pytest prints at its end, also of a test that has passed."""
    return lambda line: record_property(REPORTED, line)


@pytest.fixture(scope="session")
def node_packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workspace of the JavaScript packages, built, with what they stand on; skips where there is no Node.

    Programs find the packages by a link to its `node_modules`.
    """
    return install_packages(tmp_path_factory.mktemp("node"))


class FailedTests:
    """Ends the process of a failed test that cannot be taken down, with the stacks of its threads.

    On a failure pytest makes place for a debugger: the time-outs of the test are called off, and nothing would bound what follows.
    """

    @pytest.hookimpl(trylast=True)
    def pytest_exception_interact(self, node: pytest.Item | pytest.Collector) -> None:
        if isinstance(node, pytest.Item):
            faulthandler.dump_traceback_later(
                TAKEN_DOWN, file=node.config.stash[fault_handler_stderr_fd_key], exit=True
            )


def pytest_configure(config: pytest.Config) -> None:
    # A hook of this file would hear of the tests below its folder only.
    config.pluginmanager.register(FailedTests())
    _keep_grpc()


def _keep_grpc() -> None:
    """Lets gRPC's asyncio part run as long as the process.

    It ends with the last channel or server that is collected, in whatever thread that is, and waits there for calls that have not
    ended, with a lock held that every new channel needs (grpc/grpc#22365). What a failed test leaves behind has such calls.
    """

    async def keep() -> None:
        aio.init_grpc_aio()

    loop = asyncio.new_event_loop()
    loop.run_until_complete(keep())
    loop.close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if any(folder in item.path.parents for folder in REAL_PROCESS):
            item.add_marker(pytest.mark.acceptance)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(REAL_PROCESS_TIMEOUT))
        if "shared_payloads" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.shared_payloads)
        if item.get_closest_marker("shared_payloads") is not None and not SHARED_PAYLOADS.is_dir():
            item.add_marker(pytest.mark.skip(reason="the folder ../shared/github-webhooks is absent"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        for name, line in getattr(report, "user_properties", ()):
            if name == REPORTED:
                terminalreporter.write_line(f"{report.nodeid.rpartition('::')[2]}: {line}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI turns a skip into a failure, except where only the shared payloads are missing, or the right to mount a disk."""
    report = yield
    excused = item.get_closest_marker("mounts") is not None or (
        item.get_closest_marker("shared_payloads") is not None and not SHARED_PAYLOADS.is_dir()
    )
    if IN_CI and report.skipped and not hasattr(report, "wasxfail") and not excused:
        fail_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a module that skips itself."""
    report = yield
    if IN_CI and report.skipped:
        fail_skip(report)
    return report


def fail_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Makes a report of a skip one of a failure that says why the test skipped."""
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    report.outcome = "failed"
    report.longrepr = f"A skipped test fails in CI, where everything it needs is at hand. {reason}"

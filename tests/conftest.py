"""What holds for every test: CI skips nothing silently, acceptance may take its time, hypothesis has no stop-watch."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.toolchains import install_packages

ROOT = Path(__file__).resolve().parent.parent
SHARED_PAYLOADS = ROOT.parent / "shared" / "github-webhooks"

ACCEPTANCE_TIMEOUT = 300
"""Seconds. A test of the real process starts, kills and restarts brokers."""

IN_CI = os.environ.get("CI", "").lower() in {"1", "true"}

# A shared machine's pauses are no failures of the code; a failure found in CI must be repeatable elsewhere.
settings.register_profile("certes", deadline=None, print_blob=True)
settings.load_profile("certes")


@pytest.fixture(scope="session")
def shared_payloads() -> Path:
    """The folder of GitHub's example payloads. A test that asks for it is marked `shared_payloads`."""
    return SHARED_PAYLOADS


@pytest.fixture(scope="session")
def node_packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workspace of the JavaScript packages, built, with what they stand on; skips where there is no Node.

    Programs find the packages by a link to its `node_modules`.
    """
    return install_packages(tmp_path_factory.mktemp("node"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "acceptance" in item.path.relative_to(ROOT).parts and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(ACCEPTANCE_TIMEOUT))
        if "shared_payloads" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.shared_payloads)
        if item.get_closest_marker("shared_payloads") is not None and not SHARED_PAYLOADS.is_dir():
            item.add_marker(pytest.mark.skip(reason="the folder ../shared/github-webhooks is absent"))


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

"""Runs properties for a time instead of a number of examples, against one real broker.

Rules
-----
* A target is a hypothesis test of one input: what it is given must neither crash the broker, nor hang it, nor be answered with a
  fault of the broker's own.
* A target is run again and again, each time with the next seed, until its share of the time is over. The first seed is printed,
  and `--fuzz-seed` begins with it; hypothesis keeps what failed in `.hypothesis`, and begins with that.
* Seeds that have found something stand in `SEEDS`, and are run first, whatever time there is.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import hypothesis
import pytest

from scripts.broker_process import BrokerProcess
from tests.acceptance import github

SEEDS: Final[tuple[int, ...]] = (4_052_945_220,)
"""Seeds that have found something, so that it is looked for ever after."""

EXAMPLES: Final = 100
"""Examples to a seed: few, so that targets end in time."""

FAULTS: Final = ("internal_error", "worker_job_failed", "Traceback")
"""What the log has where the broker met a fault of its own."""

Fuzz = Callable[[Callable[[], Any]], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fuzz-seconds", type=float, default=60, help="how long all targets together may take")
    parser.addoption("--fuzz-seed", type=int, default=None, help="the seed to begin with; printed by each run")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.timeout(0))


@pytest.fixture(scope="session")
def first_seed(pytestconfig: pytest.Config) -> int:
    """The seed to begin with."""
    given = pytestconfig.getoption("--fuzz-seed")
    return secrets.randbits(32) if given is None else int(given)


@pytest.fixture
def fuzz(request: pytest.FixtureRequest, first_seed: int, capsys: pytest.CaptureFixture[str]) -> Fuzz:
    """Runs a target for its share of the time."""
    items = [item for item in request.session.items if item.path.parent == Path(__file__).parent]
    share = request.config.getoption("--fuzz-seconds") / len(items)

    def run(target: Callable[[], Any]) -> None:
        until = time.monotonic() + share
        rounds = 0
        while rounds < len(SEEDS) or time.monotonic() < until:
            seed = SEEDS[rounds] if rounds < len(SEEDS) else first_seed + rounds - len(SEEDS)
            try:
                hypothesis.seed(seed)(target)()
            except BaseException:
                with capsys.disabled():
                    print(f"\n{request.node.name} failed with --fuzz-seed {seed}")  # noqa: T201
                raise
            rounds += 1
        with capsys.disabled():
            print(f"\n{request.node.name}: {rounds} rounds of {EXAMPLES}, from --fuzz-seed {first_seed}")  # noqa: T201

    return run


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """The broker that all targets share. At the end it must still answer, and have met no fault of its own."""
    directory = tmp_path_factory.mktemp("fuzz")
    config = directory / "certes.toml"
    config.write_text(github.CONFIG)
    # Hypothesis takes strings out of the code, secrets among them, and makes names of fields of them, which are logged as unknown.
    with BrokerProcess(directory / "data", config=config, dev=False, is_searched=False) as process:
        yield process.start()
        assert process.terminate() == 0
        found = [line for line in process.log.splitlines() if any(fault in line for fault in FAULTS)]
        assert not found, found[:3]

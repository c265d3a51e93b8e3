from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from click.testing import CliRunner, Result

from certes_broker.cli.main import main
from tests.unit.cli.fake_gateway import FakeGateway

Certes = Callable[..., Result]


@pytest.fixture
def gateway() -> Iterator[FakeGateway]:
    fake = FakeGateway()
    yield fake
    fake.close()


@pytest.fixture
def certes() -> Certes:
    """Runs the command with the given words; it sees no setting of the surroundings."""
    runner = CliRunner(env={"CERTES_BROKER": None, "CERTES_CONFIG": None, "CERTES_TOKEN": None})

    def run(*words: str, stdin: str | bytes = "", env: dict[str, str] | None = None) -> Result:
        return runner.invoke(main, words, input=stdin, env=env, catch_exceptions=False)

    return run

"""A source as its owner has it: made by the command while the broker runs, rotated, mended, and there after a crash."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from scripts.broker_process import BrokerProcess
from tests import command
from tests.acceptance import github
from tests.acceptance.conftest import StartBroker

BODY = b'{"zen": "Speak like a human."}'
PATIENCE = 50.0
ATTEMPTS = 20
CREDENTIAL = "Bearer of-somebody-else"

Certes = Callable[..., Any]


@pytest.fixture
def broker(start_broker: StartBroker) -> BrokerProcess:
    """A broker that serves, whose configuration declares no source."""
    return start_broker("")


@pytest.fixture
def said() -> list[str]:
    """All that the command has printed."""
    return []


@pytest.fixture
def certes(broker: BrokerProcess, said: list[str]) -> Certes:
    """Runs the command against the broker, and returns what it printed as JSON."""

    def run(*words: str, code: int = 0) -> Any:
        ended = command.certes(*words, "--json", "--broker", broker.http)
        assert ended.returncode == code, ended.stderr
        said.append(ended.stdout + ended.stderr)
        return json.loads(ended.stdout)

    return run


async def deliver(http: httpx.AsyncClient, broker: BrokerProcess, secret: str, **more: str) -> httpx.Response:
    """Posts a ping to the source `github`, signed with a secret."""
    headers = github.signed("ping", BODY, secret=secret)
    given = {**headers, **{name.replace("_", "-"): value for name, value in more.items()}}
    return await http.post(github.url(broker), content=BODY, headers=given)


def rejected(certes: Certes) -> list[Any]:
    """Lists what the source refused, once there is something: an answer does not wait until its payload is kept."""
    for _ in range(ATTEMPTS):
        found: list[Any] = certes("sources", "rejected", "list", "github")
        if found:
            return found
    raise TimeoutError


async def test_a_source_is_made_rotated_and_mended_while_the_broker_runs(
    broker: BrokerProcess, certes: Certes, said: list[str]
) -> None:
    made = certes("sources", "create", "github", "--provider", "github", "--audience", "everyone", "--keep-rejected")
    assert made["url"] == github.url(broker)
    first = made["secret"]
    async with github.http() as http:
        assert (await deliver(http, broker, first)).status_code == 202

        second = certes("sources", "rotate-secret", "github", "--overlap", "1h")["secret"]
        for secret in (first, second):
            assert (await deliver(http, broker, secret)).status_code == 202

        # The provider was given another secret than the broker has.
        refused = await deliver(http, broker, "mistaken", authorization=CREDENTIAL, cookie=CREDENTIAL)
        assert (refused.status_code, refused.json()["error"]["reason"]) == (401, "SIGNATURE_INVALID")
        (kept,) = rejected(certes)
        assert not kept.get("verified", False)
        shown = certes("sources", "rejected", "show", kept["name"])
        assert shown["headers"]["x-github-event"] == "ping"
        assert CREDENTIAL not in json.dumps(shown)

        broker.kill9()
        broker.start()

        assert (await deliver(http, broker, second)).status_code == 202
        assert [one["name"] for one in certes("sources", "rejected", "list", "github")] == [kept["name"]]
        (again,) = certes("sources", "reingest", kept["name"], code=1)
        assert again["reason"] == "SIGNATURE_INVALID"
        certes("sources", "rotate-secret", "github", "--secret", "mistaken", "--overlap", "0s")
        (taken,) = certes("sources", "reingest", kept["name"])
        assert taken["event"].startswith("events/")
        assert certes("sources", "rejected", "list", "github") == []
        for secret in (first, second):
            assert (await deliver(http, broker, secret)).status_code == 401

    certes("sources", "list")
    certes("sources", "get", "github")
    shown_once = {made["secret"]: 1, second: 1, "mistaken": 0}
    for secret, times in shown_once.items():
        assert "".join(said).count(secret) == times
        assert secret not in broker.log
    assert CREDENTIAL not in broker.log


async def test_a_configured_source_hides_a_stored_one_until_it_goes(broker: BrokerProcess, certes: Certes) -> None:
    made = certes("sources", "create", "github", "--provider", "github", "--audience", "everyone")
    config = broker.data_dir.with_name("broker.toml")
    async with github.http() as http:
        for text, secret in ((github.CONFIG, github.SECRET), ("", made["secret"])):
            config.write_text(text)
            broker.hang_up()
            async with asyncio.timeout(PATIENCE):
                while (await deliver(http, broker, secret)).status_code != 202:
                    pass
    assert "stored_source_hidden" in broker.log

"""A broker that asks callers who they are, and callers, each with a key of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from certes_broker.domain.api_keys import KeyId, spell_key
from scripts.broker_process import BrokerProcess

OPERATOR = spell_key(KeyId("operator"), os.urandom(32))


@dataclass(frozen=True)
class Caller:
    """Whoever has a key, at the JSON API. The answer is shown as status, reason and body."""

    broker: BrokerProcess
    key: str

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What its calls over gRPC have with them."""
        return (("authorization", f"Bearer {self.key}"),)

    def call(self, rpc: str, **request: Any) -> httpx.Response:
        """Calls `Service/Method`."""
        return httpx.post(
            f"http://{self.broker.http}/api/certes.v1.{rpc}",
            json=request,
            headers=dict(self.metadata),
            timeout=60,
            trust_env=False,
        )

    def ask(self, rpc: str, **request: Any) -> dict[str, Any]:
        """Calls it, which must succeed."""
        answer = self.call(rpc, **request)
        assert answer.status_code == 200, answer.text
        told: dict[str, Any] = answer.json()
        return told

    def publish(self, *events: dict[str, Any]) -> httpx.Response:
        return self.call("EventService/Publish", events=events)


@contextmanager
def asking_for_keys(directory: Path) -> Iterator[Caller]:
    """Starts a broker; returns its operator."""
    config = directory / "broker.toml"
    config.write_text(f'[auth]\noperator_key = "{OPERATOR}"\n')
    with BrokerProcess(directory / "broker", config=config) as broker:
        yield Caller(broker.start(), OPERATOR)


def caller(operator: Caller, key_id: str, *roles: str, **bindings: list[str]) -> Caller:
    """Makes a key with these roles, bound to `subscribers`, `sources` or `types`."""
    bound = {what: {"values": values} for what, values in bindings.items()}
    made = operator.ask("AdminService/CreateApiKey", apiKeyId=key_id, apiKey={"roles": list(roles), "bindings": bound})
    return Caller(operator.broker, made["key"])


def ping(event_id: str, **fields: Any) -> dict[str, Any]:
    """An event as JSON. `fields` say for whom it is."""
    told = {"id": event_id, "type": "community.certes.dev/github/1/ping", "source": "//shop", "data": {"zen": event_id}}
    return told | fields


def refusal(answer: httpx.Response) -> tuple[int, str]:
    """The status of an answer, and the reason in its details."""
    return answer.status_code, answer.json()["details"][0]["debug"]["reason"]

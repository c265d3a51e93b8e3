"""Nothing that the real broker writes, answers or keeps shows a secret, whatever is asked of it and however it ends."""

from __future__ import annotations

import os
import resource
import signal
from base64 import b64encode
from pathlib import Path

import httpx
import pytest

from certes_broker.domain.api_keys import KeyId, spell_key
from scripts.broker_process import ROOT, BrokerFailed, BrokerProcess
from scripts.emitted_secrets import SecretEmitted

HEADER = "Bearer geheim-header-3c1d"
SOURCE_SECRET = "geheim-quelle-77aa-5b5b-e3e3-0000"
SIGNING = "whsec_" + b64encode(b"geheim-signatur-8d8d-1f1f-4a4a").decode()
KEY = b64encode(b"geheim-schluessel-von-32-bytes!!").decode()
METRIC = "certes_delivery_latency_seconds"
OPERATOR = spell_key(KeyId("operator"), bytes(range(32)))
NEVER = (HEADER, SOURCE_SECRET, SIGNING, KEY, "geheim", SIGNING.removeprefix("whsec_"))

NAME = "subscribers/org_1/subscriptions/hook"
SUBSCRIPTION = {
    "name": NAME,
    "selectors": [{"pattern": "community.certes.dev/github/1/*"}],
    "webhook": {"url": "http://127.0.0.1:1/", "secrets": [SIGNING], "headers": {"authorization": HEADER}},
}
CONFIG = f"""
[[sources]]
name = "github"
provider = "github"
audience = "everyone"
secrets = ["{SOURCE_SECRET}"]

[log]
level = "debug"
"""


def ask(client: httpx.Client) -> str:
    """Makes the broker speak of what has secrets, in answers and in refusals; returns all that it said."""
    said = []

    def call(method: str, **request: object) -> None:
        answer = client.post(f"/api/certes.v1.{method}", json=request)
        said.append(f"{answer.status_code} {answer.headers} {answer.text}")

    webhook = SUBSCRIPTION["webhook"]
    assert isinstance(webhook, dict)
    call(
        "SubscriptionService/CreateSubscription",
        parent="subscribers/org_1",
        subscriptionId="hook",
        subscription=SUBSCRIPTION,
    )
    assert said[0].startswith("200 ")
    call(
        "SubscriptionService/CreateSubscription",
        parent="subscribers/org_1",
        subscriptionId="hook",
        subscription=SUBSCRIPTION,
    )
    call("SubscriptionService/GetSubscription", name=NAME)
    call("SubscriptionService/ListSubscriptions", parent="subscribers/org_1")
    for broken in (
        {**webhook, "headers": {"host": HEADER}},
        {**webhook, "headers": {"x": f"{HEADER}\n"}},
        {**webhook, "secrets": [f"{SIGNING}?"]},
        {**webhook, "secrets": [SIGNING.replace("whsec_", "whsk_")]},
        {**webhook, "headers": HEADER},
        {**webhook, "secrets": SIGNING},
    ):
        call("SubscriptionService/UpdateSubscription", subscription={**SUBSCRIPTION, "webhook": broken})
        assert said[-1].startswith("400 "), said[-1]
    call("SubscriptionService/TestSubscription", name=NAME)
    source = {"name": "sources/second", "provider": "github", "everyone": True, "secrets": [SOURCE_SECRET]}
    call("SourceService/CreateSource", sourceId="second", source=source)
    call("SourceService/ListSources")
    call("SourceService/GetSource", name="sources/github")
    said.append(client.post("/events/github", json={}, headers={"x-hub-signature-256": "sha256=00"}).text)
    said += [client.get(path).text for path in ("/", "/readyz", "/metrics", "/.well-known/certes")]
    return "\n".join(said)


def test_no_answer_no_log_and_no_file_shows_a_secret(tmp_path: Path) -> None:
    config = tmp_path / "certes.toml"
    config.write_text(CONFIG)
    with BrokerProcess(tmp_path / "data", config=config, environ={"CERTES_SECRETS_KEYS": KEY}) as broker:
        broker.confide(HEADER, SIGNING)
        broker.start()
        with httpx.Client(base_url=f"http://{broker.http}", trust_env=False) as client:
            said = ask(client)
        kept = _everything(broker.data_dir)
        broker.kill9()
        broker.start()
        with httpx.Client(base_url=f"http://{broker.http}", trust_env=False) as client:
            answer = client.post("/api/certes.v1.SubscriptionService/GetSigningSecrets", json={"name": NAME})
        assert SIGNING in answer.text, "it is kept, and told to who asks for it"
        broker.terminate()
        kept += _everything(broker.data_dir)
        log = broker.log
    for secret in NEVER:
        assert secret not in said
        assert secret not in log
        assert secret.encode() not in kept


DIES = """
import sys

def fail(event, _):
    if event == "sqlite3.connect":
        raise RuntimeError("the end")

sys.addaudithook(fail)
"""
"""Lets a process that opens its database raise what nobody handles."""


def test_a_crash_tells_where_it_was_and_no_secret_and_leaves_no_image_of_the_memory(tmp_path: Path) -> None:
    config = tmp_path / "certes.toml"
    config.write_text(CONFIG)
    environ = {"CERTES_SECRETS_KEYS": KEY, "PYTHONFAULTHANDLER": "1"}
    with BrokerProcess(tmp_path / "data", config=config, environ=environ) as broker:
        broker.confide(HEADER, SIGNING)
        broker.start()
        with httpx.Client(base_url=f"http://{broker.http}", trust_env=False) as client:
            ask(client)
        assert resource.prlimit(broker.pid, resource.RLIMIT_CORE)[0] == 0
        os.kill(broker.pid, signal.SIGABRT)
        assert broker.wait() == -signal.SIGABRT
        assert "Fatal Python error: Aborted" in broker.log
        assert not [secret for secret in NEVER if secret in broker.log]


def test_what_nobody_handles_ends_it_with_a_traceback_that_has_no_secret(tmp_path: Path) -> None:
    config = tmp_path / "certes.toml"
    config.write_text(CONFIG)
    (tmp_path / "sitecustomize.py").write_text(DIES)
    paths = os.pathsep.join(map(str, (tmp_path, ROOT, ROOT / "generated")))
    environ = {"CERTES_SECRETS_KEYS": KEY, "PYTHONPATH": paths}
    broker = BrokerProcess(tmp_path / "data", config=config, environ=environ)
    with pytest.raises(BrokerFailed):
        broker.start()
    assert "Traceback" in broker.log
    assert "RuntimeError: the end" in broker.log
    assert not [secret for secret in NEVER if secret in broker.log]


def test_a_broker_that_writes_a_secret_fails_whoever_ends_it(tmp_path: Path) -> None:
    with BrokerProcess(tmp_path / "data") as broker:
        broker.start()
        # It says where it keeps things, and counts; nobody would call that a secret but this test.
        broker.confide(str(broker.data_dir), METRIC)
        with pytest.raises(SecretEmitted) as told:
            broker.terminate()
    assert '"event": "serving"' in str(told.value).partition("the log: a secret that it was given in: ")[2]
    assert "/metrics: a secret that it was given in: # HELP … " in str(told.value)
    assert str(broker.data_dir) not in str(told.value)


def test_the_metrics_of_a_broker_that_asks_for_keys_and_is_not_stopped_are_looked_at_too(tmp_path: Path) -> None:
    (tmp_path / "certes.toml").write_text(f'[auth]\noperator_key = "{OPERATOR}"\n')
    broker = BrokerProcess(tmp_path / "data", config=tmp_path / "certes.toml")
    with pytest.raises(SecretEmitted, match="/metrics"), broker.start():
        broker.confide(METRIC)


def _everything(directory: Path) -> bytes:
    files = [path for path in directory.rglob("*") if path.is_file()]
    assert files
    return b"".join(path.read_bytes() for path in files)

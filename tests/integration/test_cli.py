"""The command against the real broker: what they say to each other, not what each does by itself."""

from __future__ import annotations

import json
import signal

import pytest

from certes_broker.cli.connect import EVENT_SERVICE, Broker
from certes_broker.domain.uris import parse_gateway_uri
from tests.command import look_at_printed, started
from tests.integration.conftest import Certes

PING = "community.certes.dev/github/1/ping"
PUSH = "community.certes.dev/github/1/push"
DATA = {"zen": "Keep it logically awesome.", "hook_id": "42"}


def publish(certes: Certes, *words: str, event_type: str = PING, data: object = DATA):
    return certes("publish", event_type, "--json", "-", *words, stdin=json.dumps(data))


def test_what_is_published_is_tailed_as_it_was_sent(certes):
    published = publish(certes, "--everyone", "--id", "a", "--subject", "s", "--print-json")
    assert published.returncode == 0, published.stderr
    tailed = certes("tail", "community.certes.dev/github/1/*", "--from", "beginning", "--count", "1", "--json")
    assert tailed.returncode == 0, tailed.stderr
    delivery = json.loads(tailed.stdout)
    assert delivery["name"] == json.loads(published.stdout)["name"]
    event = delivery["event"]
    assert (event["id"], event["type"], event["subject"], event["everyone"]) == ("a", PING, "s", True)
    assert event["data"]["zen"] == DATA["zen"]
    assert "@type" not in event["data"]


def test_a_tail_goes_on_past_what_may_be_outstanding(broker, certes):
    """Without its acknowledgements the broker would stop at the first 256."""
    events = [{"type": PING, "source": "x", "everyone": True, "data": DATA} for _ in range(600)]
    gateway = Broker(parse_gateway_uri(f"events://{broker.http}"))
    gateway.call(EVENT_SERVICE, "Publish", {"events": events}, doing="Publishing")
    tailed = certes("tail", PING, "--from", "beginning", "--count", "600", "--json")
    assert len(tailed.stdout.splitlines()) == 600


def test_an_event_for_one_subscriber_is_not_tailed_by_another(certes):
    publish(certes, "--subscriber", "org_1", "--id", "theirs")
    publish(certes, "--everyone", "--id", "all")
    tailed = certes("tail", "community.certes.dev/**", "--from", "beginning", "--count", "1", "--json")
    assert json.loads(tailed.stdout)["event"]["id"] == "all"
    tailed = certes(
        "tail", "community.certes.dev/**", "--subscriber", "org_1", "--from", "beginning", "--count", "2", "--json"
    )
    assert [json.loads(line)["event"]["id"] for line in tailed.stdout.splitlines()] == ["theirs", "all"]


def test_the_same_id_again_is_a_duplicate_and_other_content_is_refused(certes):
    publish(certes, "--everyone", "--id", "a")
    assert "Already published" in publish(certes, "--everyone", "--id", "a").stdout
    other = publish(certes, "--everyone", "--id", "a", data={"zen": "Other."})
    assert other.returncode == 1
    assert "EVENT_ID_REUSED" in other.stderr


@pytest.mark.parametrize(
    ("event_type", "data", "reason"),
    [
        (PING, {"zne": "x"}, "zne"),
        ("no uri", {}, "MALFORMED_URI"),
        ("community.certes.dev/github/1/nothing", {}, "UNKNOWN_EVENT_TYPE"),
    ],
)
def test_a_refusal_says_what_was_wrong(certes, event_type, data, reason):
    result = publish(certes, "--everyone", event_type=event_type, data=data)
    assert result.returncode == 1
    assert reason in result.stderr


def test_a_pattern_that_matches_nothing_is_refused_at_once(certes):
    result = certes("tail", "community.certes.dev/github/x/push")
    assert result.returncode == 1
    assert "UNMATCHABLE_PATTERN" in result.stderr


def test_a_subscription_is_created_listed_shown_and_deleted(certes):
    created = certes("subscriptions", "create", "billing", "--pattern", PUSH, "--option", "repo=meetly/meetly")
    assert created.returncode == 0, created.stderr
    listed = json.loads(certes("subscriptions", "list", "--json").stdout)
    assert [item["name"] for item in listed] == ["subscribers/default/subscriptions/billing"]
    shown = certes("subscriptions", "get", "billing").stdout
    assert f"{PUSH} repo=meetly/meetly" in shown
    assert "active" in shown
    again = certes("subscriptions", "create", "billing", "--pattern", PUSH)
    assert again.returncode == 1
    assert "SUBSCRIPTION_EXISTS" in again.stderr
    assert certes("subscriptions", "delete", "billing").returncode == 0
    assert json.loads(certes("subscriptions", "list", "--json").stdout) == []
    missing = certes("subscriptions", "get", "nobody")
    assert missing.returncode == 1
    assert "SUBSCRIPTION_NOT_FOUND" in missing.stderr


def test_a_webhook_subscription_has_a_secret_that_can_be_read(certes):
    created = certes("subscriptions", "create", "hook", "--pattern", PUSH, "--webhook", "http://127.0.0.1:9/hook")
    assert created.returncode == 0, created.stderr
    shown = json.loads(certes("subscriptions", "get", "hook", "--secrets", "--json").stdout)
    assert shown["signingSecrets"][0]["secret"].startswith("whsec_")
    assert "whsec_" not in certes("subscriptions", "get", "hook", "--json").stdout


def test_ctrl_c_ends_a_live_tail(broker):
    tail = started("tail", "community.certes.dev/**", CERTES_BROKER=broker.http)
    assert tail.stderr is not None
    assert "Waiting" in tail.stderr.readline()
    tail.send_signal(signal.SIGINT)
    output, errors = tail.communicate(timeout=20)
    look_at_printed(["tail"], output, errors)
    assert (tail.returncode, errors) == (130, "")


def test_a_tail_ends_with_a_reason_when_the_broker_stops(broker):
    tail = started("tail", "community.certes.dev/**", CERTES_BROKER=broker.http)
    assert tail.stderr is not None
    tail.stderr.readline()
    assert broker.terminate() == 0
    output, errors = tail.communicate(timeout=20)
    look_at_printed(["tail"], output, errors)
    assert tail.returncode == 3
    assert "Tailing community.certes.dev/**" in errors


def test_doctor_knows_a_certes_from_something_else(broker, certes, tmp_path):
    env = {"CERTES_HTTP_LISTEN": broker.http, "CERTES_GRPC_LISTEN": broker.grpc}
    result = certes("doctor", "--json", "--data-dir", str(tmp_path / "data"), **env)
    facts = {finding["subject"]: finding["fact"] for finding in json.loads(result.stdout)}
    assert facts["HTTP port"] == f"a Certes answers at {broker.http}"
    assert facts["gRPC port"] == f"a Certes answers at {broker.grpc}"
    assert result.returncode == 0


def test_a_second_broker_on_the_same_data_is_told_so(broker, certes):
    ports = ("--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0")
    result = certes("serve", "--data-dir", str(broker.data_dir), *ports)
    assert result.returncode == 4
    assert str(broker.data_dir) in result.stderr


def test_what_was_published_survives_sigkill(broker, certes):
    publish(certes, "--everyone", "--id", "a")
    broker.kill9()
    broker.start()
    tailed = certes("tail", "community.certes.dev/**", "--from", "beginning", "--count", "1", "--json")
    assert json.loads(tailed.stdout)["event"]["id"] == "a"

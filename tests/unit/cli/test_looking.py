"""`certes ping` and `certes stats`."""

from __future__ import annotations

import json

from certes_broker.cli.failures import ExitCode


def test_a_ready_broker_is_said_to_be_ready(certes, gateway):
    gateway.answer("Ping", {"version": "1.2.3"})
    result = certes("ping", "--broker", gateway.address)
    assert result.exit_code == ExitCode.OK
    assert "Certes 1.2.3" in result.stdout
    assert "is ready." in result.stdout


def test_what_does_not_work_is_named_and_the_exit_code_tells(certes, gateway):
    gateway.answer("Ping", {"version": "1.2.3", "unavailable": ["storage"], "weakerGuarantees": ["It is alone."]})
    result = certes("ping", "--broker", gateway.address)
    assert result.exit_code == ExitCode.UNFIT
    assert "not ready: storage" in result.stdout
    assert "It is alone." in result.stdout


def test_figures_are_shown_with_what_they_mean(certes, gateway):
    answer = {
        "acceptedEvents": "12345",
        "deliveryLatencyP99": "0.150s",
        "subscriptions": {"paused": "1", "active": "1200"},
        "openStreams": "0",
        "rejectedWebhooks": {"SIGNATURE_INVALID": "1300"},
    }
    gateway.answer("GetStats", answer)
    shown = certes("stats", "--broker", gateway.address).stdout
    for part in ("events accepted", "12,345", "0.150 s", "1,200 active, 1 paused", "1,300 SIGNATURE_INVALID"):
        assert part in shown
    gateway.answer("GetStats", answer)
    assert json.loads(certes("stats", "--json", "--broker", gateway.address).stdout) == answer

"""Discovery, as the whole process answers it."""

from __future__ import annotations

import httpx

from scripts.broker_process import BrokerProcess


def test_discovery_names_the_grpc_address_and_every_domain_whose_events_are_served(broker: BrokerProcess) -> None:
    document = httpx.get(f"http://{broker.http}/.well-known/certes").json()
    assert document["grpc"] == {"address": broker.grpc, "tls": False, "clientCertificate": False}
    assert document["domains"] == ["community.certes.dev", "localhost"]

"""Callers that prove who they are by a certificate, at both ports of the real process."""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from google.protobuf.json_format import ParseDict
from google.rpc.error_details_pb2 import ErrorInfo
from grpc import aio
from grpc.experimental import session_cache
from grpc_status import rpc_status

from certes.community.github.v1.ping_event_pb2 import PingEvent
from certes.v1 import event_service_pb2 as pb
from certes_broker.domain.api_keys import KeyId, spell_key
from scripts.broker_process import BrokerProcess
from tests.acceptance.conftest import StartBroker
from tests.certificates import Authority

OPERATOR = spell_key(KeyId("operator"), os.urandom(32))
PING = "community.certes.dev/github/1/ping"
SERVICE = "certes.v1.EventService"
SETTINGS = """
[tls]
certificate = "{certificate}"
key = "{key}"
client_ca = "{client_ca}"
http_clients = "optional"

[auth]
operator_key = "{operator}"
client_crl = "{crl}"

[[auth.certificates]]
uri = "spiffe://example.com/shop/*"
roles = ["publisher"]
subscribers = ["org_1"]
sources = ["//shop"]

[[auth.certificates]]
dns = "reader.example.com"
roles = ["subscriber"]
subscribers = ["org_2"]
"""


Ask = Callable[[str, Mapping[str, Any]], Awaitable[str]]


@dataclass(frozen=True)
class Port:
    """One of the two, as a client with a certificate, or without one, sees it."""

    broker: BrokerProcess
    authority: Authority
    shown: tuple[Path, Path] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    async def ask(self, method: str, request: Mapping[str, Any]) -> str:
        """Calls a method of the events over a new connection; returns the reason of its refusal, or "" if there is none."""
        async with self.connected() as ask:
            return await ask(method, request)

    def connected(self) -> AbstractAsyncContextManager[Ask]:
        """Has one connection, over which methods can be called so."""
        raise NotImplementedError


class Http(Port):
    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Ask]:
        trusting = ssl.create_default_context(cafile=str(self.authority.ca))
        if self.shown is not None:
            trusting.load_cert_chain(*self.shown)
        async with httpx.AsyncClient(verify=trusting, trust_env=False, timeout=60) as client:

            async def ask(method: str, request: Mapping[str, Any]) -> str:
                url = f"https://{self.broker.http}/api/{SERVICE}/{method}"
                answer = await client.post(url, json=request, headers=self.headers)
                return "" if answer.status_code == 200 else answer.json()["details"][0]["debug"]["reason"]

            yield ask


@dataclass(frozen=True)
class Grpc(Port):
    """It resumes its session of TLS, in which nobody is asked for a certificate again."""

    sessions: Any = field(default_factory=lambda: session_cache.ssl_session_cache_lru(1))

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Ask]:
        chain, key = (None, None) if self.shown is None else (path.read_bytes() for path in self.shown)
        credentials = grpc.ssl_channel_credentials(self.authority.ca.read_bytes(), key, chain)
        options = (("grpc.ssl_session_cache", self.sessions), ("grpc.use_local_subchannel_pool", 1))
        async with aio.secure_channel(self.broker.grpc, credentials, options) as channel:

            async def ask(method: str, request: Mapping[str, Any]) -> str:
                wire = ParseDict(request, getattr(pb, f"{method}Request")()).SerializeToString()
                metadata = tuple(self.headers.items())
                try:
                    await channel.unary_unary(f"/{SERVICE}/{method}")(wire, timeout=60, metadata=metadata)
                except aio.AioRpcError as error:
                    status: Any = rpc_status.from_call(error)
                    if status is None:
                        raise
                    info = ErrorInfo()
                    status.details[0].Unpack(info)
                    return info.reason
                return ""

            yield ask


def event_for(subscriber: str) -> dict[str, Any]:
    data = {"@type": f"type.googleapis.com/{PingEvent.DESCRIPTOR.full_name}", "zen": "Who goes there?"}
    return {"events": [{"type": PING, "source": "//shop", "subscriber": subscriber, "data": data}]}


def events_of(subscriber: str) -> dict[str, Any]:
    return {"parent": f"subscribers/{subscriber}"}


def settings(authority: Authority, crl: Path) -> str:
    """Settings of a broker whose authority has taken back nothing yet."""
    crl.write_bytes(authority.revoke())
    certificate, key = authority.issue("broker")
    files = {"certificate": certificate, "key": key, "client_ca": authority.ca, "crl": crl}
    return SETTINGS.format(**files, operator=OPERATOR)


async def test_a_certificate_is_its_principal_at_both_ports_and_lets_nobody_else_in(
    start_broker: StartBroker, tmp_path: Path
) -> None:
    authority = Authority(tmp_path / "authority")
    shop = authority.issue("shop", uri="spiffe://example.com/shop/eu")
    reader = authority.issue("reader.example.com")
    # Whoever may choose a common name is not by that whom another entry means.
    stranger = authority.issue("stranger", common_name="spiffe://example.com/shop/eu")
    broker = start_broker(settings(authority, tmp_path / "clients.crl"))

    for port in (Http, Grpc):
        publishing, reading = port(broker, authority, shop), port(broker, authority, reader)
        assert await publishing.ask("Publish", event_for("org_1")) == ""
        assert await publishing.ask("Publish", event_for("org_2")) == "NOT_BOUND_TO"
        assert await publishing.ask("ListEvents", events_of("org_2")) == "ROLE_MISSING"
        assert await reading.ask("ListEvents", events_of("org_2")) == ""
        assert await reading.ask("ListEvents", events_of("org_1")) == "NOT_BOUND_TO"
        assert await port(broker, authority, stranger).ask("ListEvents", events_of("org_2")) == "CREDENTIALS_MISSING"
        with_key = port(broker, authority, stranger, {"authorization": f"Bearer {OPERATOR}"})
        assert await with_key.ask("ListEvents", events_of("-")) == ""
        wrong = port(broker, authority, reader, {"authorization": "Bearer x"})
        assert await wrong.ask("ListEvents", events_of("org_2")) == "CREDENTIALS_INVALID"

    assert await Http(broker, authority).ask("ListEvents", events_of("org_2")) == "CREDENTIALS_MISSING"
    with pytest.raises(aio.AioRpcError, match="UNAVAILABLE"):
        await Grpc(broker, authority).ask("ListEvents", events_of("org_2"))


async def test_a_certificate_that_is_taken_back_is_refused_at_both_ports_over_connections_that_live(
    start_broker: StartBroker, tmp_path: Path
) -> None:
    authority, crl = Authority(tmp_path / "authority"), tmp_path / "clients.crl"
    broker = start_broker(settings(authority, crl))
    lost = authority.issue("reader.example.com")
    asked = "ListEvents", events_of("org_2")
    resuming = Grpc(broker, authority, lost)
    assert [await resuming.ask(*asked), await resuming.ask(*asked)] == ["", ""]
    async with Http(broker, authority, lost).connected() as http, Grpc(broker, authority, lost).connected() as rpc:
        assert [await http(*asked), await rpc(*asked)] == ["", ""]
        crl.write_bytes(authority.revoke(lost[0]))
        assert [await http(*asked), await rpc(*asked), await resuming.ask(*asked)] == ["CREDENTIALS_INVALID"] * 3

    renewed = authority.issue("reader.example.com")
    for port in (Http, Grpc):
        assert await port(broker, authority, renewed).ask(*asked) == ""
    assert "revocations_renewed" in broker.log

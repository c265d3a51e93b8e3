"""The files of TLS: what is wrong with them is told at once, and what is renewed is shown."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives import serialization
from grpc import aio

from certes.community.github.v1.push_event_pb2 import PushEvent
from certes.v1 import event_service_pb2_grpc as events_rpc
from certes.v1 import subscription_service_pb2_grpc as subscriptions_rpc
from certes_sdk import CertesError, Client, outgoing
from certes_sdk.discovery import Found
from tests.certificates import Authority
from tests.fakes.sdk_broker import PUSH, FakeBroker, Refusal, accept

EVENT = outgoing(PushEvent(), everyone=True)


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path / "ours")


@pytest.fixture
def shown(authority, tmp_path):
    """The paths of a certificate, its key, and of what is neither."""
    certificate, key = authority.issue("app")
    (tmp_path / "rubbish").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    (tmp_path / "empty").write_text("")
    opened = serialization.load_pem_private_key(key.read_bytes(), password=None)
    secret = serialization.BestAvailableEncryption(b"secret")
    pem = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (tmp_path / "locked").write_bytes(opened.private_bytes(*pem, secret))
    (tmp_path / "both").write_bytes(certificate.read_bytes() + key.read_bytes())
    files = {name: str(tmp_path / name) for name in ("rubbish", "empty", "locked", "both", "missing")}
    return {**files, "cert": str(certificate), "key": str(key), "other": str(authority.issue("other")[1])}


@pytest.mark.parametrize(
    ("given", "field", "said"),
    [
        ({"ca_file": "missing"}, "ca_file", "No such file"),
        ({"ca_file": "empty"}, "ca_file", "holds no certificate in PEM"),
        ({"certificate": "missing", "certificate_key": "key"}, "certificate", "No such file"),
        ({"certificate": "cert", "certificate_key": "missing"}, "certificate_key", "No such file"),
        ({"certificate": "key", "certificate_key": "key"}, "certificate", "holds no certificate in PEM"),
        ({"certificate": "rubbish", "certificate_key": "key"}, "certificate", "holds no certificate in PEM"),
        ({"certificate": "cert", "certificate_key": "cert"}, "certificate_key", "holds no private key in PEM"),
        ({"certificate": "cert", "certificate_key": "other"}, "certificate_key", "is not the key of the certificate"),
        ({"certificate": "cert", "certificate_key": "locked"}, "certificate_key", "encrypted"),
    ],
)
def test_a_file_that_is_no_good_is_refused_by_the_name_of_its_setting(shown, given, field, said):
    with pytest.raises(CertesError, match=said) as caught:
        Client("events://d.example", **{setting: shown[name] for setting, name in given.items()})
    assert (caught.value.reason, caught.value.metadata) == ("FIELD_INVALID", {"field": field})


def test_a_certificate_and_its_key_may_be_in_one_file(shown):
    Client("events://d.example", certificate=shown["both"], certificate_key=shown["both"])


class Gatekeeper(FakeBroker):
    """A broker that asks for certificates, and refuses callers whose own is of one name."""

    refused = b""

    async def PublishStream(self, requests, context):  # noqa: N802
        async for request in requests:
            await self._let_in(context)
            yield accept(request)

    async def Publish(self, request, context):  # noqa: N802
        await self._let_in(context)
        return await super().Publish(request, context)

    async def Subscribe(self, request, context):  # noqa: N802
        await self._let_in(context)
        async for frame in super().Subscribe(request, context):
            yield frame

    async def _let_in(self, context):
        if self.refused in context.auth_context()["x509_common_name"]:
            await context.abort_with_status(Refusal("UNAUTHENTICATED", "CREDENTIALS_INVALID").status())


@pytest.fixture
async def gatekeeper(authority):
    broker, server = Gatekeeper(), aio.server()
    events_rpc.add_EventServiceServicer_to_server(broker, server)
    subscriptions_rpc.add_SubscriptionServiceServicer_to_server(broker, server)
    certificate, key = authority.issue("broker")
    pair = [(key.read_bytes(), certificate.read_bytes())]
    credentials = grpc.ssl_server_credentials(pair, authority.ca.read_bytes(), require_client_auth=True)
    broker.port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    yield broker
    await server.stop(None)


@pytest.fixture
async def client(shown, authority, gatekeeper):
    found = Found(f"127.0.0.1:{gatekeeper.port}", tls=True, domain="d.example")
    files = {"ca_file": str(authority.ca), "certificate": shown["cert"], "certificate_key": shown["key"]}
    async with (
        asyncio.timeout(50),
        Client("events://d.example", app="a", **files)._with(finder=lambda: found) as client,
    ):
        yield client


def renew(shown, authority, *names: str) -> None:
    renewed = dict(zip(("cert", "key"), authority.issue("renewed"), strict=True))
    for name in names or renewed:
        Path(shown[name]).write_bytes(renewed[name].read_bytes())


async def test_without_a_certificate_a_gateway_that_says_that_grpc_asks_for_one_is_not_connected_to():
    found = Found("127.0.0.1:1", tls=True, domain="d.example", asks_certificate=True)
    async with asyncio.timeout(50), Client("events://d.example", app="a")._with(finder=lambda: found) as client:
        with pytest.raises(CertesError) as caught:
            await client.publish(PushEvent(), everyone=True)
    assert (caught.value.reason, caught.value.retryable) == ("CERTIFICATE_MISSING", False)


async def test_a_certificate_that_was_renewed_is_shown_once_the_former_is_refused(shown, authority, gatekeeper, client):
    """Its connection lives, so nothing else would make it show another."""
    await client.publish(PushEvent(), everyone=True)
    gatekeeper.refused = b"app"
    for publishing in (client.publish(PushEvent(), everyone=True), client.publish_all([EVENT])):
        with pytest.raises(CertesError) as caught:
            await publishing
        assert caught.value.reason == "CREDENTIALS_INVALID"
    renew(shown, authority)
    await client.publish(PushEvent(), everyone=True)
    gatekeeper.refused = b"renewed"
    with pytest.raises(CertesError):
        await client.publish_all([EVENT])


async def test_a_stream_is_opened_again_with_a_certificate_that_was_renewed(shown, authority, gatekeeper, client):
    client.on(PUSH)(lambda raw: None)
    await client.ensure_subscriptions(PUSH)
    stream = await gatekeeper.streams.get()
    renew(shown, authority)
    gatekeeper.refused = b"app"
    stream.end(Refusal("UNAUTHENTICATED", "CREDENTIALS_INVALID"))
    await gatekeeper.streams.get()


async def test_while_renewed_files_do_not_fit_together_those_that_did_are_shown(
    shown, authority, gatekeeper, client, warnings
):
    await client.publish(PushEvent(), everyone=True)
    renew(shown, authority, "cert")
    client.session()._connection.doubt()
    await client.publish_all([EVENT])
    assert "is not the key of the certificate" in "".join(warnings())

"""The address guard and names: it judges every address that a name leads to, each time a connection is opened.

What the resolver says is given to libcurl beforehand (`CURLOPT_RESOLVE`), so no resolver is asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from ipaddress import ip_network

import pycurl
import pytest

from certes_broker.ports.sender import SendFailure, SendResult
from certes_broker.webhook.addresses import AddressPolicy
from certes_broker.webhook.transfer import Transfer, TransferSettings
from certes_broker.webhook.trust import trusted_authorities
from tests.contracts.sender_contract import post
from tests.fakes.http_receiver import HttpReceiver, answer, http_receiver, saying

NAME = "receiver.example"
ONLY_ITS_OWN = AddressPolicy(allow=(ip_network("127.0.0.1/32"),))


@pytest.fixture
async def receiver() -> AsyncIterator[HttpReceiver]:
    async with http_receiver() as running:
        running.behave(saying(answer(200)))
        yield running


@pytest.fixture
def transfer() -> Iterator[Transfer]:
    made = Transfer(TransferSettings(ONLY_ITS_OWN, "Certes", trusted_authorities()))
    yield made
    made.close()


async def send(transfer: Transfer, port: int, *addresses: str) -> SendResult:
    """Sends to the name, which resolves to these addresses from now on, by a new connection."""
    transfer.forget()
    transfer.curl.setopt(pycurl.RESOLVE, [f"-{NAME}:{port}", f"{NAME}:{port}:{','.join(addresses)}"])
    transfer.curl.setopt(pycurl.FRESH_CONNECT, 1)
    assert transfer.prepare(post(f"http://{NAME}:{port}/0")) is None
    code, message = pycurl.E_OK, ""
    try:
        await asyncio.to_thread(transfer.curl.perform)
    except pycurl.error as error:
        code, message = error.args
    return transfer.result(code, message)


@pytest.mark.parametrize(
    "addresses",
    [("10.0.0.1",), ("169.254.169.254",), ("127.0.0.2",), ("[::1]",), ("[::ffff:10.0.0.1]",), ("10.0.0.1", "10.0.0.2")],
    ids="_".join,
)
async def test_a_name_that_leads_to_forbidden_addresses_only_is_refused(
    transfer: Transfer, receiver: HttpReceiver, addresses: tuple[str, ...]
) -> None:
    result = await send(transfer, receiver.port, *addresses)
    assert (result.status, result.failure) == (None, SendFailure.ADDRESS_REFUSED)
    assert "address guard" in result.error
    assert receiver.connections == 0


@pytest.mark.parametrize("addresses", [("10.0.0.1", "127.0.0.1"), ("127.0.0.1", "10.0.0.1")], ids="_".join)
async def test_of_several_addresses_a_forbidden_one_is_passed_over(
    transfer: Transfer, receiver: HttpReceiver, addresses: tuple[str, ...]
) -> None:
    result = await send(transfer, receiver.port, *addresses)
    assert result.status == 200
    assert len(receiver.arrivals) == 1


@pytest.mark.parametrize(
    ("host", "address", "found"),
    [
        (NAME, "0.0.0.0", [NAME]),
        (NAME.upper(), "0.0.0.0", [NAME]),
        ("0.0.0.0", "0.0.0.0", []),
        (NAME, "127.0.0.1", []),
    ],
)
async def test_a_name_that_led_to_an_address_elsewhere_shows_that_the_resolver_works(
    host: str, address: str, found: list[str]
) -> None:
    heard: list[str] = []
    allowed = AddressPolicy(allow=(ip_network("0.0.0.0/32"), ip_network("127.0.0.1/32")))
    transfer = Transfer(TransferSettings(allowed, "Certes", trusted_authorities(), heard.append))
    transfer.curl.setopt(pycurl.RESOLVE, [f"{NAME}:9:{address}"])
    assert transfer.prepare(post(f"http://{host}:9/")) is None
    # This machine by another name than its loopback; nobody listens.
    with suppress(pycurl.error):
        await asyncio.to_thread(transfer.curl.perform)
    transfer.close()
    assert heard == found


async def test_a_try_that_ended_before_any_address_was_known_could_not_be_resolved(transfer: Transfer) -> None:
    assert transfer.prepare(post(f"http://{NAME}/")) is None
    result = transfer.result(pycurl.E_OPERATION_TIMEDOUT, "Resolving timed out after 5000 milliseconds")
    assert (result.status, result.failure) == (None, SendFailure.RESOLVE)


@pytest.mark.parametrize("address", ["127.0.0.1", "[::1]", "[::ffff:10.0.0.1]"])
async def test_an_address_needs_no_resolver(transfer: Transfer, address: str) -> None:
    assert transfer.prepare(post(f"http://{address}:9/")) is None
    result = transfer.result(pycurl.E_OPERATION_TIMEDOUT, "Connection timed out after 5000 milliseconds")
    assert (result.status, result.failure) == (None, SendFailure.TIMEOUT)


async def test_a_try_by_a_connection_that_was_there_already_needed_no_resolver(
    transfer: Transfer, receiver: HttpReceiver
) -> None:
    assert (await send(transfer, receiver.port, "127.0.0.1")).status == 200
    transfer.forget()
    transfer.curl.setopt(pycurl.FRESH_CONNECT, 0)
    assert transfer.prepare(post(f"http://{NAME}:{receiver.port}/0")) is None
    await asyncio.to_thread(transfer.curl.perform)
    assert receiver.connections == 1
    result = transfer.result(pycurl.E_OPERATION_TIMEDOUT, "Operation timed out after 15000 milliseconds")
    assert (result.status, result.failure) == (None, SendFailure.TIMEOUT)


async def test_a_name_that_leads_elsewhere_later_is_judged_anew(transfer: Transfer, receiver: HttpReceiver) -> None:
    assert (await send(transfer, receiver.port, "127.0.0.1")).status == 200
    assert (await send(transfer, receiver.port, "10.0.0.1")).failure is SendFailure.ADDRESS_REFUSED
    assert (await send(transfer, receiver.port, "127.0.0.1")).status == 200
    assert len(receiver.arrivals) == 2

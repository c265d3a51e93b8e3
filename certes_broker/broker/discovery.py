"""Discovery: the schemas of other gateways, fetched over their public API and remembered for a while.

Rules
-----
* The address guard of webhooks judges these connections too: the caller says where to, and must not reach what only this
  machine can.
* Answers are read in a worker process where they are long: made of empty messages they take a hundred times as much.
* Whatever a gateway answers, memory is bounded: by the bytes and pages of one answer, by the count and bytes of all that is
  remembered, and by how many are asked at once.
* Several who ask for the same at once share one fetch. What failed is not remembered.
* Foreign schemas are shown. They enter no registry: no event is taken because another gateway has its schema.
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from certes_broker.broker.conversion import WIRE_BYTES, Conversion
from certes_broker.domain.discovery import DiscoveryUri, api_url
from certes_broker.domain.errors import CertesError, Exhausted, PermissionDenied, Reason, Unavailable
from certes_broker.domain.events import Micros
from certes_broker.domain.schemas import VersionName
from certes_broker.ports.clock import Clock
from certes_broker.ports.sender import Sender, SendFailure, SendRequest, SendResult
from certes_broker.schemas.foreign import (
    CONTENT_TYPE,
    LIST_PATH,
    ForeignAnswerMalformed,
    ForeignPage,
    ForeignSchema,
    foreign_page_of,
    list_request,
    read_foreign_page,
)

LIFETIME: Final = 300.0
"""Seconds for which an answer is remembered."""
REMEMBERED: Final = 256
"""How many answers are."""
REMEMBERED_BYTES: Final = 64 << 20
"""Their bytes."""
PAGE_BYTES: Final = 4 << 20
PAGES: Final = 64
GATEWAY_BYTES: Final = 16 << 20
"""Of all that one gateway serves."""
SCHEMA_BYTES: Final = 1 << 10
"""What remembering a schema takes beside its bytes."""
AT_ONCE: Final = 4
"""How many gateways are asked at once."""
_WAITING: Final = 64
_TIMEOUT: Final = 10.0
_LONGEST_FETCH: Final = 30.0
_CONNECT_TIMEOUT: Final = 5.0


@dataclass(frozen=True, slots=True)
class Discovered:
    """What a gateway serves: schemas by event URI, and the versions that they belong to, as wire bytes."""

    schemas: tuple[ForeignSchema, ...]
    versions: dict[VersionName, bytes]
    fetch_time: Micros
    expire_time: Micros
    bytes: int


class Discovery:
    """Finds out what other gateways serve."""

    def __init__(self, sender: Sender, clock: Clock, conversion: Conversion) -> None:
        self._sender = sender
        self._conversion = conversion
        self._clock = clock
        self._remembered: OrderedDict[DiscoveryUri, Discovered] = OrderedDict()
        self._bytes = 0
        self._under_way: dict[DiscoveryUri, asyncio.Future[Discovered]] = {}
        self._places = asyncio.Semaphore(AT_ONCE)

    @property
    def remembered_bytes(self) -> int:
        """Bytes of all that is remembered."""
        return self._bytes

    async def find(self, uri: DiscoveryUri, *, refresh: bool = False) -> Discovered:
        """Returns what a gateway serves.

        Raises `Unavailable` (GATEWAY_UNREACHABLE), `PermissionDenied` (ADDRESS_NOT_ALLOWED), and `Exhausted` (BUFFER_FULL)
        where too many are being asked.
        """
        known = self._remembered.get(uri)
        if known is not None and not refresh and known.fetch_time <= self._clock.now() < known.expire_time:
            self._remembered.move_to_end(uri)
            return known
        while (under_way := self._under_way.get(uri)) is not None:
            await asyncio.wait([under_way])
            if not under_way.cancelled():
                return under_way.result()
            # Whoever fetched has gone away; somebody else has to.
        if len(self._under_way) >= _WAITING:
            raise Exhausted(
                Reason.BUFFER_FULL,
                f"{len(self._under_way)} gateways are being asked for their schemas.",
                hint="Try again after the delay.",
                retry_after=1.0,
            )
        return await self._find(uri)

    async def _find(self, uri: DiscoveryUri) -> Discovered:
        future: asyncio.Future[Discovered] = asyncio.get_running_loop().create_future()
        self._under_way[uri] = future
        try:
            async with self._places:
                found = await self._fetch_in_time(uri)
        except CertesError as error:
            future.set_exception(error)
            future.exception()  # It counts as seen: nobody else may have asked.
            raise
        else:
            future.set_result(found)
            self._remember(uri, found)
            return found
        finally:
            future.cancel()
            del self._under_way[uri]

    async def _fetch_in_time(self, uri: DiscoveryUri) -> Discovered:
        try:
            async with asyncio.timeout(_LONGEST_FETCH):
                return await self._fetch(uri)
        except TimeoutError:
            raise _unreachable(uri, f"it did not tell them all within {_LONGEST_FETCH:g} s") from None

    async def _fetch(self, uri: DiscoveryUri) -> Discovered:
        schemas: dict[str, ForeignSchema] = {}
        versions: dict[VersionName, bytes] = {}
        size, token = 0, ""
        for _ in range(PAGES):
            body = await self._ask(uri, token)
            page = await self._read(uri, body)
            size += len(body) + SCHEMA_BYTES * (len(page.schemas) + len(page.versions))
            if size > GATEWAY_BYTES:
                break
            wanted = (one for one in page.schemas if uri.namespace in ("", one.type.namespace))
            schemas.update({schema.type.text: schema for schema in wanted})
            versions.update(page.versions)
            token = page.next_page_token
            if not token:
                now = self._clock.now()
                ordered = tuple(schemas[text] for text in sorted(schemas))
                used = {schema.version for schema in ordered}
                versions = {name: version for name, version in versions.items() if name in used}
                return Discovered(ordered, versions, now, Micros(now + int(LIFETIME * 1_000_000)), size)
        raise _unreachable(
            uri,
            f"it serves more than this broker reads ({GATEWAY_BYTES} bytes, {PAGES} pages)",
            "Ask for one namespace.",
        )

    async def _ask(self, uri: DiscoveryUri, page_token: str) -> bytes:
        result = await self._sender.send(
            SendRequest(
                api_url(uri.gateway) + LIST_PATH,
                {"content-type": CONTENT_TYPE, "connect-protocol-version": "1", "accept-encoding": "identity"},
                list_request(uri.namespace, page_token),
                _TIMEOUT,
                _CONNECT_TIMEOUT,
                PAGE_BYTES,
            )
        )
        if result.failure is SendFailure.ADDRESS_REFUSED:
            raise PermissionDenied(
                Reason.ADDRESS_NOT_ALLOWED,
                f"{uri.gateway} is not asked for its schemas: {result.error}",
                metadata={"gateway": uri.gateway.text},
            )
        if result.failure is not None:
            raise _unreachable(uri, f"it does not answer: {result.error}")
        if not result.is_success:
            raise _unreachable(uri, f"it refused with HTTP {result.status}{_said(result)}")
        if result.headers.get("content-type", "").partition(";")[0].strip() != CONTENT_TYPE:
            raise _unreachable(uri, "what answers there is no gateway")
        if len(result.answer) >= PAGE_BYTES:
            raise _unreachable(uri, f"one answer has more than {PAGE_BYTES} bytes")
        return result.answer

    async def _read(self, uri: DiscoveryUri, body: bytes) -> ForeignPage:
        heavy = len(body) > WIRE_BYTES
        try:
            return foreign_page_of(await self._conversion.do(read_foreign_page, body, uri.gateway.text, heavy=heavy))
        except ForeignAnswerMalformed as error:
            raise _unreachable(uri, str(error)) from None

    def _remember(self, uri: DiscoveryUri, found: Discovered) -> None:
        former = self._remembered.pop(uri, None)
        if former is not None:
            self._bytes -= former.bytes
        self._remembered[uri] = found
        self._bytes += found.bytes
        while len(self._remembered) > REMEMBERED or self._bytes > REMEMBERED_BYTES:
            _, oldest = self._remembered.popitem(last=False)
            self._bytes -= oldest.bytes


def _unreachable(uri: DiscoveryUri, problem: str, hint: str = "") -> Unavailable:
    return Unavailable(
        Reason.GATEWAY_UNREACHABLE,
        f"The schemas of {uri.text} could not be fetched: {problem}.",
        hint=hint or "Look whether a Certes gateway answers there: GET /.well-known/certes.",
        metadata={"gateway": uri.gateway.text},
    )


def _said(result: SendResult) -> str:
    """Returns the message of a Connect error, where the answer is one."""
    try:
        message = json.loads(result.answer).get("message", "")
    except (ValueError, AttributeError):
        return ""
    return f": {message[:200]}" if isinstance(message, str) and message else ""

"""The connection to the NATS servers: requests, and what their failures mean.

Rules
-----
* The client reconnects for ever, to any of the servers. Meanwhile whoever asks waits a little (`PATIENCE`), since a server
  that restarts or a stream that elects a leader is back soon, and is then told `Unavailable`.
* A request that got no answer is sent again until that time is up. So a request must be harmless when it is made twice:
  reads are, and messages carry an id by which the stream knows them (`publishing`).
* What JetStream refuses for the moment is asked again like what was not answered. Any other refusal is a `Refusal`, for
  the caller to make sense of.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import SystemRandom
from typing import Any, Final

import structlog
from nats import errors
from nats.aio.client import Client, Server
from nats.aio.msg import Msg

from certes_broker.domain.errors import FailedPrecondition, Invalid, Reason, Unavailable
from certes_broker.engines.nats.credentials import Credentials
from certes_broker.engines.nats.mailbox import Mailbox

PATIENCE: Final = 5.0
"""Seconds for which a request is repeated."""
ANSWER: Final = 1.0
"""Seconds after which one that was not answered is sent again."""
STARTING: Final = 30.0
"""Seconds for which what a start needs is asked for: a cluster that has just begun elects leaders of everything."""
AGAIN: Final = 0.05
HEARD: Final = 0.25
"""Seconds in which servers say that nobody has a subject, and somebody who has it answers."""
CONNECTING: Final = 10.0
"""Seconds that a first connection may take."""
AWAY: Final = 0.2
"""Seconds before a server is tried that could not be connected to when it was tried last."""
PING: Final = 1
"""Seconds between pings. A server that has not answered two of them is given up, for another."""
HEADERS: Final = 256
"""What a message's headers are taken to need, roughly, beside their names and values."""

NO_MESSAGE: Final = 10037
WRONG_LAST_SEQUENCE: Final = 10071
STREAM_NOT_FOUND: Final = 10059
PASSING: Final = frozenset({10008, 10009, 10158, 10164, 10077, 10118, 10210})
"""Refusals that pass: no leader or not here, a message of this id or subject under way, a store that is being closed."""

CHANCE: Final = SystemRandom().random

log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)


class Refusal(Exception):
    """JetStream's refusal of a request."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        super().__init__(str(error.get("description", "")))
        self.code: int = error.get("code", 0)
        self.error_code: int = error.get("err_code", 0)


@dataclass(frozen=True, slots=True)
class Access:
    """Where the servers are, and how this client proves who it is. None of the secrets is shown.

    Who `waits` tries again for a while to connect to servers that may be about to start. Who does not tries each a second time only.
    """

    urls: tuple[str, ...]
    credentials: Path | None = None
    token: str | None = field(default=None, repr=False)
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = field(default=None, repr=False)
    waits: bool = True

    @property
    def text(self) -> str:
        """The servers, for a person; without what an address may say of a user."""
        return ", ".join(url.rpartition("@")[2].removeprefix("nats://").removeprefix("tls://") for url in self.urls)

    @property
    def means(self) -> str:
        """What this client shows to be let in, for a person."""
        if self.credentials is not None:
            return f"the credentials of {self.credentials}"
        return "a token" if self.token else "no credentials or token"

    def tls(self) -> ssl.SSLContext | None:
        """Returns the TLS settings; None where neither addresses nor settings ask for TLS."""
        if not (self.ca or self.certificate or any(url.startswith("tls://") for url in self.urls)):
            return None
        context = ssl.create_default_context(cafile=self.ca)
        if self.certificate is not None:
            context.load_cert_chain(self.certificate, self.key)
        return context


class Rotation:
    """Which server is connected to next: the one that was used or tried least recently, by chance among those that never were.

    So the one that was lost comes last. If it stands still, its system goes on taking connections for it, and each takes a
    while to be given up.
    """

    def __init__(self, chance: Callable[[], float] = CHANCE) -> None:
        self._chance = chance
        self._numbers = count(1)
        self._used: dict[str, int] = {}

    def use(self, address: str) -> None:
        """Notes that a server is used."""
        self._used[address] = next(self._numbers)

    def choose(self, servers: Sequence[Server], _: object) -> tuple[Server, float]:
        """Returns the server to try, and after how many seconds."""
        chosen = min(servers, key=lambda one: (self._used.get(one.uri.netloc, 0), self._chance()))
        self.use(chosen.uri.netloc)
        return chosen, AWAY if chosen.reconnects else 0.0


class Connection:
    """A connection that is up, or coming back. Made by `connected`."""

    def __init__(self, client: Client, mailbox: Mailbox, access: Access) -> None:
        self.client = client
        self.mailbox = mailbox
        self.servers = access.text

    @property
    def max_payload(self) -> int:
        """Bytes of the largest message that the server takes, headers included."""
        return self.client.max_payload

    async def request(
        self, subject: str, payload: bytes = b"", headers: dict[str, str] | None = None, within: float = PATIENCE
    ) -> Msg:
        """Sends a request, again where it gets no answer, and returns the answer.

        Raises `Unavailable` (STORAGE_UNAVAILABLE) when none has come `within` so many seconds, and `Invalid`
        (REQUEST_TOO_LARGE) for what is larger than the server takes.
        """
        self.check_size(payload, headers)
        loop = asyncio.get_running_loop()
        end = loop.time() + within
        failure: object = "it does not answer"
        while (left := end - loop.time()) > 0:
            if self.client.is_connected:
                try:
                    return await self.mailbox.ask(subject, payload, headers, min(left, max(ANSWER, within / 5)))
                except TimeoutError:
                    failure = "it does not answer"
                except (errors.NoRespondersError, errors.OutboundBufferLimitError) as error:
                    failure = error
                except errors.Error as error:
                    raise self.unavailable(error) from error
            elif self.client.is_closed:
                break
            else:
                failure = "it is not connected"
            await asyncio.sleep(AGAIN)
        raise self.unavailable(failure)

    async def ask(
        self, subject: str, payload: bytes = b"", headers: dict[str, str] | None = None, within: float = PATIENCE
    ) -> dict[str, Any]:
        """Sends a request to JetStream and returns what its answer says. Raises `Refusal` too."""
        loop = asyncio.get_running_loop()
        end = loop.time() + within
        while True:
            message = await self.request(subject, payload, headers, max(end - loop.time(), AGAIN))
            answer: dict[str, Any] = json.loads(message.data)
            error = answer.get("error")
            if error is None:
                return answer
            if error.get("err_code") not in PASSING:
                raise Refusal(error)
            if loop.time() >= end:
                raise self.unavailable(error.get("description"))
            await asyncio.sleep(AGAIN)

    async def try_api(
        self, subject: str, body: Mapping[str, Any] | None = None, within: float = PATIENCE
    ) -> dict[str, Any]:
        """Calls JetStream's API: `$JS.API.` and a subject. Raises `Refusal` too."""
        payload = b"" if body is None else json.dumps(body).encode()
        return await self.ask(f"$JS.API.{subject}", payload, within=within)

    async def api(self, subject: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Calls JetStream's API where no refusal is foreseen: one is `Unavailable`, too."""
        try:
            return await self.try_api(subject, body)
        except Refusal as refusal:
            raise self.unavailable(refusal) from refusal

    async def is_deserted(self, subject: str, payload: bytes) -> bool:
        """Sends a message, and says whether the servers answer that nobody has its subject. Whoever has it may answer, too."""
        try:
            await self.mailbox.ask(subject, payload, None, HEARD)
        except errors.NoRespondersError:
            return True
        except (TimeoutError, errors.Error):
            return False
        return False

    def check_size(self, payload: bytes, headers: Mapping[str, str] | None, reserve: int = 0) -> None:
        """Refuses a message that the server would end the connection for, or, with a reserve, one nearly so large."""
        size = len(payload)
        if headers:
            size += HEADERS + sum(len(name) + len(value) for name, value in headers.items())
        if size > self.max_payload - reserve:
            raise Invalid(
                Reason.REQUEST_TOO_LARGE,
                f"What is to be stored has {size} bytes, and the NATS server takes {self.max_payload - reserve}.",
                hint="Send less at once, or raise max_payload in the configuration of the NATS servers.",
                metadata={"limit": str(self.max_payload), "setting": "max_payload"},
            )

    def unavailable(self, failure: object) -> Unavailable:
        """Returns what callers are told when the servers do not do what they should."""
        return Unavailable(
            Reason.STORAGE_UNAVAILABLE,
            f"The NATS servers ({self.servers}) cannot be used now: {failure}.",
            hint="Try again; the broker reconnects by itself.",
            retry_after=1.0,
        )


class _Attempt:
    """An attempt to connect: what it heard, and whether it is of use to go on."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._reason: Exception | None = None
        self._refusals = 0

    def take(self, error: Exception) -> bool:
        """Hears why a server could not be used. Says whether as many as there are have let nobody in."""
        # Such a server says so once, and then ends the connection in one way or another.
        if not self._refusals:
            self._reason = error
        self._refusals += "authorization" in str(error).lower()
        return self._refusals >= len(self._access.urls)

    def failure(self, error: Exception) -> FailedPrecondition:
        """Returns what is told of it, where nothing better is known than an error."""
        access, reason = self._access, self._reason or error
        hint = "See that they run there, and that TLS is right: engine and [nats] are the settings."
        if self._refusals:
            hint = f"They refused {access.means}: see that they know it, and that it is neither revoked nor expired."
        return FailedPrecondition(
            Reason.STORAGE_UNAVAILABLE,
            f"No connection to the NATS servers ({access.text}): {str(reason) or repr(reason)}.",
            hint=hint,
        )


@asynccontextmanager
async def connected(access: Access, *, logged: bool = True, ping: int = PING) -> AsyncIterator[Connection]:
    """Connects, and tells the log how the connection fares. Raises `FailedPrecondition` (STORAGE_UNAVAILABLE) where that is not possible, with the reason."""
    client = Client()
    rotation = Rotation()
    attempt = _Attempt(access)
    is_attempted = True

    async def note(error: Exception) -> None:
        if logged:
            log.info("nats_error", error=str(error) or repr(error))
        if is_attempted and attempt.take(error):
            raise error  # It ends `connect`, which would go on for ever.

    async def disconnected() -> None:
        if logged and not client.is_closed:
            log.warning("nats_disconnected", servers=access.text)

    async def reconnected() -> None:
        log.info("nats_reconnected", servers=access.text)

    user = None if access.credentials is None else Credentials(access.credentials)
    try:
        async with asyncio.timeout(CONNECTING):
            await client.connect(
                list(access.urls),
                name="certes",
                error_cb=note,
                disconnected_cb=disconnected,
                reconnected_cb=reconnected,
                max_reconnect_attempts=-1 if access.waits else 1,
                reconnect_to_server_handler=rotation.choose,
                reconnect_time_wait=AWAY,  # type: ignore[arg-type]  # it is slept, so a fraction is as good
                connect_timeout=2,
                ping_interval=ping,
                max_outstanding_pings=2,
                tls=access.tls(),
                token=access.token,
                signature_cb=None if user is None else user.sign,
                user_jwt_cb=None if user is None else user.jwt,
            )
    except (TimeoutError, OSError, ValueError, errors.Error) as error:
        failure = attempt.failure(error)
        is_attempted = False
        await client.close()
        raise failure from error
    is_attempted = False
    if client.connected_url is not None:
        rotation.use(client.connected_url.netloc)
    try:
        yield Connection(client, await Mailbox.open(client), access)
    finally:
        await client.close()

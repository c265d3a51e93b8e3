"""Calls the public API of a broker, as JSON in the Connect protocol.

Theory of operation
-------------------
The gateway serves every rpc of the contract at `POST /api/{service}/{method}`. A unary one is a JSON document in and
one out, or a protobuf message in and one out. A server stream is a row of envelopes: a byte of flags, four bytes of
length (big-endian), a JSON document; the envelope with flag 2 is the last, and carries the error if there is one. In this
JSON the `data` of an event needs no `@type`, because the broker reads it by the event's type: the command needs no
schemas, and knows every type that the broker knows (docs/decisions/0010).

https://connectrpc.com/docs/protocol
"""

from __future__ import annotations

import base64
import http.client
import json
import ssl
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from certes_broker.cli.failures import BrokerUnreachable, CallRefused, Refusal
from certes_broker.domain.errors import FieldViolation
from certes_broker.domain.uris import GatewayUri

if TYPE_CHECKING:
    from google.protobuf.message import Message

M = TypeVar("M", bound="Message")

OwnCertificate = tuple[Path, Path | None]
"""The files of a certificate and of its key, in PEM; None where the first has both."""

Document = dict[str, Any]
"""A JSON object of the contract, with its field names in lowerCamelCase."""

EVENT_SERVICE: Final = "certes.v1.EventService"
SUBSCRIPTION_SERVICE: Final = "certes.v1.SubscriptionService"
SOURCE_SERVICE: Final = "certes.v1.SourceService"
DELIVERY_SERVICE: Final = "certes.v1.DeliveryService"
ADMIN_SERVICE: Final = "certes.v1.AdminService"
SCHEMA_SERVICE: Final = "certes.v1.SchemaService"

PAGE_SIZE: Final = 1000
UNARY_TIMEOUT: Final = 30.0
STREAM_TIMEOUT: Final = 60.0
"""Seconds of silence after which a stream is taken for dead; a live one has a heartbeat every 15 s."""

_THIS_MACHINE: Final = ("localhost", "::1")
_MAXIMUM_ENVELOPE: Final = 64 * 1024 * 1024
_END_OF_STREAM: Final = 0b10
_COMPRESSED: Final = 0b01


class Broker:
    """A broker that can be called. Holds no connection between calls."""

    def __init__(
        self, uri: GatewayUri, *, tls: bool = False, token: str = "", certificate: OwnCertificate | None = None
    ) -> None:
        """With `tls` its certificate is judged by the system's authorities, or those of `SSL_CERT_FILE`.

        `token` is an API key or a token that every call shows; it is sent in clear to this machine alone. `certificate` is
        shown where the broker asks for one.
        """
        self.uri = uri
        self._tls = tls
        self._token = token
        self._certificate = certificate

    def showing(self, token: str, certificate: OwnCertificate | None) -> Broker:
        """Returns this broker, called with credentials."""
        return Broker(self.uri, tls=self._tls, token=token, certificate=certificate)

    @property
    def speaks_tls(self) -> bool:
        """Whether it is called over TLS."""
        return self._tls

    @property
    def shows_in_clear(self) -> bool:
        """Whether a credential would travel over a network in clear."""
        return not self._tls and self.uri.host not in _THIS_MACHINE and not self.uri.host.startswith("127.")

    @property
    def origin(self) -> str:
        """`http://host:port` or `https://host:port`."""
        return f"{'https' if self._tls else 'http'}://{self.uri.authority}"

    def call(
        self, service: str, method: str, request: Mapping[str, Any], *, doing: str, timeout: float = UNARY_TIMEOUT
    ) -> Document:
        """Calls a unary rpc and returns its response.

        Raises `CallRefused` or `BrokerUnreachable`; both begin with `doing`, such as "publishing the event".
        """
        document = _decode(self._unary(service, method, "application/json", _encode(request), doing, timeout))
        if document is None:
            raise self._strange(doing)
        return document

    def call_message(self, service: str, method: str, request: Message, response: type[M], *, doing: str) -> M:
        """Calls a unary rpc with a protobuf message and returns the one that it answers. Raises like `call`.

        It is for descriptor sets, whose options of other people's making JSON cannot spell.
        """
        # Imported here because most commands need no protobuf.
        from google.protobuf.message import DecodeError  # noqa: PLC0415

        body = self._unary(service, method, "application/proto", request.SerializeToString(), doing)
        try:
            return response.FromString(body)
        except DecodeError:
            raise self._strange(doing) from None

    def pages(self, service: str, method: str, field: str, request: Mapping[str, Any], *, doing: str) -> list[Document]:
        """Calls a list rpc page by page and returns what all pages have in `field`. Raises like `call`."""
        found: list[Document] = []
        token = ""
        while True:
            page = self.call(service, method, {**request, "pageSize": PAGE_SIZE, "pageToken": token}, doing=doing)
            found += page.get(field, [])
            token = page.get("nextPageToken", "")
            if not token:
                return found

    def stream(
        self, service: str, method: str, request: Mapping[str, Any], *, doing: str
    ) -> Generator[Document, None, None]:
        """Calls a server-streaming rpc and yields its responses as they come. Raises like `call`.

        Close the generator to end the stream.
        """
        body = _encode(request)
        envelope = b"\0" + len(body).to_bytes(4, "big") + body
        with self._answer(service, method, "application/connect+json", envelope, STREAM_TIMEOUT, doing) as answer:
            if answer.status != http.client.OK:
                raise CallRefused(doing, _refusal_of(_decode(answer.read()), f"HTTP {answer.status} {answer.reason}"))
            while True:
                flags, document = self._envelope(answer, doing)
                if flags & _END_OF_STREAM:
                    if "error" in document:
                        raise CallRefused(doing, _refusal_of(document["error"], "the stream failed"))
                    return
                yield document

    def _unary(
        self, service: str, method: str, content_type: str, request: bytes, doing: str, timeout: float = UNARY_TIMEOUT
    ) -> bytes:
        with self._answer(service, method, content_type, request, timeout, doing) as answer:
            body = answer.read()
            if answer.status != http.client.OK:
                raise CallRefused(doing, _refusal_of(_decode(body), f"HTTP {answer.status} {answer.reason}"))
            return body

    def _envelope(self, answer: http.client.HTTPResponse, doing: str) -> tuple[int, Document]:
        head = answer.read(5)
        if len(head) < 5:
            raise self._gone(doing)
        flags, size = head[0], int.from_bytes(head[1:], "big")
        if flags & _COMPRESSED or size > _MAXIMUM_ENVELOPE:
            raise self._strange(doing)
        body = answer.read(size)
        if len(body) < size:
            raise self._gone(doing)
        document = _decode(body)
        if document is None:
            raise self._strange(doing)
        return flags, document

    @contextmanager
    def _answer(
        self, service: str, method: str, content_type: str, body: bytes, timeout: float, doing: str
    ) -> Iterator[http.client.HTTPResponse]:
        connection = self._connection(timeout, doing)
        try:
            try:
                connection.connect()
            except ssl.SSLCertVerificationError as error:
                raise BrokerUnreachable(
                    doing,
                    f"the certificate of {self.uri.authority} is not to be trusted ({error.verify_message})",
                    "Name the authority that vouches for it with SSL_CERT_FILE, or call the broker by a name that it is for.",
                ) from None
            except OSError as error:
                raise BrokerUnreachable(
                    doing,
                    f"no broker answers at {self.uri.authority} ({error.strerror or error})",
                    "Start one with `certes serve`, or name another with --broker HOST:PORT.",
                ) from None
            headers = {"Content-Type": content_type, "Connect-Protocol-Version": "1", "Accept-Encoding": "identity"}
            if self._token:
                headers["Authorization"] = f"Bearer {self._token}"
            try:
                connection.request("POST", f"/api/{service}/{method}", body, headers)
                yield connection.getresponse()
            except (http.client.BadStatusLine, http.client.UnknownProtocol) as error:
                raise (
                    self._gone(doing) if isinstance(error, http.client.RemoteDisconnected) else self._strange(doing)
                ) from None
            except (OSError, http.client.HTTPException):
                raise self._gone(doing) from None
        finally:
            connection.close()

    def _connection(self, timeout: float, doing: str) -> http.client.HTTPConnection:
        if not self._tls:
            return http.client.HTTPConnection(self.uri.host, self.uri.port, timeout=timeout)
        context = ssl.create_default_context()
        if self._certificate is not None:
            chain, key = self._certificate
            try:
                context.load_cert_chain(chain, key, password=_no_password)
            except (OSError, ValueError) as error:
                raise BrokerUnreachable(
                    doing,
                    f"the certificate in {chain} cannot be shown ({getattr(error, 'strerror', None) or error})",
                    "--certificate wants a certificate in PEM, and --certificate-key its key, without a passphrase.",
                ) from None
        return http.client.HTTPSConnection(self.uri.host, self.uri.port, timeout=timeout, context=context)

    def _gone(self, doing: str) -> BrokerUnreachable:
        return BrokerUnreachable(
            doing,
            f"the broker at {self.uri.authority} went away before it had answered",
            "What was asked may or may not have been done. If the broker runs (`certes doctor`), ask again."
            # Servers of TLS 1.3 turn a client away once it has begun to speak, and what they say of it may be lost.
            + (" If it asks clients for certificates, name yours with --certificate." if self._tls else ""),
        )

    def _strange(self, doing: str) -> BrokerUnreachable:
        return BrokerUnreachable(
            doing,
            f"what answers at {self.uri.authority} does not speak as a Certes gateway does",
            "--broker wants the HTTP address (port 9600 by default), not that of gRPC.",
        )


def _no_password() -> str:
    raise ValueError("its key is encrypted")


def _encode(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def _decode(body: bytes) -> Document | None:
    """Returns the JSON object of a body; None if it is none, because something else than a gateway wrote it."""
    try:
        document = json.loads(body)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _refusal_of(error: Document | None, otherwise: str) -> Refusal:
    """Reads a Connect error with the details of google.rpc; `otherwise` is said where there is none to read."""
    if error is None or "code" not in error:
        return Refusal("unknown", otherwise)
    # Imported here because only a failure needs it.
    from google.rpc import error_details_pb2  # noqa: PLC0415

    reason = ""
    violations: list[FieldViolation] = []
    retry_delay: float | None = None
    for detail in error.get("details", ()):
        # "The value … is unpadded base64" by the protocol.
        value = base64.b64decode(detail.get("value", "") + "==")
        match detail.get("type"):
            case "google.rpc.ErrorInfo":
                reason = error_details_pb2.ErrorInfo.FromString(value).reason
            case "google.rpc.BadRequest":
                violations += [
                    FieldViolation(violation.field, violation.description)
                    for violation in error_details_pb2.BadRequest.FromString(value).field_violations
                ]
            case "google.rpc.RetryInfo":
                delay = error_details_pb2.RetryInfo.FromString(value).retry_delay
                retry_delay = delay.seconds + delay.nanos / 1e9
            case _:
                pass
    return Refusal(str(error["code"]), str(error.get("message", otherwise)), reason, violations, retry_delay)

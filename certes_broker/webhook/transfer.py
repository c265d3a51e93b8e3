"""One libcurl easy handle, used for one request after another.

What is the same for every request is set once, when the handle is made; only method, URL, headers, body, timeouts and how much of an
answer is wanted change. A handle keeps no more of an answer's body than that and stops reading there, or at `ANSWER_READ` if that is more;
libcurl itself bounds the header block (300 KB).
"""

from __future__ import annotations

import math
import os
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from urllib.parse import urlsplit

import pycurl

from certes_broker.ports.sender import ANSWER_KEPT, Method, SendFailure, SendRequest, SendResult
from certes_broker.webhook.addresses import AddressPolicy, Refused
from certes_broker.webhook.failures import EXHAUSTED, failure_of

ANSWER_READ = 64 * 1024
"""Bytes of an answer's body after which nobody reads on, unless more of it is wanted: the status has said what there is to say."""
HEADERS_KEPT = frozenset(
    {"retry-after", "webhook-delivery", "content-type", "webhook-allowed-origin", "webhook-allowed-rate"}
)
"""The headers of an answer that are handed on; nobody asks for others, and a dictionary of all costs more than the rest of an answer."""

_FIRST_BYTES_KEPT = frozenset(b"rRwWcC")
_LINE_END = frozenset(b"\r\n")
_SET_BY_LIBCURL = frozenset({"host", "content-length", "transfer-encoding", "connection", "expect"})
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110, 5.6.2
# A header without a value keeps libcurl from adding its own: it would wait for "100 Continue" before a large body, and call a
# body of which no type is said a form.
_HEADERS_OF_LIBCURL_REMOVED = ["Expect:", "Content-Type:"]
_CONNECTION_IDLE_SECONDS = 60
_CONNECTION_LIFE_SECONDS = 600
_DNS_CACHE_SECONDS = 60
_HEADER_LINE_KEPT = 1024
_BODY_KEPT = 16 * 1024
_NO_SOCKET: int = pycurl.SOCKET_BAD
_DISALLOW_USERNAME_IN_URL = 278  # CURLOPT_DISALLOW_USERNAME_IN_URL of curl.h, which pycurl does not name.


@dataclass(frozen=True, slots=True)
class TransferSettings:
    """What all transfers of a sender share.

    `authorities` is a file of certificate authorities (PEM). `on_found` hears of each name that has led to an address which may
    be connected to.
    """

    policy: AddressPolicy
    user_agent: str
    authorities: str
    on_found: Callable[[str], None] = lambda _host: None


class Transfer:
    """A request under way, or a handle waiting for the next one."""

    def __init__(self, settings: TransferSettings) -> None:
        self._policy = settings.policy
        self._on_found = settings.on_found
        self._url = ""
        self._method = Method.POST
        self._timeout = self._connect_timeout = math.nan
        self._header_lines: list[bytes] = []
        self._answer = bytearray()
        self._answer_read = 0
        self._answer_kept = ANSWER_KEPT
        self._refusal = ""
        self._exhaustion = ""
        self._socket_opened = False
        self._body_is_large = False
        self.curl = pycurl.Curl()
        self._set_once(settings)

    def prepare(self, request: SendRequest) -> SendResult | None:
        """Readies the handle for `request`; returns the result at once if such a request is never sent."""
        try:
            if request.url != self._url:
                self._set_url(request.url)
            lines = _header_lines(request.headers)
            set_option = self.curl.setopt
            if request.method is not self._method:
                # Only the word is another: libcurl goes on as for a POST, and reads an answer's body as one.
                set_option(pycurl.CUSTOMREQUEST, request.method.value)
                self._method = request.method
            set_option(pycurl.HTTPHEADER, lines)
            # POSTFIELDS with bytes sets their length too; COPYPOSTFIELDS refuses NUL bytes.
            set_option(pycurl.POSTFIELDS, request.body)
            self._body_is_large = len(request.body) > _BODY_KEPT
            self._answer_kept = request.answer_limit
            if request.timeout != self._timeout:
                set_option(pycurl.TIMEOUT_MS, _milliseconds(request.timeout))
                self._timeout = request.timeout
            if request.connect_timeout != self._connect_timeout:
                set_option(pycurl.CONNECTTIMEOUT_MS, _milliseconds(request.connect_timeout))
                self._connect_timeout = request.connect_timeout
        except _UnfitUrl as unfit:
            return unsent(SendFailure.ADDRESS_REFUSED, str(unfit))
        except (pycurl.error, ValueError, OverflowError) as error:
            return unsent(SendFailure.OURS, f"The request could not be put together: {error}.")
        return None

    def result(self, code: int, message: str) -> SendResult:
        """Says what came of the request, which libcurl ended with `code`."""
        get_info = self.curl.getinfo
        duration: float = get_info(pycurl.TOTAL_TIME)
        if code == pycurl.E_OK or self._has_read_enough:
            headers = _kept_headers(self._header_lines)
            if headers is not None:
                return SendResult(get_info(pycurl.RESPONSE_CODE), None, "", headers, bytes(self._answer), duration)
            failure, error = SendFailure.BROKEN, "The receiver hung up in the middle of its answer's headers."
        else:
            failure, error = self._failure(code, message)
        return SendResult(None, failure, error, _NO_HEADERS, b"", duration)

    def forget(self) -> None:
        """Lets go of the last request and its answer, so that a handle in waiting holds next to nothing."""
        self._header_lines.clear()
        self._answer.clear()
        self._answer_read = 0
        self._refusal = self._exhaustion = ""
        self._socket_opened = False
        if self._body_is_large:
            self.curl.setopt(pycurl.POSTFIELDS, b"")

    def close(self) -> None:
        """Frees the handle. It is not to be used again."""
        self.curl.close()

    def _set_once(self, settings: TransferSettings) -> None:
        set_option = self.curl.setopt
        set_option(pycurl.POST, 1)
        set_option(pycurl.USERAGENT, settings.user_agent)
        set_option(pycurl.NOSIGNAL, 1)
        set_option(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
        set_option(pycurl.FOLLOWLOCATION, 0)
        # Of the environment and the home directory nothing may reach a request: a proxy would be what the guard judges.
        set_option(pycurl.PROXY, "")
        set_option(pycurl.NOPROXY, "*")
        set_option(pycurl.NETRC, pycurl.NETRC_IGNORED)
        set_option(_DISALLOW_USERNAME_IN_URL, 1)
        set_option(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2TLS)
        set_option(pycurl.HTTP09_ALLOWED, 0)
        set_option(pycurl.SSL_VERIFYPEER, 1)
        set_option(pycurl.SSL_VERIFYHOST, 2)
        set_option(pycurl.CAINFO, settings.authorities)
        set_option(pycurl.TCP_NODELAY, 1)
        set_option(pycurl.TCP_KEEPALIVE, 1)
        set_option(pycurl.MAXAGE_CONN, _CONNECTION_IDLE_SECONDS)
        set_option(pycurl.MAXLIFETIME_CONN, _CONNECTION_LIFE_SECONDS)
        set_option(pycurl.DNS_CACHE_TIMEOUT, _DNS_CACHE_SECONDS)
        set_option(pycurl.OPENSOCKETFUNCTION, self._open_socket)
        # The list's own method: no frame of Python for each line of every answer.
        set_option(pycurl.HEADERFUNCTION, self._header_lines.append)
        set_option(pycurl.WRITEFUNCTION, self._take_answer)

    def _set_url(self, url: str) -> None:
        if not url.lower().startswith(("http://", "https://")):
            raise _UnfitUrl("The URL begins with neither http:// nor https://, and webhooks are sent by nothing else.")
        if not url.isascii():
            raise _UnfitUrl(
                "The URL holds characters outside ASCII. Write its host in Punycode and percent-encode the rest."
            )
        self._url = ""
        self.curl.setopt(pycurl.URL, url)
        self._url = url

    def _open_socket(self, _purpose: int, address: tuple[int, int, int, tuple[str, int]]) -> socket.socket | int:
        """Opens the socket that libcurl asks for, if the policy allows its address.

        This is the last step before connecting, after every redirect, name and spelling has become an address. A connection that
        is reused was judged here when it was opened; it can lead nowhere else, and the policy of a sender never changes.
        """
        family, kind, protocol, where = address
        if family not in (socket.AF_INET, socket.AF_INET6):
            self._refusal = "it is no internet address"
            return _NO_SOCKET
        verdict = self._policy.judge(ip_address(where[0]), where[1])
        if isinstance(verdict, Refused):
            self._refusal = verdict.reason
            return _NO_SOCKET
        try:
            opened = _SocketToDuplicate(family, kind, protocol)
        except OSError as error:
            if error.errno in EXHAUSTED:
                self._exhaustion = error.strerror or str(error)
            return _NO_SOCKET
        self._socket_opened = True
        self._note_found(where[0])
        return opened

    def _note_found(self, address: str) -> None:
        host = host_of(self._url)
        # What is of this machine needs no resolver, nor does an address in place of a name.
        if not is_address(host) and not ip_address(address).is_loopback:
            self._on_found(host)

    def _take_answer(self, piece: bytes) -> int | None:
        if self._answer_read < self._answer_kept:
            self._answer += piece[: self._answer_kept - self._answer_read]
        self._answer_read += len(piece)
        return 0 if self._has_read_enough else None

    @property
    def _has_read_enough(self) -> bool:
        return self._answer_read > max(ANSWER_READ, self._answer_kept)

    def _failure(self, code: int, message: str) -> tuple[SendFailure, str]:
        if self._exhaustion:
            return SendFailure.OURS, f"No socket could be opened on this machine: {self._exhaustion}."
        if self._refusal and not self._socket_opened:
            return (
                SendFailure.ADDRESS_REFUSED,
                f"The address guard let no connection be opened: {self._refusal}. The operator can allow the range.",
            )
        failure = failure_of(code, self.curl.getinfo(pycurl.OS_ERRNO))
        if failure is SendFailure.TIMEOUT and self._was_resolving:
            failure = SendFailure.RESOLVE
        if failure is SendFailure.RESOLVE and (exhaustion := _file_handles_exhausted()):
            return SendFailure.OURS, f"The name could not be looked up on this machine: {exhaustion}."
        return failure, message

    @property
    def _was_resolving(self) -> bool:
        """Whether a try ended before the name had become an address, and not because there was a connection already."""
        get_info = self.curl.getinfo
        if self._socket_opened or get_info(pycurl.NAMELOOKUP_TIME) or get_info(pycurl.PRETRANSFER_TIME):
            return False
        return not is_address(host_of(self._url))


class _SocketToDuplicate(socket.socket):
    """A socket of which libcurl gets a duplicate (pycurl calls `dup`), so that this one closes as soon as nobody holds it."""

    def __del__(self) -> None:
        if self.fileno() >= 0:  # It has none if it could not be opened.
            self.close()


class _UnfitUrl(ValueError):
    """A URL to which nothing is ever sent."""


def host_of(url: str) -> str:
    """Returns the name, or the address, that a URL leads to."""
    return urlsplit(url).hostname or ""


def is_address(host: str) -> bool:
    """Whether what stands in place of a name is an address."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def unsent(failure: SendFailure, error: str) -> SendResult:
    """Builds the result of a request of which not a byte left."""
    return SendResult(None, failure, error, _NO_HEADERS, b"", 0.0)


def _header_lines(headers: Mapping[str, str]) -> list[str] | list[bytes]:
    _check_names(tuple(headers))
    # "Name:" would remove a header in libcurl's language; "Name;" is the one that sends it empty.
    lines = [f"{name}: {value}" if value else f"{name};" for name, value in headers.items()]
    joined = "".join(lines)
    if "\n" in joined or "\r" in joined or "\0" in joined:
        raise ValueError("a header holds a line break or a NUL")
    lines = _HEADERS_OF_LIBCURL_REMOVED + lines
    # The bytes that a foreign webhook came with, which need be no text, stand in its headers as Latin-1.
    return lines if joined.isascii() else [line.encode("latin-1") for line in lines]


@lru_cache(maxsize=256)  # One subscription's requests have the same names each time.
def _check_names(names: tuple[str, ...]) -> None:
    for name in names:
        if not _TOKEN.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a header")
        if name.lower() in _SET_BY_LIBCURL:
            raise ValueError(f"the header {name} is set by the sender alone")


def _kept_headers(lines: list[bytes]) -> Mapping[str, str] | None:
    """Picks what is kept of an answer's header lines; None if the header block has no end, which libcurl lets pass."""
    kept: dict[str, str] = {}
    ended = False
    for line in lines:
        first = line[0]
        if first in _FIRST_BYTES_KEPT:
            if len(line) <= _HEADER_LINE_KEPT and (header := _kept_header(line)):
                kept[header[0]] = header[1]
        elif first in _LINE_END:
            ended = True
        elif ended and line.startswith(b"HTTP/"):
            kept.clear()  # What came before was an interim answer (1xx).
            ended = False
    return kept if ended else None


@lru_cache(
    maxsize=1024
)  # Receivers say the same thing each time; the memory is bounded by the length of a line that is kept.
def _kept_header(line: bytes) -> tuple[str, str] | None:
    name, _, value = line.decode("latin-1").partition(":")
    name = name.strip().lower()
    return (name, value.strip()) if name in HEADERS_KEPT else None


def _milliseconds(seconds: float) -> int:
    # 0 would mean "no limit" to libcurl.
    return max(1, math.ceil(seconds * 1000))


def _file_handles_exhausted() -> str:
    """Says why this process can open no file, if so: a resolver that lacks a file handle reports an unknown name."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return error.strerror or str(error)
    return ""


_NO_HEADERS: Mapping[str, str] = {}

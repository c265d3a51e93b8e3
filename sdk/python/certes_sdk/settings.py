"""Settings of a client: arguments first, then the environment, then defaults. Reading them does no I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from certes_sdk.errors import failed_precondition, invalid_field
from certes_sdk.signatures import SigningKey, read_key
from certes_sdk.uris import Gateway, parse_authority, parse_gateway

DEFAULT_SUBSCRIBER: Final = "default"
DEFAULT_CONCURRENCY: Final = 64
DEFAULT_MAX_OUTSTANDING: Final = 1000

_MAXIMUM_OUTSTANDING: Final = 100_000
_MAXIMUM_GENERATION: Final = 2**63 - 1
_MAXIMUM_SOURCE_BYTES: Final = 512
_ID: Final = re.compile(r"[A-Za-z0-9._~:@-]{1,128}")
_NO_IDS: Final = frozenset({"-", ".", ".."})
_NUMBER: Final = re.compile(r"[0-9]{1,19}")


@dataclass(frozen=True, slots=True)
class Arguments:
    """What `init` was given. None means that it was not."""

    uri: str
    token: str | None = None
    app: str | None = None
    callback_url: str | None = None
    subscriber: str | None = None
    source: str | None = None
    generation: int | None = None
    webhook_keys: Iterable[str] | None = None
    ca_file: str | None = None
    certificate: str | None = None
    certificate_key: str | None = None
    resolve: Mapping[str, str] | str | None = None
    concurrency: int = DEFAULT_CONCURRENCY
    max_outstanding: int = DEFAULT_MAX_OUTSTANDING


@dataclass(frozen=True, slots=True)
class Settings:
    """What holds for one client. `gateway` is where its gateway is looked for; `token` is shown by no representation."""

    uri: str
    gateway: Gateway
    token: str | None = field(repr=False)
    app: str | None
    callback_url: str | None
    subscriber: str
    source: str | None
    generation: int | None
    webhook_keys: tuple[str, ...] = field(repr=False)
    ca_file: str | None
    certificate: str | None
    certificate_key: str | None
    concurrency: int
    max_outstanding: int

    @property
    def keys(self) -> tuple[SigningKey, ...]:
        """The keys of `webhook_keys`, read."""
        return tuple(key for text in self.webhook_keys if (key := read_key(text)) is not None)

    def subscription(self, name: str | None = None) -> str:
        """Returns the name of the application's subscription, or of the one that is called `name` beside it.

        Raises `APP_MISSING`, and `FIELD_INVALID` where no subscription can have the name.
        """
        if self.app is None:
            raise failed_precondition(
                "APP_MISSING",
                "A subscription is named for its application, and this one has no name.",
                hint="Set CERTES_APP, or give init an app.",
            )
        if not name:
            return f"subscribers/{self.subscriber}/subscriptions/{self.app}"
        identifier = f"{self.app}:{name}"
        if not is_id(identifier):
            raise invalid_field("name", "the application's name, ':' and this have to be an id together")
        return f"subscribers/{self.subscriber}/subscriptions/{identifier}"

    def required_source(self) -> str:
        """Returns the source of published events. Raises `APP_MISSING`."""
        if self.source is None:
            raise failed_precondition(
                "APP_MISSING",
                "An event says who sends it, and this application has no name.",
                hint="Set CERTES_APP or CERTES_SOURCE, or give init an app or a source.",
            )
        return self.source


def is_id(text: str) -> bool:
    """Says whether a text can name a subscriber, an application or a subscription."""
    return _ID.fullmatch(text) is not None and text not in _NO_IDS


def read_settings(arguments: Arguments, environment: Mapping[str, str]) -> Settings:
    """Makes settings of arguments and an environment, of which empty variables count as absent.

    Raises `MALFORMED_URI`, and `FIELD_INVALID` that names the setting.
    """
    given = arguments

    def text(value: str | None, name: str) -> str | None:
        return value or environment.get(f"CERTES_{name}") or None

    app = _id("app", text(given.app, "APP"))
    gateway = parse_gateway(given.uri)
    certificate, key = text(given.certificate, "CERTIFICATE"), text(given.certificate_key, "CERTIFICATE_KEY")
    _check_pair(certificate, key)
    return Settings(
        uri=given.uri,
        gateway=_places(given.resolve or environment.get("CERTES_RESOLVE") or "").get(gateway, gateway),
        token=_token(text(given.token, "TOKEN")),
        app=app,
        callback_url=_callback_url(text(given.callback_url, "CALLBACK_URL")),
        subscriber=_id("subscriber", text(given.subscriber, "SUBSCRIBER")) or DEFAULT_SUBSCRIBER,
        source=_source(text(given.source, "SOURCE")) or (app and f"apps/{app}"),
        generation=_generation(given.generation, environment.get("CERTES_GENERATION") or None),
        webhook_keys=_webhook_keys(given.webhook_keys, environment.get("CERTES_WEBHOOK_KEYS") or ""),
        ca_file=text(given.ca_file, "CA_FILE"),
        certificate=certificate,
        certificate_key=key,
        concurrency=_count("concurrency", given.concurrency, 1_000_000),
        max_outstanding=_count("max_outstanding", given.max_outstanding, _MAXIMUM_OUTSTANDING),
    )


def _id(name: str, text: str | None) -> str | None:
    if text is not None and not is_id(text):
        raise invalid_field(
            name, f"{text!r} is no id: 1 to 128 letters, digits and '. _ ~ - : @', but not '-', '.' or '..'"
        )
    return text


def _token(text: str | None) -> str | None:
    if text is not None and not (text.isascii() and text.isprintable() and text == text.strip()):
        raise invalid_field("token", "it has characters that no header can carry")
    return text


def _callback_url(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise invalid_field("callback_url", f"{text!r} is no URL") from None
    if parts.scheme not in ("http", "https") or not host:
        raise invalid_field("callback_url", f"{text!r} is no URL of http or https with a host")
    return text


def _source(text: str | None) -> str | None:
    if text is not None and (len(text.encode(errors="replace")) > _MAXIMUM_SOURCE_BYTES or not text.isprintable()):
        raise invalid_field("source", f"a source has at most {_MAXIMUM_SOURCE_BYTES} bytes and no control characters")
    return text


def _generation(given: int | None, text: str | None) -> int | None:
    if given is None and text is None:
        return None
    if given is not None:
        number = given
    elif text is not None and _NUMBER.fullmatch(text):
        number = int(text)
    else:
        number = -1
    if not _is_integer(number) or not 0 <= number <= _MAXIMUM_GENERATION:
        raise invalid_field("generation", f"{text if given is None else given!r} is no number from 0 to 2^63 - 1")
    return number


def _webhook_keys(given: Iterable[str] | None, text: str) -> tuple[str, ...]:
    keys = tuple(text.split()) if given is None else (given,) if isinstance(given, str) else tuple(given)
    if any(read_key(key) is None for key in keys):
        # Without the text: it may be a secret.
        raise invalid_field("webhook_keys", "a key is whsec_ or whpk_ and base64 of a secret or an ed25519 public key")
    return keys


def _check_pair(certificate: str | None, key: str | None) -> None:
    if certificate is not None and key is None:
        raise invalid_field(
            "certificate_key", "the file of the certificate's key is missing; it may be that of the certificate"
        )
    if certificate is None and key is not None:
        raise invalid_field("certificate", "the file of the certificate is missing, whose key is given")


def _places(resolve: Mapping[str, str] | str) -> dict[Gateway, Gateway]:
    if isinstance(resolve, str):
        pairs = [entry.partition("=")[::2] for entry in resolve.split(",") if entry.strip()]
    else:
        pairs = list(resolve.items())
    try:
        return {parse_authority(left.strip()): parse_authority(right.strip()) for left, right in pairs}
    except ValueError as fault:
        raise invalid_field("resolve", f"entries are host[:port]=host[:port], parted by commas: {fault}") from None


def _count(name: str, number: int, most: int) -> int:
    if not _is_integer(number) or not 1 <= number <= most:
        raise invalid_field(name, f"{number!r} is no number from 1 to {most}")
    return number


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)

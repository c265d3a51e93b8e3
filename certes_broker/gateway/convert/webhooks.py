"""The webhook of a subscription."""

from __future__ import annotations

import re
from typing import Final, assert_never
from urllib.parse import urlsplit

from certes.v1 import subscription_pb2 as pb
from certes.v1 import subscription_service_pb2 as service_pb
from certes_broker.domain.access import Caller, Role
from certes_broker.domain.consent import UNASKED, Consent, Granted, NotRequired, Unasked, Withheld, carried_over
from certes_broker.domain.custom_headers import (
    MAXIMUM_HEADER_BYTES,
    MAXIMUM_HEADERS,
    CustomHeader,
    check_custom_value,
    parse_custom_name,
    size_of,
)
from certes_broker.domain.signing import is_key_pair, parse_signer, verifier_of
from certes_broker.domain.subscriptions import (
    DEFAULT_WEBHOOK_TIMEOUT,
    MAXIMUM_IN_FLIGHT,
    MAXIMUM_SECRETS,
    Format,
    RateLimit,
    StoredSecret,
    WebhookDelivery,
)
from certes_broker.gateway.convert.times import Bounds, duration, raw_seconds, read_duration, timestamp
from certes_broker.gateway.faults import Faults
from certes_broker.gateway.limits import MAXIMUM_URL_LENGTH, MINUTE, SECOND


def read_webhook(
    faults: Faults, path: str, message: pb.Webhook, stored: WebhookDelivery | None = None
) -> WebhookDelivery:
    """Returns the webhook of a message; with the secrets of the stored one if it brings none, and the values of its headers."""
    _check_url(faults, f"{path}.url", message.url)
    timeout = DEFAULT_WEBHOOK_TIMEOUT
    if message.HasField("timeout"):
        timeout = read_duration(faults, f"{path}.timeout", message.timeout, _TIMEOUT)
    return WebhookDelivery(
        url=message.url,
        secrets=_read_secrets(faults, f"{path}.secrets", message) or (stored.secrets if stored else ()),
        format=_read_format(faults, f"{path}.format", message),
        timeout=timeout,
        max_in_flight=_read_max_in_flight(faults, f"{path}.max_in_flight", message),
        rate_limit=_read_rate_limit(faults, path, message),
        headers=_read_headers(faults, f"{path}.headers", message, stored),
        consent=carried_over(
            stored.consent if stored else UNASKED,
            required=message.require_consent,
            same_url=stored is not None and stored.url == message.url,
        ),
    )


def webhook_message(webhook: WebhookDelivery) -> pb.Webhook:
    """Returns the message of a webhook, without its secrets and the values of its headers."""
    limit = webhook.rate_limit
    return pb.Webhook(
        url=webhook.url,
        format=_FORMATS_OUT[webhook.format],
        timeout=duration(webhook.timeout),
        max_in_flight=webhook.max_in_flight,
        rate_limit=None if limit is None else pb.RateLimit(count=limit.count, interval=duration(limit.interval)),
        headers={header.name: "" for header in webhook.headers},
        require_consent=not isinstance(webhook.consent, NotRequired),
        consent=_consent_message(webhook.consent),
    )


def secret_message(secret: StoredSecret, caller: Caller) -> service_pb.SigningSecret:
    """Returns the message of a signing secret. What it is, callers with its role alone are told; of a key pair everybody its public key."""
    expire_time = None if secret.expire_time is None else timestamp(secret.expire_time)
    is_told = Role.SUBSCRIPTIONS_SECRETS in caller.roles or is_key_pair(secret.secret)
    return service_pb.SigningSecret(secret=verifier_of(secret.secret) if is_told else "", expire_time=expire_time)


_TIMEOUT: Final = Bounds(SECOND, MINUTE)
_FORMATS: Final = {
    pb.Webhook.FORMAT_UNSPECIFIED: Format.CLOUDEVENTS_JSON,
    pb.Webhook.FORMAT_CLOUDEVENTS_JSON: Format.CLOUDEVENTS_JSON,
    pb.Webhook.FORMAT_CLOUDEVENTS_BINARY: Format.CLOUDEVENTS_BINARY,
    pb.Webhook.FORMAT_CLOUDEVENTS_PROTOBUF: Format.CLOUDEVENTS_PROTOBUF,
    pb.Webhook.FORMAT_ORIGINAL: Format.ORIGINAL,
}
_FORMATS_OUT: Final = {
    Format.CLOUDEVENTS_JSON: pb.Webhook.FORMAT_CLOUDEVENTS_JSON,
    Format.CLOUDEVENTS_BINARY: pb.Webhook.FORMAT_CLOUDEVENTS_BINARY,
    Format.CLOUDEVENTS_PROTOBUF: pb.Webhook.FORMAT_CLOUDEVENTS_PROTOBUF,
    Format.ORIGINAL: pb.Webhook.FORMAT_ORIGINAL,
}
# RFC 3986, section 2: unreserved, reserved and '%'. What is outside is read differently by different parsers, and the
# one that judges an address must not differ from the one that opens it.
_NOT_IN_URL: Final = re.compile(r"[^A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]")


def _consent_message(consent: Consent) -> pb.Webhook.Consent | None:
    said = pb.Webhook.Consent
    match consent:
        case NotRequired():
            return None
        case Unasked():
            return said(state=said.STATE_UNASKED)
        case Withheld(since, reason):
            return said(state=said.STATE_WITHHELD, time=timestamp(since), reason=reason)
        case Granted(_, time, per_minute):
            return said(state=said.STATE_GRANTED, time=timestamp(time), allowed_per_minute=per_minute)
        case _:
            assert_never(consent)


def _check_url(faults: Faults, field: str, url: str) -> None:
    if not url:
        faults.required(field)
        return
    problem = _url_problem(url)
    if problem:
        # The URL itself is not repeated: its path or query may be a capability.
        faults.invalid(field, problem)


def _url_problem(url: str) -> str:
    """Says what keeps a URL from being a webhook's; empty if nothing does."""
    if len(url) > MAXIMUM_URL_LENGTH:
        return f"has {len(url)} characters; {MAXIMUM_URL_LENGTH} are allowed"
    stranger = _NOT_IN_URL.search(url)
    if stranger is not None:
        return f"has {stranger[0]!r} at character {stranger.start()}, which a URL must spell percent-encoded"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        # What is wrong is not repeated: before the first slash of a mistaken password it is the port.
        return "is no URL: its host or its port cannot be meant"
    if parts.scheme not in ("http", "https"):
        return "begins with neither http:// nor https://"
    if "@" in parts.netloc:
        return "has credentials; receivers prove who sends by the signature"
    if not parts.hostname:
        return "has no host"
    if port == 0:
        return "has port 0"
    if "#" in url:
        return "has a fragment, which is never sent"
    return ""


def _read_max_in_flight(faults: Faults, field: str, message: pb.Webhook) -> int | None:
    if not message.HasField("max_in_flight"):
        return None
    if not 1 <= message.max_in_flight <= MAXIMUM_IN_FLIGHT:
        faults.invalid(field, f"{message.max_in_flight} is outside 1 to {MAXIMUM_IN_FLIGHT}")
    return message.max_in_flight


def _read_headers(
    faults: Faults, path: str, message: pb.Webhook, stored: WebhookDelivery | None
) -> tuple[CustomHeader, ...]:
    if len(message.headers) > MAXIMUM_HEADERS:
        faults.invalid(path, f"has {len(message.headers)} headers; {MAXIMUM_HEADERS} are allowed")
        return ()
    known = {header.name: header.value for header in stored.headers} if stored else {}
    found: dict[str, CustomHeader] = {}
    for key in sorted(message.headers):
        field = f"{path}[{key[:100]!r}]"
        with faults.at(field):
            name, value = parse_custom_name(key), message.headers[key]
            if name in found:
                faults.invalid(field, "is there twice: names of headers are the same in upper and lower case")
            elif not value and name not in known:
                faults.invalid(field, "has no value, and none is stored that it could keep")
            check_custom_value(value)
            found[name] = CustomHeader(name, value or known.get(name, ""))
    headers = tuple(found[name] for name in sorted(found))
    if size_of(headers) > MAXIMUM_HEADER_BYTES:
        faults.invalid(path, f"has {size_of(headers)} bytes of names and values; {MAXIMUM_HEADER_BYTES} are allowed")
    return headers


def _read_rate_limit(faults: Faults, path: str, message: pb.Webhook) -> RateLimit | None:
    if not message.HasField("rate_limit"):
        return None
    limit = message.rate_limit
    interval: float | None = SECOND
    if limit.HasField("interval"):
        interval = raw_seconds(faults, f"{path}.rate_limit.interval", limit.interval)
    if interval is None:
        return None
    with faults.within(path):
        return RateLimit(limit.count, interval)
    return None


def _read_secrets(faults: Faults, path: str, message: pb.Webhook) -> tuple[StoredSecret, ...]:
    if len(message.secrets) > MAXIMUM_SECRETS:
        faults.invalid(path, f"has {len(message.secrets)} secrets; {MAXIMUM_SECRETS} are allowed")
        return ()
    secrets = []
    for index, text in enumerate(message.secrets):
        with faults.at(f"{path}[{index}]"):
            secrets.append(StoredSecret(parse_signer(text).text))
    return tuple(secrets)


def _read_format(faults: Faults, field: str, message: pb.Webhook) -> Format:
    form = _FORMATS.get(message.format)
    if form is None:
        faults.invalid(field, f"{message.format} is no format")
        return Format.CLOUDEVENTS_JSON
    return form

"""Sources to and from messages.

The rules that bind the parts of a source to each other and to its provider are here: what is asked for is judged as a
whole, so that a caller learns of all that is wrong with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, assert_never

from certes.v1 import source_pb2 as pb
from certes.v1 import source_service_pb2 as service_pb
from certes_broker.domain.errors import Invalid, Reason
from certes_broker.domain.events import Micros
from certes_broker.domain.names import SubscriberName, parse_id
from certes_broker.domain.signature_schemes import NoScheme, SignatureScheme, credential_header
from certes_broker.domain.source_secrets import check_source_secret
from certes_broker.domain.sources import (
    CUSTOM,
    MAXIMUM_SOURCE_SECRETS,
    Audience,
    Everyone,
    PayloadSubscriber,
    Provider,
    Source,
    SourceSecret,
    parse_source_name,
)
from certes_broker.domain.webhook_mapping import WebhookMapping
from certes_broker.gateway.convert.labels import read_labels
from certes_broker.gateway.convert.mappings import mapping_message, read_mapping
from certes_broker.gateway.convert.signatures import read_signature, signature_message
from certes_broker.gateway.convert.times import timestamp
from certes_broker.gateway.faults import Faults, located

PATH: Final = "source"
"""The field of a request that holds the source."""
_COLLECTION: Final = "sources/"


@dataclass(frozen=True, slots=True)
class SourceRules:
    """What a source is judged by: the providers, by name, and whether one without signatures may be (`allow_unsigned`)."""

    providers: Mapping[str, Provider]
    allow_unsigned: bool

    def scheme_of(self, source: Source) -> SignatureScheme | None:
        """Returns how the requests of a source are signed; None if nothing says so."""
        provider = self.providers.get(source.provider)
        return source.signature or (None if provider is None else provider.signature)

    def mapping_of(self, source: Source) -> WebhookMapping | None:
        """Returns how webhooks of a source become events; None if nothing says so."""
        provider = self.providers.get(source.provider)
        return source.mapping or (None if provider is None else provider.mapping)

    def secret_is_ours(self, source: Source) -> bool:
        """Says whether the receiver chooses the secrets of a source."""
        provider = self.providers.get(source.provider)
        return provider is None or provider.secret_is_ours


def read_source_name(field: str, text: str) -> str:
    """Returns the id of the source that a field names. Raises `Invalid` (FIELD_REQUIRED, MALFORMED_NAME) of that field."""
    if not text:
        raise Invalid.field(Reason.FIELD_REQUIRED, field, "is required")
    if not text.startswith(_COLLECTION):
        raise Invalid.field(
            Reason.MALFORMED_NAME, field, f"{text[:100]!r} is no name of a source", hint="The form is sources/{source}."
        )
    try:
        return parse_source_name(text.removeprefix(_COLLECTION))
    except Invalid as error:
        raise located(error, field) from None


def read_source_id(faults: Faults, request: service_pb.CreateSourceRequest) -> str:
    """Returns the id of the source to create, as `source_id` and `source.name` say it, which must agree."""
    own = ""
    if request.source.name:
        with faults.at(f"{PATH}.name"):
            own = read_source_name(f"{PATH}.name", request.source.name)
    if request.source_id:
        with faults.at("source_id"):
            parse_source_name(request.source_id)
        if own and own != request.source_id:
            faults.invalid(f"{PATH}.name", f"{request.source.name} is not what source_id says")
    elif not request.source.name:
        faults.required("source_id")
    return request.source_id or own


def new_source(faults: Faults, rules: SourceRules, name: str, message: pb.Source) -> Source:
    """Returns the source that a message describes, not yet stored. Faults are noted, values stand in for them.

    It has no secrets if the message has none. What only the broker says is passed over, so that what was read can be sent
    back.
    """
    if not message.provider:
        faults.required(f"{PATH}.provider", f"is required: {_known(rules)}")
    elif message.provider != CUSTOM and message.provider not in rules.providers:
        faults.invalid(f"{PATH}.provider", f"{message.provider[:100]!r} is no known provider: {_known(rules)}")
    source = _with_settings(faults, rules, Source(name, message.provider, Everyone()), message)
    return replace(source, secrets=_read_secrets(faults, rules, source, message))


def changed_source(faults: Faults, rules: SourceRules, stored: Source, message: pb.Source) -> Source:
    """Returns a stored source with all its settings as a message has them, its secrets if that brings none."""
    if message.provider and message.provider != stored.provider:
        faults.invalid(f"{PATH}.provider", f"is {stored.provider}, which cannot be changed")
    source = _with_settings(faults, rules, stored, message)
    if message.secrets:
        return replace(source, secrets=_read_secrets(faults, rules, source, message))
    scheme = rules.scheme_of(source)
    if isinstance(scheme, NoScheme):
        return replace(source, secrets=())
    if scheme is not None and not (source.secrets and all(_fits(scheme, one) for one in source.secrets)):
        faults.required(f"{PATH}.secrets", "are required: what is stored cannot verify by this signature scheme")
    return source


def source_message(source: Source, now: Micros) -> pb.Source:
    """Returns the message of a source at a time, without its secrets."""
    message = pb.Source(
        name=source.event_source,
        provider=source.provider,
        keep_rejected=source.keep_rejected,
        labels=dict(source.labels),
        path=source.path,
        secret_count=len(source.secrets_at(now)),
        configured=source.configured,
        create_time=None if source.create_time is None else timestamp(source.create_time),
        update_time=None if source.update_time is None else timestamp(source.update_time),
        etag=source.etag,
    )
    match source.audience:
        case SubscriberName(subscriber):
            message.subscriber = subscriber
        case Everyone():
            message.everyone = True
        case PayloadSubscriber():
            message.subscriber_in_payload = True
        case _:
            assert_never(source.audience)
    if source.signature is not None:
        message.signature.CopyFrom(signature_message(source.signature))
    if source.mapping is not None:
        message.mapping.CopyFrom(mapping_message(source.mapping))
    return message


def _with_settings(faults: Faults, rules: SourceRules, source: Source, message: pb.Source) -> Source:
    signature = mapping = None
    if message.HasField("signature"):
        signature = read_signature(faults, f"{PATH}.signature", message.signature)
    if message.HasField("mapping"):
        mapping = read_mapping(faults, f"{PATH}.mapping", message.mapping)
    if source.provider == CUSTOM:
        for field in ("signature", "mapping"):
            if not message.HasField(field):
                faults.required(f"{PATH}.{field}", f"is required for the provider {CUSTOM!r}")
    elif message.HasField("mapping"):
        faults.invalid(f"{PATH}.mapping", f"is the provider's; only {CUSTOM!r} sources bring their own")
    if isinstance(signature, NoScheme) and not rules.allow_unsigned:
        faults.invalid(f"{PATH}.signature.none", "is for a gateway that listens on loopback, which this one does not")
    changed = replace(
        source,
        audience=_read_audience(faults, message) or source.audience,
        signature=signature,
        mapping=mapping,
        keep_rejected=message.keep_rejected,
        labels=read_labels(faults, f"{PATH}.labels", message.labels),
    )
    _check_places(faults, rules, changed)
    return changed


def _check_places(faults: Faults, rules: SourceRules, source: Source) -> None:
    """Notes what the audience and the signature make of a mapping that is sound by itself."""
    mapping, scheme = rules.mapping_of(source), rules.scheme_of(source)
    if mapping is None:
        return
    if isinstance(source.audience, PayloadSubscriber) and mapping.subscriber is None:
        where = "mapping" if source.provider == CUSTOM else f"provider {source.provider}"
        faults.invalid(f"{PATH}.subscriber_in_payload", f"the {where} names no place of a subscriber's id")
    credential = None if scheme is None else credential_header(scheme)
    if credential in mapping.headers:
        faults.invalid(f"{PATH}.mapping", f"{credential} is the source's credential, which becomes part of no event")


def _read_audience(faults: Faults, message: pb.Source) -> Audience | None:
    kind = message.WhichOneof("audience")
    match kind:
        case "subscriber":
            with faults.at(f"{PATH}.subscriber"):
                return SubscriberName(parse_id(message.subscriber))
        case "everyone" | "subscriber_in_payload":
            if getattr(message, kind):
                return Everyone() if kind == "everyone" else PayloadSubscriber()
            faults.invalid(f"{PATH}.{kind}", "is false, which says nothing; say whom the events are for")
        case None:
            faults.required(f"{PATH}.audience", "needs one of subscriber, everyone and subscriber_in_payload")
        case _:
            assert_never(kind)
    return None


def _read_secrets(faults: Faults, rules: SourceRules, source: Source, message: pb.Source) -> tuple[SourceSecret, ...]:
    path, scheme = f"{PATH}.secrets", rules.scheme_of(source)
    if len(message.secrets) > MAXIMUM_SOURCE_SECRETS:
        faults.invalid(path, f"has {len(message.secrets)} secrets; {MAXIMUM_SOURCE_SECRETS} are allowed")
        return ()
    if scheme is not None:
        for index, text in enumerate(message.secrets):
            with faults.at(f"{path}[{index}]"):
                check_source_secret(scheme, text)
    return tuple(map(SourceSecret, message.secrets))


def _fits(scheme: SignatureScheme, secret: SourceSecret) -> bool:
    try:
        check_source_secret(scheme, secret.secret)
    except Invalid:
        return False
    return True


def _known(rules: SourceRules) -> str:
    return f"known are {', '.join(sorted(rules.providers))} and {CUSTOM}"

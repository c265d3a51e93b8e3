"""API keys: messages to what the domain knows, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, TypeVar

from certes.v1 import admin_service_pb2 as service_pb
from certes.v1 import api_key_pb2 as pb
from certes_broker.domain.access import Bindings, Role, read_roles, read_source
from certes_broker.domain.api_keys import ApiKey, KeyId, parse_key_id, parse_key_name
from certes_broker.domain.errors import Invalid, Reason
from certes_broker.domain.names import parse_id
from certes_broker.domain.uris import parse_pattern
from certes_broker.gateway.convert.times import read_time, timestamp
from certes_broker.gateway.faults import Faults, located

T = TypeVar("T")

PATH: Final = "api_key"
LONGEST_TITLE: Final = 200
MOST_ROLES: Final = 64
MOST_TEXTS: Final = 1_000


def read_name(field: str, text: str) -> KeyId:
    """Returns the key that a field names. Raises `Invalid` (FIELD_REQUIRED, MALFORMED_NAME) of that field."""
    if not text:
        raise Invalid.field(Reason.FIELD_REQUIRED, field, "is required")
    try:
        return parse_key_name(text)
    except Invalid as error:
        raise located(error, field) from None


def read_id(faults: Faults, request: service_pb.CreateApiKeyRequest) -> KeyId | None:
    """Returns the id of the key to make, as `api_key_id` and `api_key.name` say it, which must agree; None if neither does."""
    wanted: KeyId | None = None
    if request.api_key_id:
        with faults.at("api_key_id"):
            wanted = parse_key_id(request.api_key_id)
    if request.api_key.name:
        with faults.at(f"{PATH}.name"):
            own = read_name(f"{PATH}.name", request.api_key.name)
            if request.api_key_id and own != request.api_key_id:
                faults.invalid(f"{PATH}.name", f"{request.api_key.name} is not what api_key_id says")
            wanted = own
    return wanted


def new_api_key(faults: Faults, key_id: KeyId, digest: bytes, message: pb.ApiKey) -> ApiKey:
    """Returns the key that a message describes, not yet stored. Faults are noted, values stand in for them."""
    if len(message.title) > LONGEST_TITLE:
        faults.invalid(f"{PATH}.title", f"has {len(message.title)} characters; {LONGEST_TITLE} are allowed")
    expires = read_time(faults, f"{PATH}.expire_time", message.expire_time) if message.HasField("expire_time") else None
    return ApiKey(
        key_id,
        digest,
        _read_roles(faults, message),
        _read_bindings(faults, message),
        message.title,
        expire_time=expires,
    )


def api_key_message(key: ApiKey) -> pb.ApiKey:
    """Returns the message of a key."""
    return pb.ApiKey(
        name=key.name,
        title=key.title,
        roles=sorted(role.value for role in key.roles),
        bindings=_bindings_message(key.bindings),
        create_time=timestamp(key.create_time),
        expire_time=None if key.expire_time is None else timestamp(key.expire_time),
    )


def _read_roles(faults: Faults, message: pb.ApiKey) -> frozenset[Role]:
    if not message.roles:
        faults.required(f"{PATH}.roles", "is required: a key without roles may do nothing")
    elif len(message.roles) > MOST_ROLES:
        faults.invalid(f"{PATH}.roles", f"has {len(message.roles)} entries; {MOST_ROLES} are allowed")
    else:
        with faults.at(f"{PATH}.roles"):
            return read_roles(message.roles)
    return frozenset()


def _read_bindings(faults: Faults, message: pb.ApiKey) -> Bindings:
    bindings = message.bindings
    path = f"{PATH}.bindings"
    return Bindings(
        _read_set(faults, f"{path}.subscribers", bindings.subscribers, parse_id)
        if bindings.HasField("subscribers")
        else None,
        _read_set(faults, f"{path}.sources", bindings.sources, read_source) if bindings.HasField("sources") else None,
        _read_set(faults, f"{path}.types", bindings.types, parse_pattern) if bindings.HasField("types") else None,
    )


def _read_set(faults: Faults, path: str, message: pb.Texts, read: Callable[[str], T]) -> frozenset[T]:
    found: list[T] = []
    if len(message.values) > MOST_TEXTS:
        faults.invalid(path, f"has {len(message.values)} entries; {MOST_TEXTS} are allowed")
        return frozenset()
    for index, text in enumerate(message.values):
        with faults.at(f"{path}.values[{index}]"):
            found.append(read(text))
    return frozenset(found)


def _bindings_message(bindings: Bindings) -> pb.Bindings | None:
    message = pb.Bindings()
    kinds: tuple[tuple[pb.Texts, Iterable[object] | None], ...] = (
        (message.subscribers, bindings.subscribers),
        (message.sources, bindings.sources),
        (message.types, bindings.types),
    )
    for texts, values in kinds:
        if values is not None:
            # Present also if it is empty: that binds to nothing.
            texts.SetInParent()
            texts.values.extend(sorted(map(str, values)))
    return message if message.ListFields() else None

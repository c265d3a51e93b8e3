"""The rpcs of `certes.v1.AdminService` about API keys."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog

from certes.v1 import admin_service_pb2 as pb
from certes_broker.broker.key_store import KeyStore
from certes_broker.domain.access import ROLE_SETS, exceeds
from certes_broker.domain.api_keys import SECRET_BYTES, ApiKey, KeyId, digest_of, spell_key
from certes_broker.domain.errors import NotFound, PermissionDenied, Reason
from certes_broker.gateway.callers import current_caller
from certes_broker.gateway.convert.api_keys import PATH, api_key_message, new_api_key, read_id, read_name
from certes_broker.gateway.convert.lists import read_page_size
from certes_broker.gateway.faults import Faults
from certes_broker.gateway.methods import Call, unary

log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)


def key_calls(keys: KeyStore, make_bytes: Callable[[int], bytes] = secrets.token_bytes) -> Mapping[str, Call]:
    """Returns the calls, by the names of their rpcs. `make_bytes` makes what keys are made of."""
    service = _KeyCalls(keys, make_bytes)
    return {
        "CreateApiKey": unary(pb.CreateApiKeyRequest, service.create),
        "GetApiKey": unary(pb.GetApiKeyRequest, service.get),
        "ListApiKeys": unary(pb.ListApiKeysRequest, service.list),
        "DeleteApiKey": unary(pb.DeleteApiKeyRequest, service.delete),
    }


@dataclass(frozen=True, slots=True)
class _KeyCalls:
    keys: KeyStore
    make_bytes: Callable[[int], bytes]

    async def create(self, request: pb.CreateApiKeyRequest) -> pb.CreateApiKeyResponse:
        faults = Faults()
        if not request.HasField("api_key"):
            faults.required(PATH)
        key_id = read_id(faults, request) or KeyId(self.make_bytes(_ID_BYTES).hex())
        text = spell_key(key_id, self.make_bytes(SECRET_BYTES))
        wanted = new_api_key(faults, key_id, digest_of(text), request.api_key)
        faults.check()
        _check_given(wanted)
        made = await self.keys.create(wanted)
        log.info("api_key_created", key=made.name, by=current_caller().id)
        return pb.CreateApiKeyResponse(api_key=api_key_message(made), key=text)

    async def get(self, request: pb.GetApiKeyRequest) -> pb.GetApiKeyResponse:
        return pb.GetApiKeyResponse(api_key=api_key_message(self.keys.get(read_name("name", request.name))))

    async def list(self, request: pb.ListApiKeysRequest) -> pb.ListApiKeysResponse:
        faults = Faults()
        page_size = read_page_size(faults, request)
        faults.check()
        page = self.keys.list(page_size=page_size, page_token=request.page_token)
        return pb.ListApiKeysResponse(
            api_keys=[api_key_message(key) for key in page.keys], next_page_token=page.next_page_token
        )

    async def delete(self, request: pb.DeleteApiKeyRequest) -> pb.DeleteApiKeyResponse:
        key_id = read_name("name", request.name)
        try:
            await self.keys.delete(key_id)
        except NotFound:
            if not request.allow_missing:
                raise
        else:
            log.info("api_key_deleted", key=f"apiKeys/{key_id}", by=current_caller().id)
        return pb.DeleteApiKeyResponse()


_ID_BYTES = 6


def _check_given(wanted: ApiKey) -> None:
    """Raises `PermissionDenied` if a key may do what whoever makes it may not."""
    giver = current_caller()
    missing = exceeds(wanted.caller, giver)
    if missing:
        raise PermissionDenied(
            Reason.ROLE_MISSING if missing.startswith("the role") else Reason.NOT_BOUND_TO,
            f"{giver.id} cannot give a key {missing}, because it has not itself.",
            hint=f"Leave it out, or have an operator make the key. Sets of roles are {', '.join(ROLE_SETS)}.",
            metadata={"missing": missing},
        )

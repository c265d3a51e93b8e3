"""The rpcs of `certes.v1.AdminService` about default retry policies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from certes.v1 import admin_service_pb2 as pb
from certes_broker.broker.backoff_store import BackoffStore
from certes_broker.domain.errors import NotFound
from certes_broker.gateway.callers import current_caller
from certes_broker.gateway.convert.backoffs import backoff_message, read_target
from certes_broker.gateway.convert.lists import read_page_size
from certes_broker.gateway.convert.retry import read_retry_policy
from certes_broker.gateway.faults import Faults
from certes_broker.gateway.methods import Call, unary

PATH: Final = "backoff"
"""The field of a request that holds the policy."""

log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)


def backoff_calls(backoffs: BackoffStore) -> Mapping[str, Call]:
    """Returns the calls, by the names of their rpcs."""
    service = _BackoffCalls(backoffs)
    return {
        "GetBackoff": unary(pb.GetBackoffRequest, service.get),
        "ListBackoffs": unary(pb.ListBackoffsRequest, service.list),
        "SetBackoff": unary(pb.SetBackoffRequest, service.set),
        "DeleteBackoff": unary(pb.DeleteBackoffRequest, service.delete),
    }


@dataclass(frozen=True, slots=True)
class _BackoffCalls:
    backoffs: BackoffStore

    async def get(self, request: pb.GetBackoffRequest) -> pb.GetBackoffResponse:
        return pb.GetBackoffResponse(backoff=backoff_message(self.backoffs.get(read_target("name", request.name))))

    async def list(self, request: pb.ListBackoffsRequest) -> pb.ListBackoffsResponse:
        faults = Faults()
        page_size = read_page_size(faults, request)
        faults.check()
        page = self.backoffs.list(page_size=page_size, page_token=request.page_token)
        return pb.ListBackoffsResponse(
            backoffs=[backoff_message(default) for default in page.defaults], next_page_token=page.next_page_token
        )

    async def set(self, request: pb.SetBackoffRequest) -> pb.SetBackoffResponse:
        if not request.HasField(PATH):
            raise Faults().missing(PATH)
        faults, given = Faults(), request.backoff
        target = read_target(f"{PATH}.name", given.name)
        if not given.HasField("retry_policy"):
            raise faults.missing(f"{PATH}.retry_policy")
        policy = read_retry_policy(faults, PATH, given.retry_policy)
        faults.check()
        assert policy is not None  # Else there were faults.
        stored = await self.backoffs.set(target, policy, etag=given.etag)
        log.info("backoff_set", backoff=target.name, by=current_caller().id)
        return pb.SetBackoffResponse(backoff=backoff_message(stored))

    async def delete(self, request: pb.DeleteBackoffRequest) -> pb.DeleteBackoffResponse:
        target = read_target("name", request.name)
        try:
            await self.backoffs.delete(target, etag=request.etag)
        except NotFound:
            if not request.allow_missing:
                raise
        else:
            log.info("backoff_deleted", backoff=target.name, by=current_caller().id)
        return pb.DeleteBackoffResponse()

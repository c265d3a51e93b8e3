"""`certes.v1.SourceService`: creates and manages sources, and takes in again what they refused."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import structlog

from certes.v1 import source_pb2
from certes.v1 import source_service_pb2 as pb
from certes_broker.broker.broker import Broker
from certes_broker.broker.rejected_payloads import rejected_name
from certes_broker.domain.errors import Aborted, AlreadyExists, CertesError, Invalid, NotFound, Reason
from certes_broker.domain.signature_schemes import NoScheme, SignatureScheme
from certes_broker.domain.source_secrets import check_source_secret, generate_source_secret
from certes_broker.domain.sources import Provider, Source, SourceSecret
from certes_broker.gateway.convert.lists import read_page_size
from certes_broker.gateway.convert.rejected import (
    read_rejected_name,
    read_rejected_names,
    rejected_message,
    rejected_summary_message,
)
from certes_broker.gateway.convert.sources import (
    PATH,
    SourceRules,
    changed_source,
    new_source,
    read_source_id,
    read_source_name,
    source_message,
)
from certes_broker.gateway.convert.times import Bounds, read_duration
from certes_broker.gateway.faults import Faults, located
from certes_broker.gateway.ingestion import Ingestion
from certes_broker.gateway.limits import DAY
from certes_broker.gateway.methods import Method, methods_of, unary
from certes_broker.gateway.update_masks import SOURCE, mask_paths, merge

SECRET_BYTES: Final = 32

log: structlog.typing.FilteringBoundLogger = structlog.get_logger(__name__)


def random_bytes() -> bytes:
    """Makes what a secret is made of."""
    return secrets.token_bytes(SECRET_BYTES)


def source_methods(
    broker: Broker, ingestion: Ingestion, rules: SourceRules, make_bytes: Callable[[], bytes] = random_bytes
) -> tuple[Method, ...]:
    """Returns the rpcs of `certes.v1.SourceService`."""
    service = _SourceService(broker, ingestion, rules, make_bytes)
    return methods_of(
        pb.DESCRIPTOR.services_by_name["SourceService"],
        {
            "CreateSource": unary(pb.CreateSourceRequest, service.create),
            "GetSource": unary(pb.GetSourceRequest, service.get),
            "ListSources": unary(pb.ListSourcesRequest, service.list),
            "UpdateSource": unary(pb.UpdateSourceRequest, service.update),
            "DeleteSource": unary(pb.DeleteSourceRequest, service.delete),
            "RotateSourceSecret": unary(pb.RotateSourceSecretRequest, service.rotate_secret),
            "ListRejected": unary(pb.ListRejectedRequest, service.list_rejected),
            "GetRejected": unary(pb.GetRejectedRequest, service.get_rejected),
            "Reingest": unary(pb.ReingestRequest, service.reingest),
        },
    )


@dataclass(frozen=True, slots=True)
class _SourceService:
    broker: Broker
    ingestion: Ingestion
    rules: SourceRules
    make_bytes: Callable[[], bytes]

    async def create(self, request: pb.CreateSourceRequest) -> pb.CreateSourceResponse:
        faults = Faults()
        if not request.HasField("source"):
            faults.required("source")
        name = read_source_id(faults, request)
        wanted, secret = self._new(faults, name, request.source)
        created = await self.broker.sources.create(wanted)
        return pb.CreateSourceResponse(source=self._message(created), secret=secret)

    async def get(self, request: pb.GetSourceRequest) -> pb.GetSourceResponse:
        found = self.broker.sources.get(read_source_name("name", request.name))
        return pb.GetSourceResponse(source=self._message(found))

    async def list(self, request: pb.ListSourcesRequest) -> pb.ListSourcesResponse:
        faults = Faults()
        page_size = read_page_size(faults, request)
        faults.check()
        page = self.broker.sources.list(page_size=page_size, page_token=request.page_token)
        messages = [self._message(source) for source in page.sources]
        fitting = _fitting(messages)
        if fitting < len(messages):
            page = self.broker.sources.list(page_size=fitting, page_token=request.page_token)
        return pb.ListSourcesResponse(sources=messages[:fitting], next_page_token=page.next_page_token)

    async def update(self, request: pb.UpdateSourceRequest) -> pb.UpdateSourceResponse:
        if not request.HasField("source"):
            raise Faults().missing("source")
        name = read_source_name(f"{PATH}.name", request.source.name)
        if request.allow_missing and self.broker.sources.find(name) is None:
            return await self._create_missing(name, request)
        return pb.UpdateSourceResponse(source=self._message(await self._change(name, request)))

    async def delete(self, request: pb.DeleteSourceRequest) -> pb.DeleteSourceResponse:
        name = read_source_name("name", request.name)
        try:
            await self.broker.sources.delete(name, etag=request.etag)
        except NotFound:
            if not request.allow_missing:
                raise
        return pb.DeleteSourceResponse()

    async def rotate_secret(self, request: pb.RotateSourceSecretRequest) -> pb.RotateSourceSecretResponse:
        name = read_source_name("name", request.name)
        faults = Faults()
        overlap = DAY
        if request.HasField("overlap"):
            overlap = read_duration(faults, "overlap", request.overlap, _OVERLAP)
        faults.check()
        source = self.broker.sources.changeable(name)
        made = "" if request.secret else self._made_secret(source, "secret")
        scheme = self.rules.scheme_of(source)
        if request.secret and scheme is not None:
            try:
                check_source_secret(scheme, request.secret)
            except Invalid as error:
                raise located(error, "secret") from None
        rotated = await self.broker.sources.rotate(name, request.secret or made, overlap)
        return pb.RotateSourceSecretResponse(source=self._message(rotated), secret=made)

    async def list_rejected(self, request: pb.ListRejectedRequest) -> pb.ListRejectedResponse:
        source = self.broker.sources.get(read_source_name("parent", request.parent))
        faults = Faults()
        page_size = read_page_size(faults, request)
        faults.check()
        page = await self.broker.rejected.list(source.name, page_size=page_size, page_token=request.page_token)
        return pb.ListRejectedResponse(
            rejected=[rejected_summary_message(one) for one in page.rejected], next_page_token=page.next_page_token
        )

    async def get_rejected(self, request: pb.GetRejectedRequest) -> pb.GetRejectedResponse:
        source, number = read_rejected_name("name", request.name)
        self.broker.sources.get(source)
        return pb.GetRejectedResponse(rejected=rejected_message(await self.broker.rejected.get(source, number)))

    async def reingest(self, request: pb.ReingestRequest) -> pb.ReingestResponse:
        name, numbers = read_rejected_names("names", request.names)
        self.broker.sources.get(name)
        results = [await self._again(name, number, vouched=request.trust_unverified) for number in numbers]
        return pb.ReingestResponse(results=results)

    def _new(self, faults: Faults, name: str, message: source_pb2.Source) -> tuple[Source, str]:
        """Returns the source to store, and the secret that was made for it, if one had to be."""
        wanted = new_source(faults, self.rules, name, message)
        faults.check()
        if wanted.secrets or isinstance(self.rules.scheme_of(wanted), NoScheme):
            return wanted, ""
        secret = self._made_secret(wanted, f"{PATH}.secrets")
        return replace(wanted, secrets=(SourceSecret(secret),)), secret

    def _made_secret(self, source: Source, field: str) -> str:
        """Makes a secret for a source; refuses where somebody else chooses it, or where there can be none."""
        scheme: SignatureScheme | None = self.rules.scheme_of(source)
        if scheme is None or isinstance(scheme, NoScheme):
            raise Invalid.field(Reason.FIELD_INVALID, field, "is of no use: nothing is signed at this source")
        if not self.rules.secret_is_ours(source):
            provider = self.rules.providers[source.provider]
            raise Invalid.field(
                Reason.FIELD_REQUIRED, field, f"is required: {provider.title} makes it", hint=_where_to_look(provider)
            )
        return generate_source_secret(scheme, self.make_bytes())

    async def _change(self, name: str, request: pb.UpdateSourceRequest) -> Source:
        given, now = request.source, self.broker.clock.now()
        faults = Faults()
        paths = mask_paths(faults, SOURCE, given, request.update_mask)
        faults.check()

        def change(stored: Source) -> Source:
            faults = Faults()
            merged = merge(paths, given, source_message(stored, now))
            merged.provider = given.provider
            changed = changed_source(faults, self.rules, stored, merged)
            faults.check()
            return changed

        return await self.broker.sources.update(name, change, etag=given.etag)

    async def _create_missing(self, name: str, request: pb.UpdateSourceRequest) -> pb.UpdateSourceResponse:
        if request.source.etag:
            raise Aborted(
                Reason.ETAG_MISMATCH,
                f"sources/{name} is not there, so it has no etag {request.source.etag!r}.",
                hint="Leave the etag out to create it.",
            )
        wanted, secret = self._new(Faults(), name, request.source)
        try:
            created = await self.broker.sources.create(wanted)
        except AlreadyExists:
            # Another caller was a moment faster.
            return pb.UpdateSourceResponse(source=self._message(await self._change(name, request)))
        return pb.UpdateSourceResponse(source=self._message(created), secret=secret)

    async def _again(self, name: str, number: int, *, vouched: bool) -> pb.ReingestResult:
        """Takes one rejected payload in, and says what became of it; whatever is refused leaves the others alone."""
        result = pb.ReingestResult(rejected=rejected_name(name, number))
        try:
            rejected = await self.broker.rejected.get(name, number)
            receipt = await self.ingestion.take_again(
                self.broker.sources.get(name),
                rejected.payload,
                verified=rejected.verified or vouched,
                received=rejected.time,
            )
        except CertesError as error:
            result.reason, result.message = error.reason.value, str(error)
            return result
        result.event, result.duplicate = self.broker.names.name(receipt.position), receipt.duplicate
        try:
            await self.broker.rejected.forget(name, number)
        except CertesError as error:
            # What was taken is durable. Taken in once more it is a duplicate.
            log.warning("rejected_payload_not_forgotten", rejected=result.rejected, error=str(error))
        return result

    def _message(self, source: Source) -> source_pb2.Source:
        return source_message(source, self.broker.clock.now())


_OVERLAP: Final = Bounds(0.0, 30 * DAY)
_PAGE_BYTES: Final = 1 << 20


def _fitting(messages: Sequence[source_pb2.Source]) -> int:
    """Returns how many of the first make a page that any client takes: stock ones refuse 4 MiB, and one can have 3."""
    size = 0
    for count, message in enumerate(messages):
        size += message.ByteSize()
        if count and size > _PAGE_BYTES:
            return count
    return len(messages)


def _where_to_look(provider: Provider) -> str:
    return f"{provider.secret_where} With the command line, --secret - asks for it."

"""`DiscoverSchemas`: pages of what another gateway serves."""

from __future__ import annotations

from typing import Any, Final

from certes.v1 import schema_service_pb2 as pb
from certes_broker.broker.broker import Broker
from certes_broker.broker.discovery import Discovered
from certes_broker.broker.paging import make_token, read_token
from certes_broker.domain.discovery import DiscoveryUri, parse_discovery_uri
from certes_broker.domain.schemas import VersionName
from certes_broker.gateway import overlay
from certes_broker.gateway.convert.lists import read_page_size
from certes_broker.gateway.faults import Faults
from certes_broker.gateway.schema_pages import ANSWER_BYTES

_LIST: Final = "discovered"


async def discover_schemas(broker: Broker, request: pb.DiscoverSchemasRequest) -> Any:
    """Returns the `DiscoverSchemasResponse` to a request."""
    faults = Faults()
    page_size = read_page_size(faults, request)
    uri: DiscoveryUri | None = None
    if not request.uri:
        faults.required("uri", "is required: events://host[:port][/namespace]")
    else:
        with faults.at("uri"):
            uri = parse_discovery_uri(request.uri)
    if request.view not in pb.SchemaView.values():
        faults.invalid("view", f"{request.view} is no SchemaView")
    faults.check()
    assert uri is not None  # Anything else has just been refused.
    with_versions = request.view == pb.SCHEMA_VIEW_FULL
    of = (_LIST, uri.text, with_versions)
    after = read_token(request.page_token, *of)
    # Pages are of one answer where the cache still has it, so only the first one can ask for a new one.
    found = await broker.discovery.find(uri, refresh=request.refresh and not after)
    answer = overlay.DiscoverSchemasResponse()
    answer.fetch_time.FromMicroseconds(found.fetch_time)
    answer.expire_time.FromMicroseconds(found.expire_time)
    last = _fill(answer, found, after, page_size, with_versions=with_versions)
    if last:
        answer.next_page_token = make_token(last, *of)
    return answer


def _fill(answer: Any, found: Discovered, after: str, page_size: int, *, with_versions: bool) -> str:
    """Fills a page with the schemas after one; returns its last event type if more follow, else nothing."""
    told: set[VersionName] = set()
    size, last = 0, ""
    for schema in found.schemas:
        text = schema.type.text
        if text <= after:
            told.add(schema.version)
            continue
        version = found.versions.get(schema.version) if with_versions and schema.version not in told else None
        size += len(schema.body) + len(version or b"")
        if last and (len(answer.schemas) == page_size or size > ANSWER_BYTES):
            return last
        answer.schemas.add().ParseFromString(schema.body)
        if version is not None:
            answer.versions.add().ParseFromString(version)
        told.add(schema.version)
        last = text
    return ""

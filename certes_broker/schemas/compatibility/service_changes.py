"""What changed about one service. Events do not use services; whoever shares a file between both still relies on them."""

from __future__ import annotations

from google.protobuf.descriptor_pb2 import MethodDescriptorProto, MethodOptions, ServiceDescriptorProto

from certes_broker.schemas.compatibility.diff import Diff
from certes_broker.schemas.compatibility.elements import METHOD_IN_SERVICE, Element
from certes_broker.schemas.compatibility.rules import Rule


def compare_service(
    diff: Diff, before: Element[ServiceDescriptorProto], after: Element[ServiceDescriptorProto]
) -> None:
    """Compares a service and its methods."""
    diff.compare_comment(before.name, before, after)
    diff.options.compare(before.name, before.proto.options, after.proto.options)
    new = {method.name: (index, method) for index, method in enumerate(after.proto.method)}
    for index, method in enumerate(before.proto.method):
        element, was = f"{before.name}.{method.name}", _declaration(method)
        place, now = new.pop(method.name, (0, None))
        if now is None:
            diff.findings.add(Rule.METHOD_REMOVED, element, was)
            continue
        diff.options.compare(element, method.options, now.options)
        diff.compare_comment(element, before, after, ((METHOD_IN_SERVICE, index), (METHOD_IN_SERVICE, place)))
        if was != _declaration(now):
            diff.findings.add(Rule.METHOD_CHANGED, element, was, _declaration(now))
    for name, (_, method) in new.items():
        diff.findings.add(Rule.METHOD_ADDED, f"{before.name}.{name}", after=_declaration(method))


def _declaration(method: MethodDescriptorProto) -> str:
    request = f"{'stream ' if method.client_streaming else ''}{method.input_type.removeprefix('.')}"
    response = f"{'stream ' if method.server_streaming else ''}{method.output_type.removeprefix('.')}"
    level = method.options.idempotency_level
    said = f" {{ option idempotency_level = {MethodOptions.IdempotencyLevel.Name(level)}; }}" if level else ";"
    return f"rpc {method.name}({request}) returns ({response}){said}"

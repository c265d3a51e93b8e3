"""What changed about the event types of a version: which there are, their messages, and how they can be selected."""

from __future__ import annotations

from google.protobuf.descriptor_pb2 import DescriptorProto

from certes.v1 import options_pb2
from certes_broker.schemas.compatibility.diff import Diff
from certes_broker.schemas.compatibility.elements import Element
from certes_broker.schemas.compatibility.rules import Rule
from certes_broker.schemas.version_files import VersionFiles


def compare_event_types(diff: Diff, before: VersionFiles, after: VersionFiles) -> None:
    """Compares event types by their names, which are the last segments of their URIs."""
    old, new = dict(before.event_types), dict(after.event_types)
    for name, message in old.items():
        uri, now = f"{after.name.text}/{name}", new.get(name)
        if now is None:
            diff.findings.add(Rule.EVENT_TYPE_REMOVED, uri, f"message {message}")
            continue
        if now != message:
            diff.findings.add(Rule.EVENT_MESSAGE_CHANGED, uri, f"message {message}", f"message {now}")
        _compare_options(diff, uri, diff.before.messages[message], diff.after.messages[now])
    for name, message in new.items():
        if name not in old:
            diff.findings.add(Rule.EVENT_TYPE_ADDED, f"{after.name.text}/{name}", after=f"message {message}")


def _compare_options(diff: Diff, uri: str, before: Element[DescriptorProto], after: Element[DescriptorProto]) -> None:
    old, new = _fields_by_option(before), _fields_by_option(after)
    for option, field in old.items():
        now, was = new.get(option), _declaration(option, field)
        if now is None:
            diff.findings.add(Rule.SUBSCRIPTION_OPTION_REMOVED, uri, was)
        elif now != field:
            diff.findings.add(Rule.SUBSCRIPTION_OPTION_RETARGETED, uri, was, _declaration(option, now))
    for option, field in new.items():
        if option not in old:
            diff.findings.add(Rule.SUBSCRIPTION_OPTION_ADDED, uri, after=_declaration(option, field))


def _fields_by_option(message: Element[DescriptorProto]) -> dict[str, str]:
    declared = message.proto.options.Extensions[options_pb2.event].options
    return {option.name: option.field for option in declared}


def _declaration(option: str, field: str) -> str:
    return f'options {{name: "{option}" field: "{field}"}}'

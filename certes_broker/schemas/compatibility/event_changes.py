"""What changed about the event types of a version: which there are, their messages, and how they can be selected."""

from __future__ import annotations

from collections.abc import Mapping

from certes.v1 import options_pb2
from certes_broker.schemas.compatibility.diff import Diff
from certes_broker.schemas.compatibility.elements import Elements
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
        _compare_options(diff, uri, _fields_by_option(diff.before, message), _fields_by_option(diff.after, now))
    for name, message in new.items():
        if name not in old:
            diff.findings.add(Rule.EVENT_TYPE_ADDED, f"{after.name.text}/{name}", after=f"message {message}")


def _compare_options(diff: Diff, uri: str, old: Mapping[str, str], new: Mapping[str, str]) -> None:
    for option, field in old.items():
        now, was = new.get(option), _declaration(option, field)
        if now is None:
            diff.findings.add(Rule.SUBSCRIPTION_OPTION_REMOVED, uri, was)
        elif now != field:
            diff.findings.add(Rule.SUBSCRIPTION_OPTION_RETARGETED, uri, was, _declaration(option, now))
    for option, field in new.items():
        if option not in old:
            diff.findings.add(Rule.SUBSCRIPTION_OPTION_ADDED, uri, after=_declaration(option, field))


def _fields_by_option(elements: Elements, message: str) -> Mapping[str, str]:
    element = elements.messages.get(message)
    if element is None:
        return {}  # it stands in a file that is left out
    return {option.name: option.field for option in element.proto.options.Extensions[options_pb2.event].options}


def _declaration(option: str, field: str) -> str:
    return f'options {{name: "{option}" field: "{field}"}}'

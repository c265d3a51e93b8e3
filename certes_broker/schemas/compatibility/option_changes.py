"""What changed in the options of an element: its validations, its deprecation, and whatever else stands there.

Rules
-----
* A validation is an option of protovalidate (`buf.validate`) or of protoc-gen-validate (`validate`), known by its number. The
  broker does not work out which of two constraints lets more through: one that is new or different may refuse what was
  valid, and one that is gone cannot.
* What has rules of its own (features, packing, the binding of event types) is judged there and passed over here.
* An option that nobody here knows is reported and breaks nothing: it says something to those who declared it, and nothing
  about bytes or JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from google.protobuf import descriptor_pb2
from google.protobuf.message import Message

from certes.v1 import options_pb2
from certes_broker.schemas.compatibility.findings import Findings
from certes_broker.schemas.compatibility.option_records import records_of
from certes_broker.schemas.compatibility.option_values import OptionValues
from certes_broker.schemas.compatibility.rules import Rule

VALIDATIONS: Final = frozenset((1071, 1159, 1160))
"""`validate.rules` of fields and `validate.required` of oneofs; `buf.validate.field`, `.message`, `.oneof`; `buf.validate.predefined`.

Source: https://github.com/protocolbuffers/protobuf/blob/main/docs/options.md
"""

# `validate.disabled` and `validate.ignored` of messages, which narrow by going.
_WAIVERS: Final = frozenset((("MessageOptions", 1071), ("MessageOptions", 1072)))


class OptionChanges:
    """Compares the options of elements of two versions."""

    def __init__(self, findings: Findings, before: OptionValues, after: OptionValues) -> None:
        self._findings = findings
        self._before = before
        self._after = after

    def compare(self, element: str, before: Message, after: Message) -> None:
        """Compares the options of an element; both are of the same type, and empty where the element has none."""
        if before == after:
            return
        old, new = records_of(before), records_of(after)
        passed_over = _JUDGED_ELSEWHERE.get(before.DESCRIPTOR.name, frozenset())
        for number in sorted((old.keys() | new.keys()) - passed_over):
            was = self._before.read(before, number, old.get(number, b""))
            now = self._after.read(after, number, new.get(number, b""))
            if was.encoding != now.encoding:
                self._findings.add(_rule(before, number, was.text, now.text), element, was.text, now.text)

    def added(self, element: str, options: Message) -> None:
        """Looks for validations on a new field or oneof of a message that was there before."""
        for number, record in sorted(records_of(options).items()):
            if number in VALIDATIONS:
                self._findings.add(Rule.VALIDATION_ADDED, element, after=self._after.read(options, number, record).text)


def _rule(options: Message, number: int, before: str, after: str) -> Rule:
    kind = options.DESCRIPTOR
    if (kind.name, number) in _WAIVERS:
        return Rule.VALIDATION_CHANGED
    if number in VALIDATIONS:
        if not after:
            return Rule.VALIDATION_REMOVED
        return Rule.VALIDATION_CHANGED if before else Rule.VALIDATION_ADDED
    known = kind.fields_by_number.get(number)
    return Rule.DEPRECATION_CHANGED if known is not None and known.name == "deprecated" else Rule.OPTION_CHANGED


def _numbers(options: type[Message], *names: str) -> frozenset[int]:
    return frozenset(options.DESCRIPTOR.fields_by_name[name].number for name in names)


_JUDGED_ELSEWHERE: Final[Mapping[str, frozenset[int]]] = MappingProxyType(
    {
        "FileOptions": _numbers(descriptor_pb2.FileOptions, "features")
        | {options_pb2.SCHEMA_FIELD_NUMBER},  # where the files belong is what names the version
        "MessageOptions": _numbers(descriptor_pb2.MessageOptions, "features", "map_entry", "message_set_wire_format")
        | {options_pb2.EVENT_FIELD_NUMBER},
        "FieldOptions": _numbers(descriptor_pb2.FieldOptions, "features", "packed"),
        "OneofOptions": _numbers(descriptor_pb2.OneofOptions, "features"),
        "EnumOptions": _numbers(descriptor_pb2.EnumOptions, "features"),
        "EnumValueOptions": _numbers(descriptor_pb2.EnumValueOptions, "features"),
        "ServiceOptions": _numbers(descriptor_pb2.ServiceOptions, "features"),
        "MethodOptions": _numbers(descriptor_pb2.MethodOptions, "features", "idempotency_level"),
    }
)

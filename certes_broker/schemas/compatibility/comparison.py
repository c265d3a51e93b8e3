"""Compares a version of schemas with what it is to replace.

Theory of operation
-------------------
Both versions are read into `Elements`: their messages, enums, extensions and services by full name. What only one side has
was added or removed; what both have is compared part by part, each part in a file of its own. Everything that is asked
of a part is asked on its own, so that one edit can fall under several rules, and every change is reported, also those that break
nobody. A rule says what a change means, here nothing does: `rules.toml` is the table.

Descriptors are compared as they came, not linked: a linked descriptor hides what is reserved, and what its file has said
rather than meant. What a file means is worked out in `features.py` and `fields.py`.

The cost grows with the size of both versions, and with nothing else; messages that are equal cost one comparison in C.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, TypeVar

from google.protobuf.descriptor_pb2 import Edition, FieldDescriptorProto, FileDescriptorProto

from certes_broker.domain.schemas import Comparison
from certes_broker.schemas.compatibility.diff import Diff
from certes_broker.schemas.compatibility.elements import Element, Proto, elements_of
from certes_broker.schemas.compatibility.enum_changes import compare_enum
from certes_broker.schemas.compatibility.event_changes import compare_event_types
from certes_broker.schemas.compatibility.features import edition_of
from certes_broker.schemas.compatibility.field_changes import compare_field
from certes_broker.schemas.compatibility.fields import Field
from certes_broker.schemas.compatibility.findings import Findings
from certes_broker.schemas.compatibility.message_changes import compare_message
from certes_broker.schemas.compatibility.option_changes import OptionChanges
from certes_broker.schemas.compatibility.option_values import OptionValues
from certes_broker.schemas.compatibility.rules import Rule
from certes_broker.schemas.compatibility.service_changes import compare_service
from certes_broker.schemas.version_files import VersionFiles


def compare(old: VersionFiles | None, new: VersionFiles, registered_revision: int) -> Comparison:
    """Compares a version with the registered one, of which `registered_revision` is the revision.

    Both must be linked, each with all that it imports, as `schemas.compiling` leaves them. Where none is registered, and
    `registered_revision` is 0, the event types are all that is listed.
    """
    before = VersionFiles(new.name, (), ()) if old is None else old
    findings = Findings()
    options = OptionChanges(findings, OptionValues(before), OptionValues(new))
    diff = Diff(elements_of(before), elements_of(new), findings, options)
    compare_event_types(diff, before, new)
    if old is not None:
        _compare_files(diff)
        _compare_elements(diff, _MESSAGE, diff.before.messages, diff.after.messages)
        _compare_elements(diff, _ENUM, diff.before.enums, diff.after.enums)
        _compare_elements(diff, _EXTENSION, diff.before.extensions, diff.after.extensions)
        _compare_elements(diff, _SERVICE, diff.before.services, diff.after.services)
    return Comparison(new.name, registered_revision, findings.sorted())


def _compare_extension(diff: Diff, before: Element[FieldDescriptorProto], after: Element[FieldDescriptorProto]) -> None:
    diff.compare_comment(before.name, before, after)
    diff.options.compare(before.name, before.proto.options, after.proto.options)
    compare_field(diff.findings, _field(before), _field(after), (diff.before.enums, diff.after.enums))


def _field(extension: Element[FieldDescriptorProto]) -> Field:
    features = extension.features.within(extension.proto.options.features)
    return Field(extension.name, extension.proto, features, entry=None, oneof="")


Key = TypeVar("Key")


class _Kind(NamedTuple):
    """A kind of element: its keyword, the rules for those that came and went, and how two of one name are compared."""

    keyword: str
    added: Rule
    removed: Rule
    compare: Callable[..., None]


_MESSAGE: Final = _Kind("message", Rule.MESSAGE_ADDED, Rule.MESSAGE_REMOVED, compare_message)
_ENUM: Final = _Kind("enum", Rule.ENUM_ADDED, Rule.ENUM_REMOVED, compare_enum)
_EXTENSION: Final = _Kind("extend", Rule.EXTENSION_ADDED, Rule.EXTENSION_REMOVED, _compare_extension)
_SERVICE: Final = _Kind("service", Rule.SERVICE_ADDED, Rule.SERVICE_REMOVED, compare_service)


def _compare_elements(
    diff: Diff, kind: _Kind, old: Mapping[Key, Element[Proto]], new: Mapping[Key, Element[Proto]]
) -> None:
    for key, before in old.items():
        after = new.get(key)
        if after is not None:
            if before.file != after.file and not before.parent:
                diff.findings.add(Rule.ELEMENT_MOVED, before.name, before.file, after.file)
            kind.compare(diff, before, after)
        elif before.parent not in diff.before.messages or before.parent in diff.after.messages:
            # What went with the message around it is said by that.
            diff.findings.add(kind.removed, before.name, _declaration(kind, before))
    for key, after in new.items():
        if key not in old and (after.parent not in diff.after.messages or after.parent in diff.before.messages):
            diff.findings.add(kind.added, after.name, after=_declaration(kind, after))


def _declaration(kind: _Kind, element: Element[Proto]) -> str:
    if isinstance(element.proto, FieldDescriptorProto):
        return f"extend {element.proto.extendee.removeprefix('.')} {{ {_field(element).declaration} }}"
    return f"{kind.keyword} {element.proto.name}"


def _compare_files(diff: Diff) -> None:
    for path, before in diff.before.files.items():
        after = diff.after.files.get(path)
        if after is None:
            continue
        if before.package != after.package:
            diff.findings.add(Rule.PACKAGE_CHANGED, path, f"package {before.package};", f"package {after.package};")
        if edition_of(before) != edition_of(after):
            diff.findings.add(Rule.SYNTAX_CHANGED, path, _syntax(before), _syntax(after))
        diff.options.compare(path, before.options, after.options)


def _syntax(file: FileDescriptorProto) -> str:
    if file.syntax == "editions":
        return f'edition = "{Edition.Name(file.edition).removeprefix("EDITION_")}";'
    return f'syntax = "{file.syntax or "proto2"}";'

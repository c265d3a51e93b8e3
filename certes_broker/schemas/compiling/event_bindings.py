"""What `(certes.v1.schema)` and `(certes.v1.event)` say of one file, with the defaults for what they do not."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto

from certes.v1 import options_pb2
from certes_broker.domain.errors import CertesError, FieldViolation
from certes_broker.domain.schemas import VersionName
from certes_broker.domain.uris import EventType, parse_event_type
from certes_broker.schemas.compiling.event_names import snake_case
from certes_broker.schemas.compiling.request_places import RequestPlaces

WORD: Final = re.compile(r"[a-z0-9_]+")
"""What a name of an event type or of a subscription option is."""
SCHEMA_OPTION: Final = (
    FileDescriptorProto.DESCRIPTOR.fields_by_name["options"].number,
    options_pb2.schema.number,
)
"""The option's path in a file's descriptor."""


@dataclass(frozen=True, slots=True)
class EventBinding:
    """A message that is bound to an event type. `index` is its place among the messages of its file."""

    type: EventType
    file: FileDescriptorProto
    index: int
    message: str
    """Its full name."""

    @property
    def version(self) -> VersionName:
        """The version that it belongs to."""
        return VersionName(self.type.domain, self.type.namespace, self.type.version)

    @property
    def element(self) -> tuple[int, ...]:
        """The option's path in the file's descriptor."""
        return event_option(self.index)


def event_option(index: int) -> tuple[int, ...]:
    """Returns the path of `(certes.v1.event)` in a file's descriptor, by the message's place in the file."""
    messages = FileDescriptorProto.DESCRIPTOR.fields_by_name["message_type"].number
    return (messages, index, DescriptorProto.DESCRIPTOR.fields_by_name["options"].number, options_pb2.event.number)


class FileReader:
    """Reads the bindings of files, and gathers what is wrong with them in `faults`."""

    def __init__(self, own_domain: str, places: RequestPlaces) -> None:
        self._own_domain = own_domain
        self._places = places
        self.faults: list[FieldViolation] = []

    def read(self, file: FileDescriptorProto) -> Iterator[EventBinding]:
        """Yields the bindings of a file, without those that are at fault."""
        for index, message in enumerate(file.message_type):
            for nested in _nested_events(message, message.name):
                problem = f"{nested}: a message within another cannot be an event type; take it out of it"
                self._blame(file, event_option(index)[:2], problem)
        events = [index for index, message in enumerate(file.message_type) if _is_event(message)]
        version = self._version(file) if events else None
        for index in events:
            binding = self._binding(file, index, version)
            if binding is not None:
                yield binding

    def _binding(self, file: FileDescriptorProto, index: int, version: VersionName | None) -> EventBinding | None:
        message = file.message_type[index]
        said = message.options.Extensions[options_pb2.event]
        name = said.name if said.HasField("name") else snake_case(message.name)
        problem = _name_problem(name)
        if problem is not None:
            made = "" if said.HasField("name") else ", made of the message's name; say another in the option"
            self._blame(file, event_option(index), f"{message.name}: event name {name[:_SHOWN]!r}: {problem}{made}")
            return None
        if version is None:
            return None
        try:
            event_type = parse_event_type(f"{version.text}/{name}")
        except CertesError as error:
            self._blame(file, event_option(index), f"{message.name}: {error.metadata['problem']}")
            return None
        return EventBinding(event_type, file, index, f"{file.package}.{message.name}".lstrip("."))

    def _version(self, file: FileDescriptorProto) -> VersionName | None:
        """Returns the version of a file's event types, or None where it is at fault."""
        said = file.options.Extensions[options_pb2.schema]
        domain = said.domain if said.HasField("domain") else self._own_domain
        namespace = said.namespace if said.HasField("namespace") else "_"
        version, whence = said.version, "version"
        if not said.HasField("version"):
            part = _VERSION_PART.fullmatch(file.package.rpartition(".")[2])
            version, whence = (int(part[1]), f"version of package {file.package}") if part else (1, whence)
        problems = [
            ("domain", domain, "a domain has no '/'" if "/" in domain else _uri_problem(f"{domain}/_/1/x")),
            ("namespace", namespace, _uri_problem(f"x.y/{namespace}/1/x")),
            (whence, version, _uri_problem(f"x.y/_/{version}/x")),
        ]
        faults = [f"{what} {value!r:.{_SHOWN}}: {problem}" for what, value, problem in problems if problem is not None]
        for fault in faults:
            self._blame(file, SCHEMA_OPTION, fault)
        return None if faults else VersionName(domain.lower(), namespace, version)

    def _blame(self, file: FileDescriptorProto, element: Sequence[int], problem: str) -> None:
        self.faults.append(self._places.violation(file, element, problem))


_VERSION_PART: Final = re.compile(r"v(0|[1-9][0-9]*)")
_SHOWN: Final = 120


def _is_event(message: DescriptorProto) -> bool:
    return message.options.HasExtension(options_pb2.event)


def _nested_events(message: DescriptorProto, name: str) -> Iterator[str]:
    for nested in message.nested_type:
        inner = f"{name}.{nested.name}"
        if _is_event(nested):
            yield inner
        yield from _nested_events(nested, inner)


def _name_problem(name: str) -> str | None:
    if not WORD.fullmatch(name):
        return "a name is a word of a-z, 0-9 and '_'"
    if name.startswith("_"):
        return "a name that begins with '_' marks the events of the broker itself"
    return None


def _uri_problem(uri: str) -> str | None:
    """Returns what is wrong with an event URI, of which one part is to be judged."""
    try:
        parse_event_type(uri)
    except CertesError as error:
        return error.metadata["problem"]
    return None

"""The event type of a message, which is in its descriptor.

The options `certes.v1.schema` of its file and `certes.v1.event` of itself say it; what they leave out has a default: the name
is the message's in snake_case, the version that of the package or 1, the namespace `_`, the domain the broker's own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pb2 import FileOptions, MessageOptions

from certes.v1.options_pb2 import SchemaBinding
from certes.v1.options_pb2 import event as event_option
from certes.v1.options_pb2 import schema as schema_option
from certes_sdk.errors import invalid
from certes_sdk.uris import parse_event_type

_WORD_BORDER: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_PACKAGE_VERSION: Final = re.compile(r"(?:.*\.)?v([1-9][0-9]{0,9})")
_DEFAULT_NAMESPACE: Final = "_"


@dataclass(frozen=True, slots=True)
class Binding:
    """What a message says of its event type. `domain` is empty where that is the broker's own."""

    domain: str
    rest: str

    def event_type(self, broker_domain: str, message: str) -> str:
        """Returns the event URI. Raises `NOT_AN_EVENT_TYPE` where nobody says the domain, `MALFORMED_URI` where it is none."""
        domain = self.domain or broker_domain
        if not domain:
            raise invalid(
                "NOT_AN_EVENT_TYPE",
                f"{message} leaves its domain to the broker, and this broker does not say it.",
                hint="Give the file the option certes.v1.schema with a domain.",
                message=message,
            )
        return parse_event_type(f"{domain}/{self.rest}")


def read_binding(descriptor: Descriptor) -> Binding:
    """Returns what a message says of its event type. Raises `NOT_AN_EVENT_TYPE` where it says nothing."""
    # Read again from their bytes: a message of another descriptor pool keeps these options as unknown fields.
    options = MessageOptions.FromString(descriptor.GetOptions().SerializeToString())
    if not options.HasExtension(event_option):
        raise invalid(
            "NOT_AN_EVENT_TYPE",
            f"{descriptor.full_name} has no option certes.v1.event, so no event is of its type.",
            hint="Publish a message that has one, or read events as the message that their schema names.",
            message=descriptor.full_name,
        )
    file_options = FileOptions.FromString(descriptor.file.GetOptions().SerializeToString())
    schema = file_options.Extensions[schema_option] if file_options.HasExtension(schema_option) else SchemaBinding()
    name = options.Extensions[event_option].name or snake_case(descriptor.name)
    namespace = schema.namespace or _DEFAULT_NAMESPACE
    version = schema.version if schema.HasField("version") else _version_of(descriptor.file.package)
    return Binding(schema.domain, f"{namespace}/{version}/{name}")


def snake_case(name: str) -> str:
    """Returns the name of an event type that is made of a message's: `MyEvent` is `my_event`."""
    return _WORD_BORDER.sub("_", name).lower()


def _version_of(package: str) -> int:
    found = _PACKAGE_VERSION.fullmatch(package)
    return int(found[1]) if found else 1

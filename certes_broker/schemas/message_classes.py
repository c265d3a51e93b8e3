"""The Python classes of messages that no generated code has."""

from __future__ import annotations

from typing import Any, Final

from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.message import Message


def message_class(descriptor: Descriptor) -> type[Message]:
    """Returns the class of a message, always the same one while anybody has it.

    `GetMessageClass` makes those of all messages within it too, each in a call within the call before, and so fails where some
    three hundred messages lead from one to the next. The runtime makes a class when a message of it is first met, which is
    soon enough.
    """
    known: type[Message] | None = getattr(descriptor, "_concrete_class", None)
    if known is not None:
        return known
    made: type[Message] = _METACLASS(descriptor.name, (Message,), {"DESCRIPTOR": descriptor, "__module__": None})
    return made


_METACLASS: Final[Any] = type(FileDescriptorProto)
"""That of every message class; the runtime has one for each of its implementations and no public name for it."""

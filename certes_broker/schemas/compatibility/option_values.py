"""The values of options as a `.proto` file has them, read with the extensions that the version's own files declare."""

from __future__ import annotations

from functools import cached_property
from io import StringIO
from typing import Any, Final, NamedTuple

from google.protobuf import text_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from certes_broker.schemas.version_files import VersionFiles

_LONGEST: Final = 300
"""Characters of a text. An option can be as long as its file."""
_MOST_SPELLED: Final = 4096
"""Bytes of an encoding. Whatever is longer is not spelled for the few characters of it that would be shown."""


class OptionValue(NamedTuple):
    """The value of an option: equal encodings mean the same, and `text` is for people."""

    encoding: bytes
    text: str


class OptionValues:
    """Reads options of one version. Nothing is built before the first is read, since hardly any comparison reads one."""

    def __init__(self, version: VersionFiles) -> None:
        self._version = version

    def read(self, options: Message, number: int, record: bytes) -> OptionValue:
        """Reads one option; `record` is its encoded field, `options` a message of the type that it stands in.

        An option that no file of the version declares keeps the encoding it came with.
        """
        if not record:
            return OptionValue(b"", "")
        read = self._parsed(options, record)
        fields = [] if read is None else read.ListFields()
        if read is None or not fields:
            return OptionValue(record, f"({number}) = …")
        encoding = read.SerializeToString(deterministic=True)
        return OptionValue(encoding, ", ".join(_spell(*field, whole=len(record) <= _MOST_SPELLED) for field in fields))

    def _parsed(self, options: Message, record: bytes) -> Message | None:
        try:
            # The version's own descriptor of the type, because its extensions extend that one.
            options_type = GetMessageClass(self._pool.FindMessageTypeByName(options.DESCRIPTOR.full_name))
        except KeyError:
            options_type = type(options)
        try:
            return options_type.FromString(record)
        except DecodeError:
            return None

    @cached_property
    def _pool(self) -> DescriptorPool:
        pool = DescriptorPool()
        for file in self._version.files:
            pool.AddSerializedFile(file)
        return pool


def _spell(field: FieldDescriptor, value: Any, *, whole: bool) -> str:
    name = f"({field.full_name})" if field.is_extension else field.name
    if not whole:
        return f"{name} = …"
    spelled = ", ".join(_spell_value(field, one) for one in (value if field.is_repeated else (value,)))
    text = f"{name} = [{spelled}]" if field.is_repeated else f"{name} = {spelled}"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _spell_value(field: FieldDescriptor, value: Any) -> str:
    out = StringIO()
    text_format.PrintFieldValue(field, value, out, as_one_line=True)
    return out.getvalue().strip()

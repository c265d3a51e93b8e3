"""JSON documents into messages, by a table built once per message type.

Theory of operation
-------------------
`json_format` looks every field up, asks its kind and sets it, one by one, in Python. Here that is asked once per message
type: a table says for every key which class a *plain* value has (`str` for a string field) and how to make any other
value plain. A document is cleaned into nested dictionaries, and the message is built of them in one call, in C.

Whatever is not as the table expects is no error yet: the whole document goes to `json_format`, whose verdict and whose
words count. So a document has the same outcome either way, and only the usual forms need to be known here. One outcome
differs on purpose: where an object belongs, `json_format` takes `"abc"` or `[]` for an empty message; here that is
refused, or data would be lost in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum
from typing import Final, NamedTuple, TypeAlias, cast

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, EncodeError, Message
from google.protobuf.message_factory import GetMessageClass

from certes_broker.domain.errors import Invalid, Reason
from certes_broker.schemas.json_values import (
    MAXIMUM_DEPTH,
    Clean,
    NotPlain,
    Plain,
    clean_map_key,
    has_own_form,
    plain_scalar,
    plain_well_known,
)


class JsonTables:
    """Keeps one table for each message type, so that types which share messages share tables.

    Types are told apart by their descriptors, not by name: in several pools there may be several of one name.
    """

    def __init__(self) -> None:
        self._tables: dict[Descriptor, JsonTable] = {}

    def table(self, descriptor: Descriptor) -> JsonTable:
        """Returns the table of a message type; the first call builds it, and those of the messages within it."""
        table = self._tables.get(descriptor)
        if table is None:
            table = self._tables[descriptor] = JsonTable(descriptor)
            table.fill(self)
        return table


class JsonTable:
    """Reads JSON documents (what `json.loads` returns) into messages of one type."""

    __slots__ = ("_children", "_descriptor", "_message_class", "_oneofs", "_rules")

    def __init__(self, descriptor: Descriptor) -> None:
        self._descriptor = descriptor
        self._message_class: Callable[..., Message] = GetMessageClass(descriptor)
        self._rules: dict[str, _Rule] = {}
        self._children: dict[str, _Child] = {}
        # A oneof of one field, such as each `optional` has behind the scenes, cannot be said twice.
        self._oneofs = [
            tuple(field.name for field in oneof.fields) for oneof in descriptor.oneofs if len(oneof.fields) > 1
        ]

    def message(self, document: object) -> Message:
        """Builds the message that a document says. Keys that the message type does not know are ignored.

        Raises `Invalid` / `DATA_MALFORMED` where a value does not fit its field.
        """
        try:
            return self._message_class(**self.clean(document, 0))
        except (NotPlain, TypeError, ValueError, ArithmeticError):
            return self._read_slowly(document)

    def unknown_keys(self, document: object) -> Iterator[str]:
        """Yields the path of each key that the message type does not know, such as `commits[2].signature`."""
        return (path for path, finding in self.inspect(document, "", 1) if finding is Finding.UNKNOWN)

    def clean(self, document: object, depth: int) -> dict[str, object]:
        """Turns an object into keyword arguments: nested ones into dictionaries, well-known types into messages.

        `depth` counts the messages around it. A null becomes None, which a message's constructor takes for absent.
        """
        if document.__class__ is not dict or depth >= MAXIMUM_DEPTH:
            raise NotPlain
        clean: dict[str, object] = {}
        unknown = 0
        rules = self._rules
        for key, value in document.items():
            rule = rules.get(key)
            if rule is None:
                if key[:1] == "[":  # json_format's spelling of an extension
                    raise NotPlain
                unknown += 1
                continue
            name, kind, clean_value, null = rule
            if value.__class__ is kind:
                clean[name] = value
            elif value is None:
                clean[name] = null
            else:
                clean[name] = clean_value(value, depth + 1)
        if len(clean) + unknown != len(document):
            raise NotPlain  # one field under both its names: which one counts is for json_format to say
        for oneof in self._oneofs:
            if sum(1 for name in oneof if clean.get(name) is not None) > 1:
                raise NotPlain
        return clean

    def _read_slowly(self, document: object) -> Message:
        for path, finding in self.inspect(document, "", 1):
            if finding is Finding.NO_OBJECT:
                raise _malformed(self._descriptor, f"{path or 'the document'} must be an object")
        message = self._message_class()
        try:
            json_format.ParseDict(
                cast("dict[str, object]", document),
                message,
                ignore_unknown_fields=True,
                descriptor_pool=self._descriptor.file.pool,
                max_recursion_depth=MAXIMUM_DEPTH,
            )
            # Before protobuf 7 json_format does not count the depth of free-form values; no parser would read them.
            self._message_class().MergeFromString(message.SerializePartialToString())
        except _FAULTS as error:
            raise _malformed(self._descriptor, str(error)) from error
        return message

    def inspect(self, document: object, path: str, depth: int) -> Iterator[tuple[str, Finding]]:
        if not isinstance(document, dict):
            yield path, Finding.NO_OBJECT
            return
        for key, value in document.items():
            here = f"{path}.{key}" if path else key
            if key not in self._rules:
                yield here, Finding.UNKNOWN
            elif key in self._children and value is not None and depth < MAXIMUM_DEPTH:
                child = self._children[key]
                for step, item in child.items(value):
                    yield from child.table.inspect(item, here + step, depth + 1)

    def fill(self, tables: JsonTables) -> None:
        """Builds the rules. For `JsonTables` alone: the table must be known before, as a message may contain itself."""
        fields = self._descriptor.fields
        # A JSON name wins over another field's own name, as in json_format.
        for key, field in [(field.name, field) for field in fields] + [(field.json_name, field) for field in fields]:
            child = _child(field, tables)
            self._children.pop(key, None)
            if child is not None:
                self._children[key] = child
            self._rules[key] = _rule(field, child)


# json_format lets some of Python's own through, such as OverflowError for 1e400 and KeyError for an `Any`.
_FAULTS: Final = (
    *(json_format.Error, DecodeError, EncodeError),
    *(TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError),
)


class Finding(Enum):
    """What can be noted about a place in a document."""

    UNKNOWN = "a key that the message type does not know"
    NO_OBJECT = "something else than an object where a message belongs"


_Rule: TypeAlias = tuple[str, type | None, Clean, object]
"""How the values of one key are taken: the name that the field has in the constructor, and a `Plain` for its value.

Not a named tuple: unpacking one of those takes twice as long, and it is done for every key of every document.
"""


class _Child(NamedTuple):
    """A field that holds messages: their table, and how to find them in a value, each with its step in a path."""

    table: JsonTable
    items: Callable[[object], Iterator[tuple[str, object]]]


def _child(field: FieldDescriptor, tables: JsonTables) -> _Child | None:
    items = _the_item
    if _is_map(field):
        _, field = _entry_fields(field)
        items = _map_items
    elif field.is_repeated:
        items = _list_items
    if field.message_type is None or has_own_form(field.message_type):
        return None
    return _Child(tables.table(field.message_type), items)


def _rule(field: FieldDescriptor, child: _Child | None) -> _Rule:
    if _is_map(field):
        key_field, value_field = _entry_fields(field)
        clean_key = clean_map_key(key_field)
        return (field.name, None, _clean_map(clean_key, _plain(value_field, child)), None)
    plain = _plain(field, child)
    if field.is_repeated:
        return (field.name, None, _clean_list(plain), None)
    return (field.name, *plain)


def _plain(field: FieldDescriptor, child: _Child | None) -> Plain:
    """Returns how one item of the field is taken: the value of a singular one, or an element, or a map's value."""
    if child is not None:
        return Plain(None, child.table.clean)
    return plain_scalar(field) if field.message_type is None else plain_well_known(field.message_type)


def _clean_list(plain: Plain) -> Clean:
    kind, clean_item, _ = plain

    def clean(value: object, depth: int) -> object:
        if value.__class__ is not list:
            raise NotPlain
        return [item if item.__class__ is kind else clean_item(item, depth) for item in value]

    return clean


def _clean_map(clean_key: Callable[[str], object], plain: Plain) -> Clean:
    kind, clean_item, _ = plain

    def clean(value: object, depth: int) -> object:
        if value.__class__ is not dict:
            raise NotPlain
        entries = {
            clean_key(key): item if item.__class__ is kind else clean_item(item, depth) for key, item in value.items()
        }
        if len(entries) != len(value):
            raise NotPlain  # two spellings of one key
        return entries

    return clean


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _entry_fields(field: FieldDescriptor) -> tuple[FieldDescriptor, FieldDescriptor]:
    """Returns the key and the value of a map field."""
    entry = field.message_type
    assert entry is not None
    return entry.fields_by_name["key"], entry.fields_by_name["value"]


def _the_item(value: object) -> Iterator[tuple[str, object]]:
    yield "", value


def _list_items(value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield f"[{index}]", item


def _map_items(value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield f"[{key}]", item


def _malformed(descriptor: Descriptor, problem: str) -> Invalid:
    return Invalid(
        Reason.DATA_MALFORMED,
        f"reading JSON as {descriptor.full_name}: {problem}",
        metadata={"message": descriptor.full_name},
    )

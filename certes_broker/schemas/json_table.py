"""JSON documents into messages, by a table built once per message type.

Theory of operation
-------------------
`json_format` looks every field up, asks its kind and sets it, one by one, in Python. Here that is asked once per message
type: a table says for every key which class a *plain* value has (`str` for a string field) and how to make any other
value plain. And objects of one type mostly have the same keys, in the same order: what is to be done with those is kept as a
*plan*, so that an object costs one look-up, and no more than that its strings, which the message's constructor judges
anyway. A document is cleaned into nested dictionaries so, and the message is built of them in one call, in C.

What a plan does not foresee, and what the constructor does not take, is no error yet: the document is read a second time
by `schemas/json_careful.py`, one value after the other, which knows the rare forms and finds the path of what is wrong. The
outcome is that of `json_format.ParseDict(ignore_unknown_fields=True)`, with one difference on purpose: where an object
belongs, `json_format` takes `"abc"` or `[]` for an empty message; here that is refused, or data would be lost in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Final, NamedTuple, TypeAlias, cast

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto
from google.protobuf.message import Message

from certes_broker.schemas.json_careful import CarefulReading
from certes_broker.schemas.json_enums import EnumNames
from certes_broker.schemas.json_values import (
    FAULTS,
    MAXIMUM_DEPTH,
    Clean,
    NotPlain,
    Plain,
    clean_map_key,
    entry_fields,
    has_own_form,
    is_map,
    plain_scalar,
    plain_well_known,
    refuse,
)
from certes_broker.schemas.message_classes import message_class
from certes_broker.schemas.unknown_keys import Strangers, UnknownKey


class JsonTables:
    """Keeps one table for each message type, so that types which share messages share tables.

    Types are told apart by their descriptors, not by name: in several pools there may be several of one name.
    """

    def __init__(self) -> None:
        self._tables: dict[Descriptor, JsonTable] = {}
        self._unfilled: list[JsonTable] = []
        self.enum_names: Final = EnumNames()
        self.met: Final[list[Strangers]] = []
        """The unknown keys in the document that was read last. Reading is never interrupted, so one list will do."""

    def table(self, descriptor: Descriptor) -> JsonTable:
        """Returns the table of a message type; the first call builds it, and those of the messages within it."""
        table = self._tables.get(descriptor)
        if table is None:
            table = self._tables[descriptor] = JsonTable(descriptor, self)
            self._unfilled.append(table)
            if len(self._unfilled) == 1:
                # Filling one asks for those of the messages within it, which join the list: thousands may lead to one another.
                for unfilled in self._unfilled:
                    unfilled._fill()
                self._unfilled.clear()
        return table

    def unknown_paths(self, table: JsonTable, document: object) -> Sequence[str]:
        """Returns the paths of the first ten unknown keys in the document that was read last, by that table."""
        if not self.met:
            return ()
        # What an `Any` holds has no path, but its keys are known.
        return [path for path, _ in islice(table.unknown_keys(document), _MOST_UNKNOWN)] or self.met[0].keys[
            :_MOST_UNKNOWN
        ]


class JsonTable:
    """Reads JSON documents (what `json.loads` returns) into messages of one type."""

    __slots__ = (
        "_children",
        "_met",
        "_oneof_names",
        "_oneofs",
        "_plans",
        "_reserved",
        "_tables",
        "descriptor",
        "fields",
        "message_class",
        "rules",
    )

    def __init__(self, descriptor: Descriptor, tables: JsonTables) -> None:
        self.descriptor: Final = descriptor
        self.message_class: Final[Callable[..., Message]] = message_class(descriptor)
        self.fields: Final[dict[str, FieldDescriptor]] = {}
        """The fields, by the keys that say them."""
        self.rules: Final[dict[str, Rule]] = {}
        """How the values of these keys are taken."""
        self._children: dict[str, _Child] = {}
        self._plans: dict[tuple[str, ...], _Plan] = {}
        self._reserved: frozenset[str] | None = None
        self._tables = tables
        self._met = tables.met
        # A oneof of one field, such as each `optional` has behind the scenes, cannot be said twice.
        self._oneofs = [
            frozenset(key for field in oneof.fields for key in (field.name, field.json_name))
            for oneof in descriptor.oneofs
            if len(oneof.fields) > 1
        ]
        self._oneof_names = frozenset(oneof.name for oneof in descriptor.oneofs)

    def message(self, document: object) -> Message:
        """Builds the message that a document says. Keys that the message type does not know are left out.

        Raises `Invalid` / `DATA_MALFORMED` where a value does not fit its field, with a violation for its path.
        """
        message = self.quick(document)
        return CarefulReading(self, self._met).message(document) if message is None else message

    def quick(self, document: object) -> Message | None:
        """Builds the message that a document says; None if a careful look is needed, which takes several times as long."""
        met = self._met
        if met:
            met.clear()
        try:
            return self.message_class(**self.clean(document, 0))
        except FAULTS:
            met.clear()
            return None

    def clean(self, document: object, depth: int) -> dict[str, object]:
        """Turns an object into keyword arguments: nested ones into dictionaries, well-known types into messages.

        `depth` counts the messages around it. A null becomes None, which a message's constructor takes for absent.
        """
        if document.__class__ is not dict or depth >= MAXIMUM_DEPTH:
            raise NotPlain
        members = cast("dict[str, object]", document)
        keys = tuple(members)
        plan = self._plans.get(keys) or self._plan(keys)
        if plan is None:
            return self._clean_each(members, depth)
        names, strangers, steps, oneofs = plan
        clean = members.copy() if names is None else dict(zip(names, members.values(), strict=True))
        if strangers is not None:
            del clean[_UNKNOWN]
            if not self._met or self._met[-1] is not strangers:
                self._met.append(strangers)
        for oneof in oneofs:
            if sum(1 for key in oneof if members[key] is not None) > 1:
                raise NotPlain
        depth += 1
        for name, kind, clean_value, null in steps:
            value = clean[name]
            if value.__class__ is not kind:
                clean[name] = null if value is None else clean_value(value, depth)
        return clean

    def _clean_each(self, members: dict[str, object], depth: int) -> dict[str, object]:
        """Does what `clean` does, without a plan."""
        clean: dict[str, object] = {}
        unknown: list[str] = []
        depth += 1
        for key, value in members.items():
            rule = self.rules.get(key)
            if rule is None:
                unknown.append(key)
                continue
            name, kind, clean_value, null = rule
            if value.__class__ is kind:
                clean[name] = value
            else:
                clean[name] = null if value is None else clean_value(value, depth)
        if len(clean) + len(unknown) != len(members) or not self._oneof_names.isdisjoint(members):
            raise NotPlain
        for oneof in self._oneofs:
            if sum(1 for key in oneof & members.keys() if members[key] is not None) > 1:
                raise NotPlain
        if unknown:
            if any(key[:1] == "[" for key in unknown):
                raise NotPlain
            self._met.append(Strangers.of(self.descriptor.full_name, unknown))
        return clean

    def unknown_keys(self, document: object) -> Iterator[tuple[str, UnknownKey]]:
        """Yields the path of each key that the message type neither knows nor reserves, such as `commits[2].signature`.

        With it comes how the key is told apart from others: its path without indices, and the message it stood in.
        """
        return self._unknown(document, "", "", 1)

    @property
    def reserved(self) -> frozenset[str]:
        """The keys that the message type leaves out on purpose, by a `reserved` name: they are no drift."""
        if self._reserved is None:
            proto = DescriptorProto()
            self.descriptor.CopyToProto(proto)
            self._reserved = frozenset(proto.reserved_name)
        return self._reserved

    def child(self, key: str) -> JsonTable | None:
        """Returns the table of the messages that a key holds; None if it holds none, or such that have a form of their own."""
        child = self._children.get(key)
        return child and child.table

    def any_message(self, type_url: str) -> JsonTable | None:
        """Returns the table of the message that an `Any` says it holds; None if that has a JSON form of its own.

        Raises `KeyError` if its pool does not know it.
        """
        descriptor = self.descriptor.file.pool.FindMessageTypeByName(type_url.rpartition("/")[2])
        return None if has_own_form(descriptor) else self._tables.table(descriptor)

    def _plan(self, keys: tuple[str, ...]) -> _Plan | None:
        """Makes the plan for objects with these keys, if there is room for one more. Raises `NotPlain` if they have none."""
        if len(self._plans) >= _MOST_PLANS or sum(map(len, keys)) > _LONGEST_KEYS:
            return None
        fields = self.fields
        known = [key for key in keys if key in fields]
        names = tuple(fields[key].name if key in fields else _UNKNOWN for key in keys)
        if len({*names, _UNKNOWN}) != len(known) + 1:
            raise NotPlain  # a field under both its names
        if not self._oneof_names.isdisjoint(known) or any(key[:1] == "[" for key in keys):
            raise NotPlain  # a JSON name that is that of a oneof, or json_format's spelling of an extension
        unknown = tuple(key for key in keys if key not in fields)
        oneofs = [tuple(key for key in known if key in oneof) for oneof in self._oneofs]
        plan = self._plans[keys] = (
            None if names == keys else names,
            Strangers.of(self.descriptor.full_name, unknown) if unknown else None,
            tuple(self.rules[key] for key in known if self.rules[key][1] is not str),
            tuple(oneof for oneof in oneofs if len(oneof) > 1),
        )
        return plan

    def _unknown(self, document: object, path: str, plain: str, depth: int) -> Iterator[tuple[str, UnknownKey]]:
        if not isinstance(document, dict):
            return
        for key, value in document.items():
            here, plainly = (f"{path}.{key}", f"{plain}.{key}") if path else (key, key)
            child = self._children.get(key)
            if key not in self.fields:
                if key not in self.reserved:
                    yield here, UnknownKey(plainly, self.descriptor.full_name)
            elif child is not None and value is not None and depth < MAXIMUM_DEPTH:
                for step, item in child.items(value):
                    yield from child.table._unknown(item, here + step, plainly, depth + 1)

    def _fill(self) -> None:
        fields = self.descriptor.fields
        # A JSON name wins over another field's own name, as in json_format.
        for key, field in [(field.name, field) for field in fields] + [(field.json_name, field) for field in fields]:
            child = _child(field, self._tables)
            self._children.pop(key, None)
            if child is not None:
                self._children[key] = child
            self.fields[key] = field
            self.rules[key] = self._rule(field, child)

    def _rule(self, field: FieldDescriptor, child: _Child | None) -> Rule:
        if is_map(field):
            key_field, value_field = entry_fields(field)
            plain = self._plain(value_field, child)
            if key_field.type == FieldDescriptor.TYPE_STRING and plain.kind is str:
                return (field.name, dict, refuse, None)
            return (field.name, None, _clean_map(clean_map_key(key_field), plain, value_field), None)
        plain = self._plain(field, child)
        if not field.is_repeated:
            return (field.name, *plain)
        if plain.kind is str:
            return (field.name, list, refuse, None)
        return (field.name, None, _clean_list(plain, field), None)

    def _plain(self, field: FieldDescriptor, child: _Child | None) -> Plain:
        """Returns how one item of a field is taken: the value of a singular one, or an element, or a map's value."""
        if child is not None:
            return Plain(None, child.table.clean)
        if field.message_type is None:
            return plain_scalar(field)
        if field.message_type.full_name == "google.protobuf.Any":
            return Plain(None, partial(self._clean_any, message_class(field.message_type)))
        return plain_well_known(field.message_type)

    def _clean_any(self, any_class: type[Message], value: object, depth: int) -> object:
        if value.__class__ is not dict or depth >= MAXIMUM_DEPTH:
            raise NotPlain
        content = dict(cast("dict[str, object]", value))
        if not content:
            return content
        type_url = cast("str", content.pop("@type"))
        table = self.any_message(type_url)
        if table is None:
            message = any_class()
            json_format.ParseDict(
                cast("dict[str, object]", value),
                message,
                ignore_unknown_fields=True,
                descriptor_pool=self.descriptor.file.pool,
                max_recursion_depth=MAXIMUM_DEPTH - depth,
            )
            return message
        # What it holds is not within the message, as far as nesting is concerned: it is bytes.
        message = table.message_class(**table.clean(content, depth))
        return {"type_url": type_url, "value": message.SerializeToString()}


Rule: TypeAlias = tuple[str, type | None, Clean, object]
"""How the values of one key are taken: the name that the field has in the constructor, and a `Plain` for its value.

Not a named tuple: unpacking one of those takes twice as long, and it is done for every key of every document.
"""

_Plan: TypeAlias = tuple[tuple[str, ...] | None, Strangers | None, tuple[Rule, ...], tuple[tuple[str, ...], ...]]
"""What is done with objects that have certain keys: the names of the fields they say, where they are not those themselves;
which are unknown; the rules that are to be applied; and of which of them only one may have a value."""

_UNKNOWN: Final = ""
"""Stands for the name of the field of an unknown key."""
_MOST_UNKNOWN: Final = 10
_MOST_PLANS: Final = 64
"""Plans of one message type: what comes from machines has few. Objects with other keys are read without one."""
_LONGEST_KEYS: Final = 8_192
"""Characters in the keys of a plan that is kept."""


class _Child(NamedTuple):
    """A field that holds messages: their table, and how to find them in a value, each with its step in a path."""

    table: JsonTable
    items: Callable[[object], Iterator[tuple[str, object]]]


def _child(field: FieldDescriptor, tables: JsonTables) -> _Child | None:
    items = _the_item
    if is_map(field):
        _, field = entry_fields(field)
        items = _map_items
    elif field.is_repeated:
        items = _list_items
    if field.message_type is None or has_own_form(field.message_type):
        return None
    return _Child(tables.table(field.message_type), items)


def _clean_list(plain: Plain, field: FieldDescriptor) -> Clean:
    kind, clean_item, _ = plain
    is_enum = field.enum_type is not None

    def clean(value: object, depth: int) -> object:
        if value.__class__ is not list:
            raise NotPlain
        items = [item if item.__class__ is kind else clean_item(item, depth) for item in cast("list[object]", value)]
        return [item for item in items if item is not None] if is_enum else items

    return clean


def _clean_map(clean_key: Callable[[str], object], plain: Plain, field: FieldDescriptor) -> Clean:
    kind, clean_item, _ = plain
    is_enum = field.enum_type is not None

    def clean(value: object, depth: int) -> object:
        if value.__class__ is not dict:
            raise NotPlain
        items = cast("dict[str, object]", value).items()
        entries = {clean_key(key): item if item.__class__ is kind else clean_item(item, depth) for key, item in items}
        if len(entries) != len(items):
            raise NotPlain  # two spellings of one key
        return {key: item for key, item in entries.items() if item is not None} if is_enum else entries

    return clean


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

"""What a message holds and its schema does not know is found, wherever it is."""

from __future__ import annotations

from itertools import islice

from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from certes_broker.schemas.unknown_fields import UnknownField, unknown_fields
from tests.unit.schemas.every_kind import every_kind

STRAY = b"\x80\x7d\x01"
"""A field 2000 on the wire, which is the integer 1."""
NAME = "every.EveryKind"
EVERY_KIND = GetMessageClass(every_kind())


def with_stray(message: Message) -> bytes:
    return message.SerializeToString() + STRAY


def inner(**fields: object) -> Message:
    """A message with an unknown field, beside what is given."""
    return EVERY_KIND.FromString(with_stray(EVERY_KIND(**fields)))


def found(message: Message) -> list[UnknownField]:
    return list(unknown_fields(message))


def test_a_message_that_is_known_altogether_has_none():
    message = EVERY_KIND(one_string="a", many_int32=[1], by_string_every_kind={"a": EVERY_KIND(one_bool=True)})
    assert found(message) == []


def test_a_field_is_named_by_its_number_and_the_message_that_does_not_know_it():
    assert found(inner()) == [UnknownField("2000", NAME)]


def test_a_number_that_comes_several_times_is_told_once():
    assert found(EVERY_KIND.FromString(STRAY * 3)) == [UnknownField("2000", NAME)]


def test_fields_within_are_found_through_messages_lists_and_maps_without_indices():
    message = EVERY_KIND(
        one_every_kind=inner(),
        many_every_kind=[EVERY_KIND(), inner(), inner()],
        by_string_every_kind={"a": inner(), "b": inner(one_every_kind=inner())},
        choice_every_kind=inner(),
    )
    assert sorted(one.path for one in found(message)) == [
        "by_string_every_kind.2000",
        "by_string_every_kind.one_every_kind.2000",
        "choice_every_kind.2000",
        "many_every_kind.2000",
        "one_every_kind.2000",
    ]


def test_who_wants_few_stops_early():
    message = EVERY_KIND(many_every_kind=[inner(), inner()], one_every_kind=inner())
    assert len(list(islice(unknown_fields(message), 1))) == 1

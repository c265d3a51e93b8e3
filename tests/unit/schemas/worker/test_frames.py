"""What the broker and its workers say to each other arrives as it was said."""

from __future__ import annotations

from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certes_broker.domain import errors
from certes_broker.domain.errors import CertesError, FieldViolation, Reason
from certes_broker.schemas.worker.frames import (
    LENGTH,
    Files,
    Kind,
    Order,
    Report,
    Run,
    Schema,
    order_frame,
    read_order,
    read_report_head,
    report_frame,
)
from certes_broker.schemas.worker.jobs import error_fact, error_of

FACTS = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
BLOBS = st.lists(st.binary(max_size=100), max_size=3).map(tuple)


def sent(order: Order) -> Order:
    stream = BytesIO(b"".join(order_frame(order)))
    (length,) = LENGTH.unpack(stream.read(LENGTH.size))
    read = read_order(stream.read(length), stream.read)
    assert stream.read() == b""
    return read


@given(st.lists(st.binary(max_size=100) | st.text() | st.integers(), max_size=4).map(tuple), st.integers(0, 200_000))
def test_an_order_to_run_a_job_arrives_whole(arguments, length):
    order = Run(len, (*arguments, bytes(length), b"after"))
    assert sent(order) == order


def test_answers_arrive_whole():
    for order in (Schema("t", "m", 3, "f"), Files((b"a", b"", bytes(300_000)))):
        assert sent(order) == order


def test_long_arguments_are_sent_as_they_are():
    body = bytes(1 << 20)
    *_, last = order_frame(Run(len, (body,)))
    assert isinstance(last, memoryview)
    assert last.obj is body


@given(st.sampled_from(Kind), FACTS, BLOBS)
def test_a_report_arrives_whole(kind, fact, blobs):
    stream = BytesIO(b"".join(report_frame(Report(kind, fact, blobs))))
    (length,) = LENGTH.unpack(stream.read(LENGTH.size))
    read_kind, read_fact, sizes = read_report_head(stream.read(length))
    assert Report(read_kind, read_fact, tuple(stream.read(size) for size in sizes)) == Report(kind, fact, blobs)
    assert stream.read() == b""


@given(
    st.binary(max_size=40)
    | st.sampled_from([b"[]", b'["done",1]', b'["no",1,[]]', b'["done",1,[-1]]', b'["done",1,5]'])
)
def test_what_is_no_report_is_told_apart(head):
    with pytest.raises(ValueError):
        read_report_head(head)


@pytest.mark.parametrize(
    "kind", [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, CertesError)]
)
def test_a_refusal_of_any_kind_arrives_whole(kind):
    if kind is CertesError:
        return
    error = kind(
        Reason.INTERNAL, "m", metadata={"a": "b"}, violations=[FieldViolation("f", "d")], hint="h", retry_after=1.5
    )
    read = error_of(error_fact(error))
    assert type(read) is kind
    assert vars(read) == vars(error)

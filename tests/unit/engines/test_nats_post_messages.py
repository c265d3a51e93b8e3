"""What brokers write to each other is read back as it was, and what a newer one writes is not misread."""

from __future__ import annotations

import orjson
import pytest

from certes_broker.domain.errors import CertesError, FieldViolation, Internal, Invalid, NotFound, Reason
from certes_broker.engines.nats.post_messages import (
    Call,
    Kind,
    Notice,
    call_of,
    decode_error,
    decode_notice,
    encode_error,
    frame_headers,
    frame_of,
)
from certes_broker.ports.cluster import MemberId


def facts(error: CertesError) -> tuple[object, ...]:
    said = (error.reason, error.message, error.metadata, error.violations, error.hint, error.retry_after)
    return (type(error), *said)


@pytest.mark.parametrize(
    "error",
    [
        NotFound(Reason.EVENT_NOT_FOUND, "There is none.", metadata={"name": "n"}, hint="Look again.", retry_after=1.5),
        Invalid(Reason.FIELD_INVALID, "Two are.", violations=[FieldViolation("a", "is"), FieldViolation("b", "too")]),
    ],
)
def test_a_refusal_is_read_back_as_it_was(error: CertesError) -> None:
    assert facts(decode_error(encode_error(error))) == facts(error)


@pytest.mark.parametrize(("place", "unheard"), [(0, "Odd"), (1, "UNHEARD_OF")])
def test_a_refusal_of_an_unknown_kind_or_reason_is_internal_and_says_the_same(place: int, unheard: str) -> None:
    written = orjson.loads(encode_error(NotFound(Reason.EVENT_NOT_FOUND, "There is none.")))
    written[place] = unheard
    read = decode_error(orjson.dumps(written))
    assert (type(read), read.reason, read.message) == (Internal, Reason.INTERNAL, "There is none.")


def test_a_request_and_a_frame_are_known_by_their_headers() -> None:
    call = Call("c1", Kind.STREAM, "count", MemberId("m1"))
    assert call_of(call.headers(2, 5)) == (call, 2, 5)
    assert frame_of(frame_headers(7, Kind.MORE)) == (7, Kind.MORE)


@pytest.mark.parametrize("headers", [None, {}, {"Certes-Part": "1"}, {"Certes-Part": "0 1", "Certes-Call": "c"}])
def test_headers_of_nothing_of_ours_are_refused(headers: dict[str, str] | None) -> None:
    with pytest.raises(ValueError, match=r"Certes-|unpack"):
        call_of(headers)
    assert frame_of(headers) == (-1, Kind.BROKEN)


def test_a_notice_is_read_back() -> None:
    notice = Notice(MemberId("m"), {"a": 1}, {"b": 2}, ["c"])
    assert decode_notice(notice.encode()) == notice

"""Documents for the message type with every kind of field: mostly what is usual, now and then what is not."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.unit.schemas.every_kind import FIELDS, NULL

JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(
        ["1", "-1", "1.0", " 1", "1e3", "NaN", "Infinity", "RED", "true", 10**400, "\ud800", "2020-01-01T00:00:00Z"]
    ),
    st.lists(st.none() | st.integers() | st.text(max_size=2), max_size=2),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
)
PLAIN_JSON: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def _integers(lowest: int, highest: int) -> st.SearchStrategy[Any]:
    numbers = st.integers(lowest, highest)
    return numbers | numbers.map(str) | st.integers(0, 1000).map(float)


SIGNED_32, UNSIGNED_32 = _integers(-(2**31), 2**31 - 1), _integers(0, 2**32 - 1)
SIGNED_64, UNSIGNED_64 = _integers(-(2**63), 2**63 - 1), _integers(0, 2**64 - 1)
FLOATS = st.floats(allow_nan=False, width=32) | st.integers(-9, 9) | st.sampled_from(["NaN", "-Infinity", "1.5"])
DOUBLES = st.floats(allow_nan=False) | st.integers(-(2**70), 2**70) | st.sampled_from(["NaN", "-Infinity", "1.5"])
BASE64 = st.sampled_from(["", "aGk=", "aGk", "_-8", "/+8=", "a", "å"])
USUAL: dict[str, st.SearchStrategy[Any]] = {
    "string": st.text(max_size=8),
    "bytes": BASE64,
    "bool": st.booleans(),
    "double": DOUBLES,
    "float": FLOATS,
    **dict.fromkeys(("int32", "sint32", "sfixed32"), SIGNED_32),
    **dict.fromkeys(("int64", "sint64", "sfixed64"), SIGNED_64),
    **dict.fromkeys(("uint32", "fixed32"), UNSIGNED_32),
    **dict.fromkeys(("uint64", "fixed64"), UNSIGNED_64),
    "Color": st.sampled_from(["COLOR_UNSPECIFIED", "RED", "GREEN", 0, 1, 2, 7, "MAUVE"]),
    NULL: st.none() | st.sampled_from(["NULL_VALUE", 0]),
    "google.protobuf.Any": st.sampled_from(
        [{}, {"@type": "type.googleapis.com/google.protobuf.Duration", "value": "1s"}, {"@type": "x/y"}, {"value": 1}]
    ),
    "google.protobuf.Duration": st.sampled_from(["1s", "-0.5s", "1.000000001s", "1"]),
    "google.protobuf.FieldMask": st.sampled_from(["", "a", "a.b,fooBar", "foo_bar"]),
    "google.protobuf.Timestamp": st.sampled_from(["2020-02-03T04:05:06Z", "2020-02-03T04:05:06.7+01:00", "2020-02-03"]),
    "google.protobuf.Struct": st.dictionaries(st.text(max_size=5), PLAIN_JSON, max_size=3),
    "google.protobuf.ListValue": st.lists(PLAIN_JSON, max_size=3),
    "google.protobuf.Value": PLAIN_JSON,
    "google.protobuf.BoolValue": st.booleans(),
    "google.protobuf.BytesValue": BASE64,
    "google.protobuf.DoubleValue": DOUBLES,
    "google.protobuf.FloatValue": FLOATS,
    "google.protobuf.Int32Value": SIGNED_32,
    "google.protobuf.Int64Value": SIGNED_64,
    "google.protobuf.StringValue": st.text(max_size=8),
    "google.protobuf.UInt32Value": UNSIGNED_32,
    "google.protobuf.UInt64Value": UNSIGNED_64,
}
KEYS_AS_TEXT: dict[str, st.SearchStrategy[str]] = {
    "string": st.text(max_size=3),
    "bool": st.sampled_from(["true", "false", "True"]),
    "int32": _integers(-(2**31), 2**31).map(str) | st.sampled_from(["1", "01", "1.0"]),
    "uint64": _integers(0, 2**64).map(str) | st.just("-1"),
}


@st.composite
def documents(draw: st.DrawFn, *, usual_only: bool = False) -> dict[str, Any]:
    """Makes a document; with `usual_only` of nothing but values in a usual form, each under the field's own name."""
    return _document(draw, usual_only=usual_only, deep=True)


def _document(draw: st.DrawFn, *, usual_only: bool, deep: bool) -> dict[str, Any]:
    def value(kind: str) -> Any:
        # One odd value in twenty: a document of many fields should mostly be read.
        if not usual_only and draw(st.integers(0, 19)) == 0:
            return draw(JUNK)
        if kind == "EveryKind":
            return _document(draw, usual_only=usual_only, deep=False) if deep else {}
        return draw(USUAL[kind])

    document: dict[str, Any] = {}
    for _ in range(draw(st.integers(0, 6))):
        name, shape, kind = draw(st.sampled_from(FIELDS))
        key = draw(st.sampled_from([name] if usual_only else [name, _camel(name)]))
        if shape == "one":
            document[key] = value(kind)
        elif shape == "many":
            document[key] = [value(kind) for _ in range(draw(st.integers(0, 2)))]
        else:
            document[key] = {draw(KEYS_AS_TEXT[shape]): value(kind) for _ in range(draw(st.integers(0, 2)))}
    if not usual_only and draw(st.booleans()):
        document[draw(st.sampled_from(["+1", "unknown", "[every.extension]"]))] = draw(JUNK)
    return document


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part[:1].upper() + part[1:] for part in rest)
